//! What counts when two answers are compared, read from how a Rollout says it.

use std::collections::BTreeSet;

use sluice_model::amount::{Amount, AmountError, Share};
use sluice_model::rollout::Compare;

use crate::path::{Pattern, Step};
use crate::redact::Redaction;

/// What headers are compared when nobody names any: the few that say what an answer is.
const USUAL_HEADERS: [&str; 2] = ["content-type", "location"];
/// With `*`, all are but those that no two answers share, or that follow from the body.
const NEVER_EQUAL: [&str; 9] = [
    "date",
    "age",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "x-request-id",
    "traceparent",
];
/// Rules of one comparison, and the bytes of each.
const MOST_RULES: usize = 64;
const LONGEST_RULE: usize = 256;

#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    ignored: Vec<Pattern>,
    unordered: Vec<Pattern>,
    ignored_headers: BTreeSet<String>,
    /// `None`: all of them.
    headers: Option<BTreeSet<String>>,
    pub(crate) status_counts: bool,
    pub(crate) body_counts: bool,
    /// A part of the larger number.
    pub(crate) tolerance: f64,
    pub(crate) redaction: Redaction,
}

/// Why terms were refused. The text begins with the field below `compare`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("{field}[{index}]: `{text}` is none of `json:$.PATH`, `header:NAME`, `order:$.PATH`, `status` and `body`")]
    Unknown { field: &'static str, index: usize, text: String },
    #[error("{field}[{index}]: `{path}` is no path; write for example `$.items[*].id`, `$..id` or `$['odd name']`")]
    Path { field: &'static str, index: usize, path: String },
    #[error("{field}[{index}]: `{name}` is no name of a header")]
    Header { field: &'static str, index: usize, name: String },
    #[error("{field}: {count} are too many, {MOST_RULES} are allowed")]
    TooMany { field: &'static str, count: usize },
    #[error("{field}[{index}]: is longer than {LONGEST_RULE} bytes")]
    TooLong { field: &'static str, index: usize },
    #[error("{field}: {source}")]
    Amount { field: &'static str, source: AmountError },
    #[error("{field}: must be more than 0%")]
    Nothing { field: &'static str },
}

impl Rules {
    /// Reads everything of the terms, also what only others need. All mistakes are reported at once.
    pub fn read(terms: &Compare) -> Result<Self, Vec<RuleError>> {
        let Compare { sample, noise, ignore, headers, tolerance, redact, max_mismatch, min_samples: _ } = terms;
        let mut errors = Vec::new();
        let mut share = |field, amount: Option<&Amount>| match amount.map(Amount::share) {
            None => None,
            Some(Ok(share)) => Some(share),
            Some(Err(source)) => {
                errors.push(RuleError::Amount { field, source });
                None
            }
        };
        let sampled = share("sample", Some(sample));
        share("noise", noise.as_ref());
        share("maxMismatch", max_mismatch.as_ref());
        let tolerance = share("tolerance", tolerance.as_ref()).unwrap_or_default();
        if sampled == Some(Share::NONE) {
            errors.push(RuleError::Nothing { field: "sample" });
        }
        for (field, list) in [("ignore", ignore), ("headers", headers), ("redact", redact)] {
            bounded(field, list, &mut errors);
        }
        let mut rules = Self {
            tolerance: f64::from(tolerance.hundredths()) / f64::from(Share::ALL.hundredths()),
            redaction: Redaction::new(redact),
            ..Self::default()
        };
        let ignored = ignore.iter().take(MOST_RULES).enumerate();
        errors.extend(ignored.filter_map(|(index, text)| rules.ignore(index, text).err()));
        if !headers.is_empty() {
            rules.headers = chosen(headers, &mut errors);
        }
        if errors.is_empty() { Ok(rules) } else { Err(errors) }
    }

    fn ignore(&mut self, index: usize, text: &str) -> Result<(), RuleError> {
        let field = "ignore";
        let pattern =
            |path: &str| Pattern::parse(path).ok_or_else(|| RuleError::Path { field, index, path: path.to_owned() });
        match text.split_once(':') {
            None if text == "status" => self.status_counts = false,
            None if text == "body" => self.body_counts = false,
            Some(("json", path)) => self.ignored.push(pattern(path)?),
            Some(("order", path)) => self.unordered.push(pattern(path)?),
            Some(("header", name)) => {
                self.ignored_headers.insert(header(field, index, name)?);
            }
            _ => return Err(RuleError::Unknown { field, index, text: text.to_owned() }),
        }
        Ok(())
    }

    pub(crate) fn ignores(&self, path: &[Step<'_>]) -> bool {
        self.ignored.iter().any(|pattern| pattern.is_at(path))
    }

    pub(crate) fn is_unordered(&self, path: &[Step<'_>]) -> bool {
        self.unordered.iter().any(|pattern| pattern.is_at(path))
    }

    /// Whether a header of this name (in lower case) is compared.
    pub(crate) fn compares(&self, name: &str) -> bool {
        let chosen = match &self.headers {
            Some(chosen) => chosen.contains(name),
            None => !NEVER_EQUAL.contains(&name),
        };
        chosen && !self.ignored_headers.contains(name)
    }
}

impl Default for Rules {
    /// What counts when nobody says anything: status, body, and the usual headers.
    fn default() -> Self {
        Self {
            ignored: Vec::new(),
            unordered: Vec::new(),
            ignored_headers: BTreeSet::new(),
            headers: Some(USUAL_HEADERS.map(str::to_owned).into()),
            status_counts: true,
            body_counts: true,
            tolerance: 0.0,
            redaction: Redaction::default(),
        }
    }
}

fn bounded(field: &'static str, list: &[String], errors: &mut Vec<RuleError>) {
    if list.len() > MOST_RULES {
        errors.push(RuleError::TooMany { field, count: list.len() });
    }
    let long = list.iter().enumerate().find(|(_, text)| text.len() > LONGEST_RULE);
    errors.extend(long.map(|(index, _)| RuleError::TooLong { field, index }));
}

/// `None`: all of them.
fn chosen(headers: &[String], errors: &mut Vec<RuleError>) -> Option<BTreeSet<String>> {
    if headers.iter().any(|name| name == "*") {
        return None;
    }
    let mut chosen = BTreeSet::new();
    for (index, name) in headers.iter().take(MOST_RULES).enumerate() {
        match header("headers", index, name) {
            Ok(name) => drop(chosen.insert(name)),
            Err(error) => errors.push(error),
        }
    }
    Some(chosen)
}

fn header(field: &'static str, index: usize, name: &str) -> Result<String, RuleError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(RuleError::Header { field, index, name: name.to_owned() });
    }
    Ok(name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(mut terms: Value) -> Result<Rules, String> {
        if terms.get("sample").is_none() {
            terms["sample"] = json!("10%");
        }
        let terms = serde_json::from_value(terms).expect("terms");
        Rules::read(&terms).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn mistakes_name_their_field() {
        for (terms, expected) in [
            (json!({"sample": "0%"}), "sample: must be more than 0%"),
            (json!({"sample": "a lot"}), "sample: `a lot` is no percentage; write for example `25%` or `0.5%`"),
            (json!({"noise": "101%"}), "noise: `101%` is more than 100%"),
            (json!({"maxMismatch": "0.001%"}), "maxMismatch: `0.001%` is finer than 0.01%"),
            (json!({"tolerance": 3}), "tolerance: `3` is no percentage; write for example `25%` or `0.5%`"),
            (
                json!({"ignore": ["status", "$.id", "cookie:a"]}),
                "ignore[1]: `$.id` is none of `json:$.PATH`, `header:NAME`, `order:$.PATH`, `status` and `body`; \
                 ignore[2]: `cookie:a` is none of `json:$.PATH`, `header:NAME`, `order:$.PATH`, `status` and `body`",
            ),
            (
                json!({"ignore": ["json:id"]}),
                "ignore[0]: `id` is no path; write for example `$.items[*].id`, `$..id` or `$['odd name']`",
            ),
            (json!({"ignore": ["header:a b"]}), "ignore[0]: `a b` is no name of a header"),
            (json!({"headers": ["etag", ""]}), "headers[1]: `` is no name of a header"),
            (json!({"redact": vec!["x"; 65]}), "redact: 65 are too many, 64 are allowed"),
            (json!({"redact": ["x".repeat(257)]}), "redact[0]: is longer than 256 bytes"),
        ] {
            assert_eq!(read(terms.clone()).expect_err("a mistake"), expected, "{terms}");
        }
    }

    #[test]
    fn headers_count_where_somebody_chose_them() {
        for (terms, counted, not) in [
            (json!({}), vec!["content-type", "location"], vec!["etag", "date"]),
            (json!({"headers": ["ETag"]}), vec!["etag"], vec!["content-type"]),
            (json!({"headers": ["*"]}), vec!["etag", "x-any"], vec!["date", "content-length"]),
            (json!({"headers": ["*"], "ignore": ["header:ETag"]}), vec!["x-any"], vec!["etag"]),
        ] {
            let rules = read(terms.clone()).expect("rules");
            assert!(counted.iter().all(|name| rules.compares(name)), "{terms}");
            assert!(!not.iter().any(|name| rules.compares(name)), "{terms}");
        }
    }
}
