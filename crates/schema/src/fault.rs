//! What is wrong with a field, in the words of a real API server.
//!
//! A [`Fault`] becomes one cause of a 422 answer; [`summary`] joins several into the message of that answer.

use serde_json::Value;

/// One fault of validation: becomes one entry of `Status.details.causes`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// `spec.template.spec.containers[0].image`; empty for the whole object.
    pub path: String,
    pub kind: FaultKind,
    /// The value found, where the message prints it.
    pub value: Option<Value>,
    pub detail: String,
}

/// The reasons of causes; [`FaultKind::reason`] gives the published spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FaultKind {
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    /// How a message begins.
    pub fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }

    /// Whether messages of this kind show the value.
    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::Internal)
    }
}

impl Fault {
    pub fn new(path: impl Into<String>, kind: FaultKind, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), kind, value, detail: detail.into() }
    }

    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(path, FaultKind::Required, None, detail)
    }

    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(path, FaultKind::Forbidden, None, detail)
    }

    pub fn invalid(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, FaultKind::Invalid, Some(value.into()), detail)
    }

    pub fn duplicate(path: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::new(path, FaultKind::Duplicate, Some(value.into()), "")
    }

    pub fn not_found(path: impl Into<String>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(path, FaultKind::NotFound, Some(value.into()), detail)
    }

    /// A value outside a closed set; `supported` is printed in the order given.
    pub fn unsupported(path: impl Into<String>, value: impl Into<Value>, supported: &[&str]) -> Self {
        Self::new(path, FaultKind::NotSupported, Some(value.into()), supported_values(supported))
    }

    pub fn too_long(path: impl Into<String>, most_bytes: usize) -> Self {
        Self::new(path, FaultKind::TooLong, None, format!("may not be more than {most_bytes} bytes"))
    }

    /// A fault whose value is printed as `shown`: values that the real server prints with the names of its own types.
    pub fn shown(path: impl Into<String>, kind: FaultKind, shown: &str, detail: &str) -> Self {
        let detail = if detail.is_empty() { shown.to_owned() } else { format!("{shown}: {detail}") };
        Self::new(path, kind, None, detail)
    }

    /// The message of one cause: `Invalid value: "x": detail`.
    pub fn message(&self) -> String {
        let mut text = self.kind.title().to_owned();
        if let Some(value) = self.value.as_ref().filter(|_| self.kind.shows_value()) {
            text.push_str(": ");
            text.push_str(&print(value));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// The path as causes carry it: the real server prints the lack of one like this.
    pub fn field(&self) -> &str {
        if self.path.is_empty() { "<nil>" } else { &self.path }
    }

    /// `path: message`, as the message of the whole answer has it.
    pub fn line(&self) -> String {
        format!("{}: {}", self.field(), self.message())
    }
}

/// All faults in one line: in brackets if there are several, each only once.
pub fn summary(faults: &[Fault]) -> String {
    let mut lines: Vec<String> = Vec::with_capacity(faults.len());
    for fault in faults {
        let line = fault.line();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    match lines.as_slice() {
        [line] => line.clone(),
        lines => format!("[{}]", lines.join(", ")),
    }
}

/// `supported values: "a", "b"`
pub(crate) fn supported_values(supported: &[&str]) -> String {
    let quoted: Vec<String> = supported.iter().map(|value| quote(value)).collect();
    format!("supported values: {}", quoted.join(", "))
}

/// A value as messages show it: strings quoted as Go does, everything else as Go's JSON.
pub(crate) fn print(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(_) | Value::Object(_) => go_json(value),
        scalar => scalar.to_string(),
    }
}

/// JSON as Go writes it: with `<`, `>` and `&` escaped.
pub(crate) fn go_json(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

/// A string in Go's `%q` form.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c if !is_printable(c) => match c as u32 {
                code if code < 0x1_0000 => quoted.push_str(&format!("\\u{code:04x}")),
                code => quoted.push_str(&format!("\\U{code:08x}")),
            },
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether Go prints a character as it is: no controls, and no space but the plain one.
fn is_printable(c: char) -> bool {
    c == ' '
        || !(c.is_control()
            || c.is_whitespace()
            || matches!(c as u32, 0xad | 0x200b..=0x200f | 0xfeff | 0xe000..=0xf8ff))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(fault: &Fault, message: &str) {
        assert_eq!(fault.message(), message);
    }

    #[test]
    fn messages_read_like_the_real_ones() {
        check(&Fault::required("a", ""), "Required value");
        check(&Fault::required("a", "must be there"), "Required value: must be there");
        check(&Fault::forbidden("a", "not now"), "Forbidden: not now");
        check(&Fault::invalid("a", "x", "is wrong"), "Invalid value: \"x\": is wrong");
        check(&Fault::invalid("a", -1, "is wrong"), "Invalid value: -1: is wrong");
        check(&Fault::invalid("a", Value::Null, "is wrong"), "Invalid value: null: is wrong");
        check(&Fault::invalid("a", json!({"a": "<b>"}), "x"), "Invalid value: {\"a\":\"\\u003cb\\u003e\"}: x");
        check(&Fault::duplicate("a", "x"), "Duplicate value: \"x\"");
        check(&Fault::not_found("a", "x", ""), "Not found: \"x\"");
        check(&Fault::unsupported("a", "x", &["y", "z"]), "Unsupported value: \"x\": supported values: \"y\", \"z\"");
        check(&Fault::too_long("a", 63), "Too long: may not be more than 63 bytes");
        check(&Fault::shown("a", FaultKind::Invalid, "{\"Type\":\"\"}", "x"), "Invalid value: {\"Type\":\"\"}: x");
    }

    #[test]
    fn strings_are_quoted_as_go_does() {
        assert_eq!(quote("a\0b"), r#""a\x00b""#);
        assert_eq!(quote("a\n\"b\\"), r#""a\n\"b\\""#);
        assert_eq!(quote("\u{a0}ü"), r#""\u00a0ü""#);
    }

    #[test]
    fn a_summary_names_each_fault_once() {
        let one = Fault::required("a", "");
        let two = Fault::forbidden("", "x");
        assert_eq!(summary(std::slice::from_ref(&one)), "a: Required value");
        assert_eq!(summary(&[one.clone(), two, one]), "[a: Required value, <nil>: Forbidden: x]");
    }
}
