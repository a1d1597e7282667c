//! What makes requests belong together, so that all of them get the same version.

use std::fmt;
use std::str::FromStr;

/// Names may have so many bytes.
const MAX_NAME: usize = 256;

/// Where a request says whose it is: `header:x-user-id`, `cookie:visitor`, `claim:sub`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Of a header, its name in lower case.
    Header(String),
    /// Of a cookie, which the gateway sets where there is none.
    Cookie(String),
    /// Of the payload of a JSON Web Token, sent as `Authorization: Bearer`.
    Claim(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("`{text}` is neither `header:NAME`, `cookie:NAME` nor `claim:NAME`")]
    Kind { text: String },
    #[error("`{name}` is no name of a {kind}")]
    Name { kind: &'static str, name: String },
}

impl FromStr for Unit {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let unknown = || UnitError::Kind { text: text.to_owned() };
        let (kind, name) = text.split_once(':').ok_or_else(unknown)?;
        let named = |kind, is_name: fn(&str) -> bool| {
            let fits = !name.is_empty() && name.len() <= MAX_NAME && is_name(name);
            fits.then(|| name.to_owned()).ok_or_else(|| UnitError::Name { kind, name: name.to_owned() })
        };
        match kind {
            "header" => named("header", is_token).map(|name| Self::Header(name.to_ascii_lowercase())),
            "cookie" => named("cookie", is_token).map(Self::Cookie),
            "claim" => named("claim", is_printable).map(Self::Claim),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Header(name) => ("header", name),
            Self::Cookie(name) => ("cookie", name),
            Self::Claim(name) => ("claim", name),
        };
        write!(f, "{kind}:{name}")
    }
}

/// A `token` of HTTP.
fn is_token(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_printable(name: &str) -> bool {
    !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_they_are_written() {
        for (text, read) in [
            ("header:X-User-Id", Ok("header:x-user-id")),
            ("cookie:Visitor", Ok("cookie:Visitor")),
            ("claim:https://example.com/id", Ok("claim:https://example.com/id")),
            ("x-user-id", Err("`x-user-id` is neither `header:NAME`, `cookie:NAME` nor `claim:NAME`")),
            ("query:id", Err("`query:id` is neither `header:NAME`, `cookie:NAME` nor `claim:NAME`")),
            ("header:", Err("`` is no name of a header")),
            ("header:a b", Err("`a b` is no name of a header")),
            ("cookie:a=b", Err("`a=b` is no name of a cookie")),
            ("claim:\n", Err("`\n` is no name of a claim")),
        ] {
            let found = text.parse::<Unit>().map(|unit| unit.to_string()).map_err(|error| error.to_string());
            assert_eq!(found, read.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
