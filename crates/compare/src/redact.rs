//! What may be seen of values: no secret, and little of everything else.
//!
//! A value is hidden by the name that it goes by, and by what it looks like: long runs of letters and digits are keys, tokens or
//! hashes, whatever they are called. Of text and bytes without a structure nothing is shown at all.

use serde_json::Value;

/// Stands for what may not be seen.
pub(crate) const HIDDEN: &str = "<redacted>";
/// Characters of a value that are shown.
const CLIP: usize = 120;
/// Names with one of these in them are names of secrets, written in any way.
const SECRETS: [&str; 17] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "authorization",
    "authentication",
    "cookie",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "session",
    "signature",
    "cardnumber",
    "iban",
    "cvv",
];
/// A run of so many letters and digits is no word.
const RUN: usize = 32;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Redaction {
    /// What somebody wants hidden besides, plain.
    names: Vec<String>,
}

impl Redaction {
    pub(crate) fn new(names: &[String]) -> Self {
        Self { names: names.iter().map(|name| plain(name)).filter(|name| !name.is_empty()).collect() }
    }

    /// Whether what goes by this name is hidden.
    pub(crate) fn hides(&self, name: &str) -> bool {
        let name = plain(name);
        SECRETS.iter().any(|secret| name.contains(secret)) || self.names.contains(&name)
    }

    /// A value that goes by a name which is no secret's.
    pub(crate) fn json(&self, value: &Value) -> String {
        let mut out = String::new();
        self.write(value, &mut out);
        clipped(&out)
    }

    fn write(&self, value: &Value, out: &mut String) {
        if out.len() > CLIP {
            return;
        }
        match value {
            Value::String(text) => {
                out.push('"');
                out.push_str(&shown(text));
                out.push('"');
            }
            Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate().take(CLIP) {
                    out.push_str(if at > 0 { "," } else { "" });
                    self.write(item, out);
                }
                out.push(']');
            }
            Value::Object(fields) => {
                out.push('{');
                for (at, (key, field)) in fields.iter().enumerate().take(CLIP) {
                    out.push_str(if at > 0 { "," } else { "" });
                    out.push_str(&shown(key));
                    out.push(':');
                    if self.hides(key) { out.push_str(HIDDEN) } else { self.write(field, out) }
                }
                out.push('}');
            }
            Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
            Value::Number(number) => out.push_str(&shown(&number.to_string())),
        }
    }
}

/// Text without secrets by its looks, and without the query of an address.
pub(crate) fn shown(text: &str) -> String {
    // No further than is looked at.
    let text: String = text.chars().take(CLIP + RUN).collect();
    let looks_secret = ["-----BEGIN", "Bearer ", "Basic ", "bearer ", "basic "].iter().any(|mark| text.contains(mark))
        || has_long_run(&text);
    if looks_secret {
        return HIDDEN.to_owned();
    }
    let visible = match text.find('?') {
        Some(query) if text[query..].contains('=') => format!("{}?{HIDDEN}", &text[..query]),
        _ => text,
    };
    clipped(&visible)
}

fn has_long_run(text: &str) -> bool {
    let of_run = |c: char| c.is_ascii_alphanumeric() || "+/_=-.".contains(c);
    text.split(|c| !of_run(c)).any(|run| {
        run.len() >= RUN
            && run.bytes().any(|byte| byte.is_ascii_digit())
            && run.bytes().any(|byte| byte.is_ascii_alphabetic())
    }) || text.split(|c| !of_run(c)).any(|run| run.starts_with("eyJ") && run.contains('.'))
}

fn clipped(text: &str) -> String {
    let mut shown: String = text.chars().take(CLIP).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(CLIP).is_some() {
        shown.push_str("..");
    }
    shown
}

/// In lower case, letters and digits alone.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_secrets_hide_what_they_name() {
        let redaction = Redaction::new(&["E-Mail".to_owned(), String::new()]);
        for hidden in ["Authorization", "set-cookie", "X-Api-Key", "accessToken", "user_password", "email", "E_MAIL"] {
            assert!(redaction.hides(hidden), "{hidden}");
        }
        for shown in ["content-type", "price", "name", "location", ""] {
            assert!(!redaction.hides(shown), "{shown}");
        }
    }

    #[test]
    fn nothing_shows_what_is_secret() {
        let redaction = Redaction::default();
        for (value, expected) in [
            (json!(12.5), "12.5"),
            (json!("a price"), "\"a price\""),
            (json!("eyJhbGciOi.eyJzdWIi.c2ln"), "\"<redacted>\""),
            (json!("Bearer abc"), "\"<redacted>\""),
            (json!("0f8fad5b-d9cb-469f-a165-70867728950e"), "\"<redacted>\""),
            (json!("/reset?code=123"), "\"/reset?<redacted>\""),
            (json!("really?"), "\"really?\""),
            (
                json!({"user": "ann", "passWord": {"hash": "x"}, "n": [1, {"token": 2}]}),
                r#"{n:[1,{token:<redacted>}],passWord:<redacted>,user:"ann"}"#,
            ),
            (json!("line\nbreak"), "\"line break\""),
        ] {
            assert_eq!(redaction.json(&value), expected);
        }
        let long = redaction.json(&json!(vec!["some words"; 1000]));
        assert!(long.len() < CLIP + 8, "{long}");
    }
}
