//! Texts with places to be filled: a path with what an expression captured, a URL with parts of the request.

use std::fmt::Write as _;

use regex::Regex;

use crate::head::RequestHead;

/// `/$2`: `$1` to `$9` stand for groups of the expression that the path matched.
#[derive(Debug, Clone)]
pub(crate) struct PathTemplate {
    regex: Regex,
    parts: Vec<PathPart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathPart {
    Text(String),
    Group(usize),
}

/// By what they were written as.
impl PartialEq for PathTemplate {
    fn eq(&self, other: &Self) -> bool {
        (self.regex.as_str(), &self.parts) == (other.regex.as_str(), &other.parts)
    }
}

impl Eq for PathTemplate {}

impl PathTemplate {
    /// The `Err` is the number of a group that the expression does not have.
    pub(crate) fn new(regex: Regex, text: &str) -> Result<Self, usize> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let group = rest[at + 1..].chars().next().and_then(|digit| digit.to_digit(10)).filter(|group| *group > 0);
            let Some(group) = group.map(|group| group as usize) else {
                push(&mut parts, &rest[..=at]);
                rest = &rest[at + 1..];
                continue;
            };
            if group >= regex.captures_len() {
                return Err(group);
            }
            push(&mut parts, &rest[..at]);
            parts.push(PathPart::Group(group));
            rest = &rest[at + 2..];
        }
        push(&mut parts, rest);
        Ok(Self { regex, parts })
    }

    /// A path that the expression does not match stays as it is.
    pub(crate) fn fill(&self, path: &str) -> String {
        let Some(captures) = self.regex.captures(path) else { return path.to_owned() };
        let mut out = String::with_capacity(path.len());
        for part in &self.parts {
            out.push_str(match part {
                PathPart::Text(text) => text,
                PathPart::Group(group) => captures.get(*group).map_or("", |found| found.as_str()),
            });
        }
        if !out.starts_with('/') {
            out.insert(0, '/');
        }
        out
    }
}

fn push(parts: &mut Vec<PathPart>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(PathPart::Text(before)) => before.push_str(text),
        _ => parts.push(PathPart::Text(text.to_owned())),
    }
}

/// `https://$host$request_uri`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlTemplate(Vec<UrlPart>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum UrlPart {
    Text(String),
    Scheme,
    Host,
    Path,
    /// Path and query.
    RequestUri,
}

impl UrlTemplate {
    /// The `Err` is a variable that nobody knows.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut pieces = text.split('$');
        parts.extend(pieces.next().map(|text| UrlPart::Text(text.to_owned())));
        for piece in pieces {
            let end = piece.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(piece.len());
            let (name, rest) = piece.split_at(end);
            parts.push(match name {
                "scheme" => UrlPart::Scheme,
                "host" | "http_host" => UrlPart::Host,
                "uri" => UrlPart::Path,
                "request_uri" => UrlPart::RequestUri,
                _ => return Err(format!("${name}")),
            });
            parts.push(UrlPart::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    pub(crate) fn fill(&self, head: &RequestHead<'_>, scheme: &str) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                UrlPart::Text(text) => out.push_str(text),
                UrlPart::Scheme => out.push_str(scheme),
                UrlPart::Host => out.push_str(head.host),
                UrlPart::Path => out.push_str(head.path),
                UrlPart::RequestUri => {
                    out.push_str(head.path);
                    if let Some(query) = head.query {
                        let _ = write!(out, "?{query}");
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_filled_in() {
        for (pattern, template, path, expected) in [
            (r"^(?:/something(/|$)(.*))", "/$2", "/something/new", "/new"),
            (r"^(?:/something(/|$)(.*))", "/$2", "/something", "/"),
            (r"^(?:/something(/|$)(.*))", "/$2", "/something/", "/"),
            (r"^(?:/api/v([0-9]+)/(.*))", "/$2/$1a$", "/api/v12/x/y", "/x/y/12a$"),
            (r"^(?:/(.*))", "$1", "/x", "/x"),
            (r"^(?:/(.*))", "$1", "/", "/"),
            (r"^(?:/app)", "/", "/app/x/y", "/"),
            (r"^(?:/app)", "/$0x", "/app", "/$0x"),
            (r"^(?:/app)", "/other", "/none", "/none"),
        ] {
            let regex = Regex::new(pattern).expect("an expression");
            let found = PathTemplate::new(regex, template).expect("a template").fill(path);
            assert_eq!(found, expected, "{path} with {pattern} -> {template}");
        }
        assert_eq!(PathTemplate::new(Regex::new("(a)").expect("an expression"), "/$2").err(), Some(2));
    }

    #[test]
    fn urls_take_parts_of_the_request() {
        let none: [(&str, &str); 0] = [];
        let head =
            RequestHead { method: "GET", host: "shop", path: "/a", query: Some("q=1"), headers: &none, received: 0 };
        for (text, expected) in [
            ("https://www.example.com", "https://www.example.com"),
            ("https://new.example.com$request_uri", "https://new.example.com/a?q=1"),
            ("$scheme://www.$host$uri", "http://www.shop/a"),
        ] {
            assert_eq!(UrlTemplate::parse(text).expect("a template").fill(&head, "http"), expected);
        }
        assert_eq!(UrlTemplate::parse("https://$arg_to/"), Err("$arg_to".to_owned()));
    }
}
