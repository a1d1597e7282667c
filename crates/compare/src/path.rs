//! Places in a JSON document: as rules name them, and as they are counted.

use crate::endpoint::is_id;

/// One step down from the top of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// `$.items[*].price`, `$.list[0]`, `$['odd name']`, `$..id`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Key(String),
    AnyKey,
    Index(usize),
    AnyIndex,
    /// Any number of steps, none included.
    Deep,
}

/// Parts of one pattern.
const MOST_PARTS: usize = 32;
/// Characters of a key, and of a whole path, as they are counted.
const KEY: usize = 64;
const PATH: usize = 256;

impl Pattern {
    /// `None` when the text is no such path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = text.strip_prefix('$')?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("..") {
                parts.push(Part::Deep);
                rest = if after.starts_with('[') { after } else { name(after, &mut parts)? };
            } else if let Some(after) = rest.strip_prefix('.') {
                rest = name(after, &mut parts)?;
            } else {
                rest = bracket(rest.strip_prefix('[')?, &mut parts)?;
            }
        }
        (parts.len() <= MOST_PARTS && parts.iter().filter(|part| **part == Part::Deep).count() <= 2)
            .then_some(Self(parts))
    }

    pub(crate) fn is_at(&self, path: &[Step<'_>]) -> bool {
        leads(&self.0, path)
    }
}

fn name<'t>(text: &'t str, parts: &mut Vec<Part>) -> Option<&'t str> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    match key {
        "" => return None,
        "*" => parts.push(Part::AnyKey),
        key => parts.push(Part::Key(key.to_owned())),
    }
    Some(rest)
}

fn bracket<'t>(text: &'t str, parts: &mut Vec<Part>) -> Option<&'t str> {
    if let Some(quoted) = text.strip_prefix('\'') {
        let (key, rest) = quoted.split_once("']")?;
        parts.push(Part::Key(key.to_owned()));
        return Some(rest);
    }
    let (inside, rest) = text.split_once(']')?;
    parts.push(if inside == "*" { Part::AnyIndex } else { Part::Index(inside.parse().ok()?) });
    Some(rest)
}

fn leads(parts: &[Part], path: &[Step<'_>]) -> bool {
    let Some((part, parts)) = parts.split_first() else { return path.is_empty() };
    if *part == Part::Deep {
        return (0..=path.len()).any(|skipped| leads(parts, &path[skipped..]));
    }
    let Some((step, path)) = path.split_first() else { return false };
    let fits = match (part, step) {
        (Part::Key(key), Step::Key(found)) => key == found,
        (Part::Index(index), Step::Index(found)) => index == found,
        (Part::AnyKey, Step::Key(_)) | (Part::AnyIndex, Step::Index(_)) => true,
        _ => false,
    };
    fits && leads(parts, path)
}

/// As it is counted: without indices, and without keys that are names of single things.
pub(crate) fn folded(path: &[Step<'_>]) -> String {
    let mut text = String::from("$");
    for step in path {
        match step {
            Step::Index(_) => text.push_str("[*]"),
            Step::Key(key) if is_id(key) || key.len() > KEY => text.push_str(".*"),
            Step::Key(key) if key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) => {
                text.push('.');
                text.push_str(key);
            }
            Step::Key(key) => {
                text.push_str("['");
                text.push_str(key);
                text.push_str("']");
            }
        }
        if text.len() > PATH {
            text.push_str("..");
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{Index, Key};

    #[test]
    fn patterns_name_places() {
        let price = [Key("items"), Index(3), Key("price")];
        for (pattern, path, expected) in [
            ("$", &[][..], true),
            ("$.items[*].price", &price, true),
            ("$.items[3].price", &price, true),
            ("$.items[2].price", &price, false),
            ("$.items[*]", &price, false),
            ("$.*[*].*", &price, true),
            ("$..price", &price, true),
            ("$..items", &price, false),
            ("$..[*].price", &price, true),
            ("$['items'][*]['price']", &price, true),
            ("$['odd name'].x", &[Key("odd name"), Key("x")], true),
        ] {
            assert_eq!(Pattern::parse(pattern).expect(pattern).is_at(path), expected, "{pattern}");
        }
        for wrong in ["", "items", "$items", "$.", "$..", "$.a.", "$[a]", "$[-1]", "$['a", "$[*", "$..a..b..c"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Pattern::parse(&format!("${}", ".a".repeat(MOST_PARTS + 1))), None);
    }

    #[test]
    fn counted_paths_are_few() {
        let long = "k".repeat(KEY + 1);
        assert_eq!(
            folded(&[Key("items"), Index(3), Key("odd name"), Key("u1234567"), Key(&long)]),
            "$.items[*]['odd name'].*.*"
        );
        let deep = vec![Key("deeper"); 100];
        assert!(folded(&deep).len() < PATH + KEY + 8);
    }
}
