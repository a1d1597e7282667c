//! The conditions of one HTTPRoute match, ready to be asked.

use regex::{Regex, RegexBuilder};
use sluice_model::gateway::HttpRouteMatch;

use crate::head::RequestHead;

/// A compiled expression may take so many bytes.
const MAX_REGEX_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchError {
    #[error("`{value}` is not a regular expression that this gateway takes: {why}")]
    Regex { value: String, why: String },
    #[error("match type `{0}` is not supported")]
    Kind(String),
}

#[derive(Debug)]
pub struct Match {
    pub(crate) path: PathTest,
    /// For requests that nobody else wants.
    is_last_resort: bool,
    method: Option<String>,
    headers: Vec<(String, ValueTest)>,
    parameters: Vec<(String, ValueTest)>,
}

#[derive(Debug)]
pub(crate) enum PathTest {
    Exact(String),
    /// Whole segments, without a trailing slash; empty matches every path.
    Prefix(String),
    Regex(Regex),
    /// Begins so, in capital letters or small ones; as strong as a prefix of its length.
    Pattern {
        regex: Regex,
        length: usize,
    },
}

#[derive(Debug)]
pub(crate) enum ValueTest {
    Exact(String),
    Regex(Regex),
}

/// What makes a match win over another one with the same path: larger is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Strength {
    /// Somebody asks for such requests.
    is_asked_for: bool,
    method: bool,
    headers: usize,
    parameters: usize,
}

impl Match {
    pub fn compile(from: &HttpRouteMatch) -> Result<Self, MatchError> {
        let path = match &from.path {
            None => PathTest::Prefix(String::new()),
            Some(path) => PathTest::compile(&path.kind, &path.value)?,
        };
        let mut headers: Vec<(String, ValueTest)> = Vec::new();
        for header in &from.headers {
            let name = header.name.to_ascii_lowercase();
            // Of several tests of one header only the first counts, says the Gateway API.
            if !headers.iter().any(|(known, _)| *known == name) {
                headers.push((name, ValueTest::compile(&header.kind, &header.value)?));
            }
        }
        let mut parameters: Vec<(String, ValueTest)> = Vec::new();
        for parameter in &from.query_params {
            if !parameters.iter().any(|(known, _)| *known == parameter.name) {
                parameters.push((parameter.name.clone(), ValueTest::compile(&parameter.kind, &parameter.value)?));
            }
        }
        Ok(Self { path, is_last_resort: false, method: from.method.clone(), headers, parameters })
    }

    /// Whatever else a request has.
    pub(crate) fn of_path(path: PathTest) -> Self {
        Self { path, is_last_resort: false, method: None, headers: Vec::new(), parameters: Vec::new() }
    }

    pub(crate) fn for_want_of_others(self) -> Self {
        Self { is_last_resort: true, ..self }
    }

    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        self.path.holds(head.path) && self.holds_besides_path(head)
    }

    pub(crate) fn holds_besides_path(&self, head: &RequestHead<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
            && self.headers.iter().all(|(name, test)| head.headers.any(name, &mut |value| test.holds(value)))
            && self.parameters.iter().all(|(name, test)| head.parameters(name).next().is_some_and(|v| test.holds(&v)))
    }

    pub(crate) fn strength(&self) -> Strength {
        Strength {
            is_asked_for: !self.is_last_resort,
            method: self.method.is_some(),
            headers: self.headers.len(),
            parameters: self.parameters.len(),
        }
    }
}

impl PathTest {
    fn compile(kind: &str, value: &str) -> Result<Self, MatchError> {
        match kind {
            "Exact" => Ok(Self::Exact(value.to_owned())),
            "PathPrefix" => Ok(Self::prefix(value)),
            "RegularExpression" => regex(value).map(Self::Regex),
            other => Err(MatchError::Kind(other.to_owned())),
        }
    }

    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == path,
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(regex) | Self::Pattern { regex, .. } => regex.is_match(path),
        }
    }

    pub(crate) fn prefix(path: &str) -> Self {
        Self::Prefix(path.trim_end_matches('/').to_owned())
    }

    pub(crate) fn pattern(value: &str) -> Result<Self, MatchError> {
        let regex = build(RegexBuilder::new(&format!("^(?:{value})")).case_insensitive(true), value)?;
        Ok(Self::Pattern { regex, length: value.len() })
    }

    /// The expression that finds groups in a path of which this holds.
    pub(crate) fn expression(&self) -> Result<Regex, MatchError> {
        match self {
            Self::Regex(regex) | Self::Pattern { regex, .. } => Ok(regex.clone()),
            Self::Exact(path) => regex(&regex::escape(path)),
            Self::Prefix(path) => regex(&format!("{}(?:/.*)?", regex::escape(path))),
        }
    }

    /// What it is compared by with others of its kind: the longer one is the narrower one.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path.len(),
            Self::Regex(regex) => regex.as_str().len(),
            Self::Pattern { length, .. } => *length,
        }
    }
}

impl ValueTest {
    /// Found anywhere in the value.
    pub(crate) fn containing(pattern: &str) -> Result<Self, MatchError> {
        build(&mut RegexBuilder::new(pattern), pattern).map(Self::Regex)
    }

    fn compile(kind: &str, value: &str) -> Result<Self, MatchError> {
        match kind {
            "Exact" => Ok(Self::Exact(value.to_owned())),
            "RegularExpression" => regex(value).map(Self::Regex),
            other => Err(MatchError::Kind(other.to_owned())),
        }
    }

    pub(crate) fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Must match the whole value, not a part of it.
fn regex(value: &str) -> Result<Regex, MatchError> {
    build(&mut RegexBuilder::new(&format!("^(?:{value})$")), value)
}

fn build(builder: &mut RegexBuilder, value: &str) -> Result<Regex, MatchError> {
    builder.size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
        let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
        MatchError::Regex { value: value.to_owned(), why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::gateway::{HttpHeaderMatch, HttpPathMatch, HttpQueryParamMatch};

    fn path(kind: &str, value: &str) -> Match {
        let path = HttpPathMatch { kind: kind.into(), value: value.into() };
        Match::compile(&HttpRouteMatch { path: Some(path), ..Default::default() }).expect("compiles")
    }

    fn holds(test: &Match, method: &str, target: &str, headers: &[(&str, &str)]) -> bool {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let headers = headers.to_vec();
        test.holds(&RequestHead { method, host: "shop", path, query, headers: &headers, received: 0 })
    }

    #[test]
    fn prefixes_match_whole_segments() {
        for (kind, value, target, expected) in [
            ("PathPrefix", "/", "/anything/at/all", true),
            ("PathPrefix", "/a", "/a", true),
            ("PathPrefix", "/a", "/a/", true),
            ("PathPrefix", "/a/", "/a", true),
            ("PathPrefix", "/a", "/a/b", true),
            ("PathPrefix", "/a", "/ab", false),
            ("PathPrefix", "/a", "/A", false),
            ("Exact", "/a", "/a", true),
            ("Exact", "/a", "/a/", false),
            ("RegularExpression", "/v[0-9]+/.*", "/v12/x", true),
            ("RegularExpression", "/v[0-9]+", "/v12/x", false),
        ] {
            assert_eq!(holds(&path(kind, value), "GET", target, &[]), expected, "{kind} {value} on {target}");
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let header = |kind: &str, name: &str, value: &str| HttpHeaderMatch {
            kind: kind.into(),
            name: name.into(),
            value: value.into(),
        };
        let test = Match::compile(&HttpRouteMatch {
            method: Some("POST".into()),
            headers: vec![
                header("Exact", "X-Beta", "1"),
                header("Exact", "x-beta", "never asked"),
                header("RegularExpression", "cookie", ".*insider=1.*"),
            ],
            query_params: vec![HttpQueryParamMatch { kind: "Exact".into(), name: "q".into(), value: "a b".into() }],
            ..Default::default()
        })
        .expect("compiles");
        let headers = [("x-beta", "1"), ("cookie", "a=2; insider=1; b=3")];
        assert!(holds(&test, "POST", "/?q=a%20b", &headers));
        assert!(!holds(&test, "GET", "/?q=a%20b", &headers));
        assert!(!holds(&test, "POST", "/?q=a", &headers));
        assert!(!holds(&test, "POST", "/?q=a%20b", &headers[..1]));
    }

    #[test]
    fn a_bad_expression_is_named() {
        let bad = HttpPathMatch { kind: "RegularExpression".into(), value: "(".into() };
        let error = Match::compile(&HttpRouteMatch { path: Some(bad), ..Default::default() }).expect_err("must fail");
        assert!(error.to_string().starts_with("`(` is not a regular expression"), "{error}");
    }
}
