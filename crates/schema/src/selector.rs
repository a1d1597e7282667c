//! Field selectors: which fields a kind knows, and what it says about others.

use std::fmt::Write as _;

use serde_json::Value;

use crate::kinds::Kind;

/// Why a field selector is refused: 400 `BadRequest` with these words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: \\{0}")]
    Escape(char),
    #[error("invalid field selector: unescaped character in value: {}", u32::from(*.0))]
    Unescaped(char),
    #[error("{0}")]
    Unknown(String),
}

/// All terms must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: String,
    negated: bool,
    value: String,
}

impl FieldSelector {
    /// Reads a selector for a kind; an empty one selects everything.
    pub fn parse(kind: &Kind, selector: &str) -> Result<Self, FieldSelectorError> {
        let mut parts = split_terms(selector);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, negated, value)) = split_term(part) else {
                return Err(FieldSelectorError::Term { selector: selector.to_owned(), term: part.to_owned() });
            };
            terms.push(Term { field: field.to_owned(), negated, value: unescape(value)? });
        }
        for term in &mut terms {
            term.field = known(kind, &term.field).map_err(FieldSelectorError::Unknown)?;
        }
        Ok(Self { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether an object, as it is stored, is selected.
    pub fn matches(&self, kind: &Kind, object: &Value) -> bool {
        self.terms.iter().all(|term| (field_value(kind, object, &term.field) == term.value) != term.negated)
    }

    /// The one name that objects must have, if the selector demands one.
    pub fn name(&self) -> Option<&str> {
        self.terms.iter().find(|term| term.field == "metadata.name" && !term.negated).map(|term| term.value.as_str())
    }
}

/// At commas that no backslash stands before.
fn split_terms(selector: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, c) in selector.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&selector[start..]);
    terms
}

/// At the first operator.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let (field, rest) = term.split_at(at);
        match rest.strip_prefix("!=") {
            Some(value) => Some((field, true, value)),
            None => Some((field, false, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?)),
        }
    })
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(other) => return Err(FieldSelectorError::Escape(other)),
                None => return Err(FieldSelectorError::Escape(' ')),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

const META: [&str; 2] = ["metadata.name", "metadata.namespace"];

const INVOLVED: [&str; 7] = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];

/// The fields that kinds with an own list know, beside which they refuse everything.
fn listed(kind: &Kind) -> Option<&'static [&'static str]> {
    Some(match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        ("", "Node") => &["metadata.name", "spec.unschedulable"],
        ("", "Namespace") => &["metadata.name", "status.phase"],
        ("", "ReplicationController") => &["metadata.name", "metadata.namespace", "status.replicas"],
        ("", "Secret") => &["metadata.name", "metadata.namespace", "type"],
        ("", "Service") => &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"],
        ("", "Event") => &["metadata.name", "metadata.namespace", "reason", "reportingComponent", "source", "type"],
        ("batch", "Job") => &["metadata.name", "metadata.namespace", "status.successful"],
        ("certificates.k8s.io", "CertificateSigningRequest") => &["metadata.name", "spec.signerName"],
        ("resource.k8s.io", "ResourceSlice") => &["metadata.name", "spec.nodeName", "spec.driver"],
        _ => return None,
    })
}

/// The field as stored objects have it, or what the kind says about a field it does not know.
fn known(kind: &Kind, field: &str) -> Result<String, String> {
    let unsupported = || format!("field label not supported: {field}");
    if let Some(custom) = &kind.custom {
        let meta = field == "metadata.name" || kind.namespaced && field == "metadata.namespace";
        return if meta || custom.selectable.iter().any(|s| s == field) {
            Ok(field.to_owned())
        } else {
            Err(unsupported())
        };
    }
    if kind.is("events.k8s.io", "Event") {
        return known_in_new_events(field).ok_or_else(unsupported);
    }
    let Some(listed) = listed(kind) else {
        return if META.contains(&field) {
            Ok(field.to_owned())
        } else {
            Err(format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""))
        };
    };
    match (kind.kind.as_str(), field) {
        // What clients of before called it.
        ("Pod", "spec.host") => Ok("spec.nodeName".to_owned()),
        ("Event", field) if field.strip_prefix("involvedObject.").is_some_and(|f| INVOLVED.contains(&f)) => {
            Ok(field.to_owned())
        }
        (_, field) if listed.contains(&field) => Ok(field.to_owned()),
        ("Job", field) => Err(format!("field label {field:?} not supported for Job")),
        ("ResourceSlice", field) => {
            Err(format!("field label not supported for resource.k8s.io/{}, Kind=ResourceSlice: {field}", kind.version))
        }
        _ => Err(unsupported()),
    }
}

/// Events are stored in the form of the core group.
fn known_in_new_events(field: &str) -> Option<String> {
    match field {
        "reason" | "type" | "metadata.name" | "metadata.namespace" => Some(field.to_owned()),
        "reportingController" => Some("reportingComponent".to_owned()),
        _ => {
            let part = field.strip_prefix("regarding.").filter(|part| INVOLVED.contains(part))?;
            Some(format!("involvedObject.{part}"))
        }
    }
}

/// The text a field is compared by; empty where there is nothing.
fn field_value(kind: &Kind, object: &Value, field: &str) -> String {
    match field {
        "status.podIPs" => return String::new(),
        "status.podIP" => return text(&object["status"]["podIPs"][0]["ip"]),
        "status.successful" => return text_or(&object["status"]["succeeded"], "0"),
        "source" if kind.custom.is_none() => {
            let component = text(&object["source"]["component"]);
            return if component.is_empty() { text(&object["reportingComponent"]) } else { component };
        }
        "spec.hostNetwork" | "spec.unschedulable" if kind.custom.is_none() => {
            return text_or(at(object, field), "false");
        }
        "status.replicas" if kind.custom.is_none() => return text_or(at(object, field), "0"),
        _ => {}
    }
    text(at(object, field))
}

fn at<'a>(object: &'a Value, field: &str) -> &'a Value {
    field.split('.').fold(object, |value, name| &value[name])
}

fn text_or(value: &Value, default: &str) -> String {
    if value.is_null() { default.to_owned() } else { text(value) }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => {
            let mut text = String::new();
            write!(text, "{other}").expect("writing to a string succeeds");
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Catalog;

    fn kind(group: &str, kind: &str) -> &'static Kind {
        Catalog::builtin().kinds().iter().find(|k| k.is(group, kind)).expect("a built-in kind")
    }

    #[test]
    fn unknown_fields_are_refused_in_the_words_of_the_kind() {
        let refused = |group: &str, name: &str, selector: &str| {
            FieldSelector::parse(kind(group, name), selector).expect_err(selector).to_string()
        };
        assert_eq!(refused("", "Pod", "status.hostIP=1"), "field label not supported: status.hostIP");
        assert_eq!(refused("", "Pod", "=a"), "field label not supported: ");
        assert_eq!(
            refused("", "Pod", "metadata.name in (a)"),
            "invalid selector: 'metadata.name in (a)'; can't understand 'metadata.name in (a)'"
        );
        assert_eq!(refused("", "Pod", r"metadata.name=a\b"), r"invalid field selector: invalid escape sequence: \b");
        assert_eq!(refused("", "Pod", "metadata.name=a=b"), "invalid field selector: unescaped character in value: 61");
        assert_eq!(
            refused("", "Pod", "metadata.name>a"),
            "invalid selector: 'metadata.name>a'; can't understand 'metadata.name>a'"
        );
        assert_eq!(
            refused("batch", "Job", "status.succeeded=0"),
            "field label \"status.succeeded\" not supported for Job"
        );
        assert_eq!(
            refused("events.k8s.io", "Event", "involvedObject.kind=Pod"),
            "field label not supported: involvedObject.kind"
        );
        assert_eq!(
            refused("apps", "Deployment", "spec.replicas=1"),
            "\"spec.replicas\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        );
    }

    #[test]
    fn all_terms_must_hold() {
        let pod = kind("", "Pod");
        let object = json!({"metadata": {"name": "a"}, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}});
        let matches = |selector: &str| FieldSelector::parse(pod, selector).expect(selector).matches(pod, &object);
        assert!(matches("") && matches("spec.nodeName=") && matches("metadata.name==a,status.phase!=Failed,"));
        assert!(matches("spec.hostNetwork=false") && matches("status.podIP=10.0.0.1"));
        assert!(!matches("metadata.name=a,status.phase=Failed") && !matches("metadata.name!=a"));
        assert_eq!(FieldSelector::parse(pod, "metadata.name=a").expect("valid").name(), Some("a"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            drop(FieldSelector::parse(kind("", "Pod"), &text));
        }
    }
}
