//! `x-kubernetes-validations`: rules in CEL, run by `kube-cel`.

use std::fmt;

use kube_cel::{CompiledSchema, ErrorKind, RootContext, ValidationError, Validator, compile_schema};
use serde_json::{Value, json};

use super::check::fault;
use crate::fault::{Fault, FaultKind};

/// The compiled rules of one version of a custom resource.
pub(super) struct Rules {
    compiled: CompiledSchema,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rules")
    }
}

impl Rules {
    pub(super) fn compile(open_api: &Value) -> Self {
        Self { compiled: compile_schema(open_api) }
    }

    /// Faults of rules; those that an update did not bring about are only warnings.
    pub(super) fn check(
        &self,
        kind: &str,
        api_version: &str,
        object: &Value,
        old: Option<&Value>,
        faults: &mut Vec<Fault>,
        warnings: &mut Vec<String>,
    ) {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let root = RootContext { api_version: api_version.into(), api_group: group.into(), kind: kind.into() };
        let (seen, seen_old) = (visible(object), old.map(visible));
        let outcome =
            Validator::new().validate_compiled_with_context(&self.compiled, &seen, seen_old.as_ref(), Some(&root));
        let Err(errors) = outcome else { return };
        for error in errors.into_vec() {
            let path = error.field_path.clone();
            let found = at(object, &path);
            let unchanged = old.is_some_and(|old| at(old, &path) == found && found.is_some());
            let fault = judge(&error, &path, found);
            if unchanged && error.kind == ErrorKind::ValidationFailure {
                warnings.push(format!("{}: {}", fault.path, words(&fault)));
            } else {
                faults.push(fault);
            }
        }
    }
}

/// What rules may see of an object: everything but most of its metadata.
fn visible(object: &Value) -> Value {
    let mut seen = object.clone();
    let metadata = &object["metadata"];
    let fields = ["name", "generateName"].into_iter().filter(|f| metadata.get(*f).is_some());
    seen["metadata"] = fields.map(|f| (f.to_owned(), metadata[f].clone())).collect();
    seen
}

fn judge(error: &ValidationError, path: &str, found: Option<&Value>) -> Fault {
    let path = if path.is_empty() { "<nil>" } else { path };
    if error.kind != ErrorKind::ValidationFailure {
        let cause = error.message.split(" evaluating rule").next().unwrap_or_default();
        let detail = format!("{cause} evaluating rule: {}", error.rule);
        return fault(path, FaultKind::Invalid, Some(json!(type_of(found))), detail);
    }
    let message = if error.message.is_empty() { format!("failed rule: {}", error.rule) } else { error.message.clone() };
    match error.reason.as_deref() {
        Some("FieldValueDuplicate") => fault(path, FaultKind::Duplicate, None, ""),
        Some("FieldValueForbidden") => fault(path, FaultKind::Forbidden, None, message),
        Some("FieldValueRequired") => fault(path, FaultKind::Required, None, message),
        // Whole objects and lists are not printed.
        _ => fault(path, FaultKind::Invalid, found.filter(|v| !v.is_object() && !v.is_array()).cloned(), message),
    }
}

fn type_of(value: Option<&Value>) -> &'static str {
    match value {
        Some(Value::String(_)) => "string",
        Some(Value::Number(n)) if n.is_i64() => "integer",
        Some(Value::Number(_)) => "number",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Array(_)) => "array",
        _ => "object",
    }
}

/// A fault as a warning words it.
fn words(fault: &Fault) -> String {
    match (&fault.kind, &fault.value) {
        (FaultKind::Invalid, Some(value)) => format!("Invalid value: {value}: {}", fault.detail),
        (FaultKind::Invalid, None) => format!("Invalid value: {}", fault.detail),
        (FaultKind::Duplicate, _) => "Duplicate value".into(),
        (FaultKind::Forbidden, _) => format!("Forbidden: {}", fault.detail),
        _ => format!("Required value: {}", fault.detail),
    }
}

/// The value at a path such as `spec.items[2].name`; keys of maps may hold dots.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return Some(value);
    }
    if let Some(rest) = path.strip_prefix('[') {
        let (index, rest) = rest.split_once(']')?;
        let below = match index.parse::<usize>() {
            Ok(n) if value.is_array() => value.get(n)?,
            _ => value.get(index.trim_matches(['"', '\'']))?,
        };
        return at(below, rest.strip_prefix('.').unwrap_or(rest));
    }
    let fields = value.as_object()?;
    // The longest name that fits, so that keys with dots are found.
    let fits = |name: &String| {
        path.strip_prefix(name.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.') || r.starts_with('['))
    };
    let name = fields.keys().filter(|name| fits(name)).max_by_key(|name| name.len())?;
    let rest = &path[name.len()..];
    at(&fields[name], rest.strip_prefix('.').unwrap_or(rest))
}
