//! What a body says it is, and whether that is what the request is about.

use serde_json::Value;

use super::catalog;
use super::error::DecodeError;
use super::node::Node;
use super::typed::{self, Reader};
use crate::kinds::Kind;
use crate::types::Ty;

/// What a request's body should be.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub ty: Ty<'a>,
    pub custom: bool,
}

impl<'a> From<&'a Kind> for Expected<'a> {
    fn from(kind: &'a Kind) -> Self {
        Self {
            group: &kind.group,
            version: &kind.version,
            kind: &kind.kind,
            ty: kind.ty(),
            custom: kind.custom.is_some(),
        }
    }
}

impl Expected<'static> {
    /// A built-in body that is no kind of its own: `Scale`, `Eviction`, `TokenRequest`, `DeleteOptions`.
    pub fn body(group: &'static str, version: &'static str, kind: &'static str) -> Option<Self> {
        let ty = catalog().body(group, version, kind)?;
        Some(Self { group, version, kind, ty, custom: false })
    }
}

/// `apiVersion` and `kind` as a body gives them; empty where it does not.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
}

/// Groups and versions that existed, so that their kinds are known but not served.
const FORMER: [(&str, &str); 21] = [
    ("admissionregistration.k8s.io", "v1beta1"),
    ("apiextensions.k8s.io", "v1beta1"),
    ("apiregistration.k8s.io", "v1beta1"),
    ("authentication.k8s.io", "v1beta1"),
    ("authorization.k8s.io", "v1beta1"),
    ("certificates.k8s.io", "v1beta1"),
    ("node.k8s.io", "v1beta1"),
    ("extensions", "v1beta1"),
    ("apps", "v1beta1"),
    ("apps", "v1beta2"),
    ("batch", "v1beta1"),
    ("autoscaling", "v2beta1"),
    ("autoscaling", "v2beta2"),
    ("networking.k8s.io", "v1beta1"),
    ("policy", "v1beta1"),
    ("rbac.authorization.k8s.io", "v1beta1"),
    ("storage.k8s.io", "v1beta1"),
    ("coordination.k8s.io", "v1beta1"),
    ("discovery.k8s.io", "v1beta1"),
    ("events.k8s.io", "v1beta1"),
    ("scheduling.k8s.io", "v1beta1"),
];

impl Given {
    /// This kind in this version cannot be what was expected, or not read.
    pub(super) fn unhandled(&self, expected: &Expected<'_>, text: String) -> DecodeError {
        DecodeError::Unhandled {
            kind: or(&self.kind, expected.kind).to_owned(),
            version: or(&self.version, expected.version).to_owned(),
            wanted: expected.kind.to_owned(),
            text,
        }
    }

    fn group_version(&self) -> String {
        join(&self.group, &self.version)
    }
}

fn or<'a>(given: &'a str, default: &'a str) -> &'a str {
    if given.is_empty() { default } else { given }
}

fn join(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The Go package of the internal types of a group.
fn package(group: &str) -> &str {
    if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) }
}

/// What Go says when a body is something else than an object.
pub(super) fn not_an_object(node: &Node) -> String {
    wrong_type_meta(
        node.word(),
        r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#,
        "value",
    )
}

fn wrong_type_meta(word: &str, ty: &str, place: &str) -> String {
    format!("couldn't get version/kind; json parse error: json: cannot unmarshal {word} into Go {place} of type {ty}")
}

/// Reads `apiVersion` and `kind` off the fields of a body.
pub(super) fn given(fields: &[(String, Node)]) -> Result<Given, String> {
    let mut texts = [String::new(), String::new()];
    for (name, value) in fields {
        let slot = match name.as_str() {
            "apiVersion" => 0,
            "kind" => 1,
            _ => continue,
        };
        match value {
            Node::String(text) => texts[slot].clone_from(text),
            Node::Null => {}
            other => return Err(wrong_type_meta(other.word(), "string", &format!("struct field .{name}"))),
        }
    }
    parse(&texts[0], &texts[1])
}

pub(super) fn parse(api_version: &str, kind: &str) -> Result<Given, String> {
    let (group, version) = match api_version.split('/').collect::<Vec<_>>().as_slice() {
        [version] => ("", *version),
        [group, version] => (*group, *version),
        _ => return Err(format!("unexpected GroupVersion string: {api_version}")),
    };
    Ok(Given { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() })
}

/// The type that a body says it has.
pub(super) fn target<'a>(expected: &Expected<'a>, given: &Given) -> Result<Ty<'a>, DecodeError> {
    let kind = or(&given.kind, expected.kind);
    let (group, version) = match given.version.as_str() {
        "" => (expected.group, expected.version),
        version => (given.group.as_str(), version),
    };
    if (group, version, kind) == (expected.group, expected.version, expected.kind) {
        return Ok(expected.ty);
    }
    let gv = join(group, version);
    let unregistered = || {
        given.unhandled(
            expected,
            format!("no kind {kind:?} is registered for version {gv:?} in scheme \"pkg/runtime/scheme.go:111\""),
        )
    };
    // Options are read by a decoder that knows nothing else.
    if expected.kind.ends_with("Options") && kind != expected.kind {
        return Err(unregistered());
    }
    if let Some(ty) = catalog().body(group, version, kind) {
        return Ok(ty);
    }
    let known_list = kind.strip_suffix("List").is_some_and(|item| catalog().kind(group, version, item).is_some());
    let same_kind = kind == expected.kind || catalog().kinds().iter().any(|k| k.kind == kind);
    let former = FORMER.contains(&(group, version)) && same_kind;
    if known_list || former { Ok(expected.ty) } else { Err(unregistered()) }
}

/// Reads the body as what it says it is, and refuses it if that is not what was expected.
pub(super) fn read(
    expected: &Expected<'_>,
    given: &Given,
    node: Node,
    reader: Reader<'_>,
) -> Result<Value, DecodeError> {
    if expected.custom {
        return read_custom(expected, given, node, reader);
    }
    let ty = target(expected, given)?;
    let own = Expected { ty, ..*expected };
    let mut object = typed::read(&own, node, reader).map_err(|text| given.unhandled(expected, text))?;
    let kind = or(&given.kind, expected.kind);
    if kind != expected.kind {
        let from = format!("{}.{kind}", or(&given.version, expected.version));
        let to = format!("{}.{}", package(expected.group), expected.kind);
        return Err(given.unhandled(expected, format!("converting ({from}) to ({to}): unknown conversion")));
    }
    check_version(expected, given)?;
    object["kind"] = expected.kind.into();
    object["apiVersion"] = join(expected.group, expected.version).into();
    Ok(object)
}

fn check_version(expected: &Expected<'_>, given: &Given) -> Result<(), DecodeError> {
    let wanted = join(expected.group, expected.version);
    // Options are known in every group, and evictions are taken in whatever version.
    let any_version = expected.kind.ends_with("Options") || expected.kind == "Eviction";
    if given.version.is_empty() || given.group_version() == wanted || any_version {
        return Ok(());
    }
    Err(DecodeError::OtherVersion { given: given.group_version(), wanted })
}

/// A custom resource may claim another kind, which validation refuses; never another version.
fn read_custom(expected: &Expected<'_>, given: &Given, node: Node, reader: Reader<'_>) -> Result<Value, DecodeError> {
    let object = typed::read(expected, node, reader).map_err(|text| given.unhandled(expected, text))?;
    check_version(expected, given)?;
    Ok(object)
}
