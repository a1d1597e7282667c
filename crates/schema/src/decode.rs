//! Bodies become values: from JSON, YAML or protobuf, checked against the types, in the words of a real API server.
//!
//! [`object`] does all of it for one body. What came about in another way (a patch applied) goes through [`typed`], and
//! whatever is about to be stored or shown through [`complete`].

mod base64;
mod complete;
mod envelope;
mod error;
mod json;
mod node;
#[cfg(test)]
mod tests;
mod time;
mod typed;
mod yaml;

use serde_json::Value;

pub(crate) use base64::canonical as canonical_base64;
pub use complete::{Empty, complete, complete_as, complete_with};
pub use envelope::Expected;
pub use error::DecodeError;
pub(crate) use time::print_duration;

use crate::Catalog;
use crate::kinds::Kind;
use crate::protobuf;
use node::Node;
use typed::Reader;

/// Deeper nesting than this is refused, in every format.
pub const MAX_DEPTH: usize = 200;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// A body as a value of its type.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub object: Value,
    /// Unknown and duplicate fields: warnings, or with [`strict_text`] a refusal.
    pub notices: Vec<String>,
}

/// Reads the body of a request that should be `expected`: a kind, or what a subresource takes.
pub fn object(expected: &Expected<'_>, format: Format, body: &[u8]) -> Result<Decoded, DecodeError> {
    let unrecognized = |text: String| DecodeError::unrecognized(expected.kind, body, text);
    if format == Format::Protobuf {
        return from_protobuf(expected, body);
    }
    let mut notices = Vec::new();
    let node = match format {
        Format::Yaml => yaml::parse(body, &mut notices).map_err(|e| unrecognized(format!("yaml: {e}")))?,
        _ => {
            json::parse(body).map_err(|e| unrecognized(format!("couldn't get version/kind; json parse error: {e}")))?
        }
    };
    let node = if matches!(node, Node::Null) { Node::Object(Vec::new()) } else { node };
    let Node::Object(fields) = &node else { return Err(unrecognized(envelope::not_an_object(&node))) };
    let given = envelope::given(fields).map_err(unrecognized)?;
    if expected.custom && given.kind.is_empty() {
        let text = String::from_utf8_lossy(body);
        return Err(unrecognized(format!("Object 'Kind' is missing in '{text}'")));
    }
    let reader = Reader::new(&mut notices);
    let object = envelope::read(expected, &given, node, reader)?;
    Ok(Decoded { object, notices })
}

fn from_protobuf(expected: &Expected<'_>, body: &[u8]) -> Result<Decoded, DecodeError> {
    let unrecognized = |text: String| DecodeError::unrecognized(expected.kind, body, text);
    let unknown = protobuf::envelope(body).map_err(|e| unrecognized(e.to_string()))?;
    let given = envelope::parse(&unknown.api_version, &unknown.kind).map_err(unrecognized)?;
    let ty = envelope::target(expected, &given)?;
    let object = protobuf::decode(ty, unknown.raw).map_err(|e| given.unhandled(expected, e.to_string()))?;
    let mut notices = Vec::new();
    let object = envelope::read(expected, &given, Node::from(object), Reader::new(&mut notices))?;
    Ok(Decoded { object, notices })
}

/// Reads JSON or YAML without a type: patches, and the bodies of server-side apply. Duplicate fields are noticed.
pub fn untyped(format: Format, body: &[u8]) -> Result<Decoded, DecodeError> {
    let mut notices = Vec::new();
    let node = match format {
        Format::Yaml => yaml::parse(body, &mut notices).map_err(|e| DecodeError::plain(format!("yaml: {e}")))?,
        _ => json::parse(body).map_err(DecodeError::plain)?,
    };
    let object = Reader::new(&mut notices).free(node);
    Ok(Decoded { object, notices })
}

/// Checks a value against the type of a kind, as the real server does when it reads it: wrong types are an error, unknown
/// fields are dropped and noticed, nulls vanish, quantities and times become canonical. A value that calls itself
/// something else is an error too.
pub fn typed(kind: &Kind, object: &mut Value) -> Result<Vec<String>, DecodeError> {
    let mut notices = Vec::new();
    let expected = Expected::from(kind);
    let node = Node::from(object.take());
    let given = match &node {
        Node::Object(fields) if !expected.custom => envelope::given(fields).map_err(DecodeError::plain)?,
        _ => envelope::Given::default(),
    };
    let read = envelope::read(&expected, &given, node, Reader::new(&mut notices));
    *object = read.map_err(|error| DecodeError::plain(error.cause()))?;
    Ok(notices)
}

/// As [`typed`], for bodies that are no kind: `Scale`, `Eviction`, `DeleteOptions`.
pub fn typed_as(expected: &Expected<'_>, object: &mut Value) -> Result<Vec<String>, DecodeError> {
    let mut notices = Vec::new();
    *object =
        typed::read(expected, Node::from(object.take()), Reader::new(&mut notices)).map_err(DecodeError::plain)?;
    Ok(notices)
}

/// The refusal that strict field validation makes of notices; follows the same prefix as other decoding errors.
pub fn strict_text(notices: &[String]) -> String {
    let (lines, fields): (Vec<&String>, Vec<&String>) = notices.iter().partition(|n| n.starts_with("line "));
    let mut parts: Vec<String> = Vec::new();
    if !lines.is_empty() {
        let lines: Vec<&str> = lines.into_iter().map(String::as_str).collect();
        parts.push(format!("yaml: unmarshal errors:\n  {}", lines.join("\n  ")));
    }
    parts.extend(fields.into_iter().cloned());
    format!("strict decoding error: {}", parts.join(", "))
}

/// The refusal of a whole body by strict field validation.
pub fn strict_refusal(expected: &Expected<'_>, notices: &[String]) -> DecodeError {
    DecodeError::Unhandled {
        kind: expected.kind.to_owned(),
        version: expected.version.to_owned(),
        wanted: expected.kind.to_owned(),
        text: strict_text(notices),
    }
}

/// The zero value of a kind, as the mark at the end of a watch's initial state carries it.
pub fn zero(kind: &Kind) -> Value {
    let mut object = Value::Object(serde_json::Map::new());
    if kind.custom.is_some() {
        return object;
    }
    complete(kind, &mut object);
    // The server's own types of these know no absent count.
    if kind.group == "apps" && kind.subresource("scale").is_some() {
        object["spec"]["replicas"] = 0.into();
    }
    object
}

fn catalog() -> &'static Catalog {
    Catalog::builtin()
}
