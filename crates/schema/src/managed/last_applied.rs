//! From `kubectl apply` on the client to `kubectl apply --server-side`: the manager `kubectl` may take over what the
//! annotation of the client says it wrote, and keeps the annotation up to date where there is one.

use serde_json::{Value, json};

use super::Conflict;
use super::place::Place;
use super::set::Set;
use super::typecheck::{Duplicates, check};
use super::walk::{compare, fields};
use crate::kinds::Kind;

/// The one manager these rules are for.
pub(super) const KUBECTL: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations of an object together.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

/// The conflicts that remain when what the client had applied, and what is still so, may be taken over.
pub(super) fn remaining(kind: &Kind, live: &Value, conflicts: Vec<Conflict>) -> Vec<Conflict> {
    let Some(applied) = applied_fields(kind, live) else { return conflicts };
    let applied: std::collections::BTreeSet<String> = applied.paths().into_iter().collect();
    conflicts.into_iter().filter(|conflict| !applied.contains(&conflict.path)).collect()
}

fn applied_fields(kind: &Kind, live: &Value) -> Option<Set> {
    let applied: Value = serde_json::from_str(annotation(live)?).ok()?;
    if applied["apiVersion"].as_str() != Some(kind.api_version().as_str()) {
        return None;
    }
    let place = Place::Typed(kind.ty());
    check(place, &applied, Duplicates::Refused).ok()?;
    check(place, live, Duplicates::Refused).ok()?;
    let changes = compare(place, &applied, live);
    let fields = fields(place, &applied);
    Some(fields.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
}

fn annotation(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][ANNOTATION].as_str().filter(|text| !text.is_empty())
}

/// Writes what was applied into the annotation of `object`, if it has one.
pub(super) fn refresh(object: &mut Value, applied: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut applied = applied.clone();
    if let Some(metadata) = applied["metadata"].as_object_mut()
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(ANNOTATION);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    let annotations = &mut object["metadata"]["annotations"];
    annotations[ANNOTATION] = json!(format!("{applied}\n"));
    let all = annotations.as_object().into_iter().flatten();
    let bytes: usize = all.map(|(name, text)| name.len() + text.as_str().map_or(0, str::len)).sum();
    if bytes > MAX_ANNOTATIONS_BYTES {
        annotations[ANNOTATION] = json!("");
    }
}
