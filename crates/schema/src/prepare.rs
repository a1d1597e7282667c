//! What a write may touch: the status is not the client's, the generation is the server's, and every subresource has its
//! part.
//!
//! Runs after defaulting and before validation. Only what follows from the objects themselves is here; names, uids and
//! times are the server's, as are cluster IPs, node ports, token volumes and finalizers that admission adds. A Job's
//! selector needs the uid: the server calls [`job_identity`] once it has one.

mod job;
mod kinds;
mod pod;

use serde_json::Value;

use crate::edit::Edit;
use crate::kinds::Kind;
use kinds::Generation;

pub use job::job_identity;
pub use sluice_model::qos_class;

/// Makes a decoded, defaulted object one that can be created.
pub fn create(kind: &Kind, object: &mut Value) {
    let rules = kinds::rules(kind);
    if kind.custom.is_some() {
        // Custom resources have a status of their own only where they serve it.
        if kind.has_status() {
            object.cut("status");
        }
        object.ensure("metadata").put("generation", 1);
        return;
    }
    if rules.status {
        object.cut("status");
    }
    if rules.generation != Generation::None {
        object.ensure("metadata").put("generation", 1);
    }
    (rules.create)(object);
}

/// Makes a decoded, defaulted object one that can replace `old`: what this write may not touch comes from there.
pub fn update(kind: &Kind, new: &mut Value, old: &Value, subresource: Option<&str>) {
    let rules = kinds::rules(kind);
    match subresource {
        None => {
            if rules.status || kind.custom.is_some() && kind.has_status() {
                keep(new, old, "status");
            }
            (rules.update)(new, old);
        }
        Some("status") => status(kind, rules, new, old),
        Some(part) if kind.is("", "Pod") => pod::subresource(new, old, part),
        Some("finalize") => keep_all_but(new, old, &[&["spec", "finalizers"]]),
        Some(_) => {}
    }
    match subresource {
        // These say nothing of what is wanted, even where annotations count towards it.
        Some("status" | "binding" | "eviction") => keep_generation(new, old),
        _ => generation(kind, rules, new, old),
    }
}

/// Writes down when something happened, where a kind keeps that: `now` is RFC 3339.
pub fn stamp(kind: &Kind, new: &mut Value, old: Option<&Value>, now: &str) {
    if kind.is("", "Pod") && old.is_none() {
        for condition in new.ensure("status").each("conditions") {
            condition.default("lastTransitionTime", now);
        }
    }
    if kind.is("", "PersistentVolume") {
        const SINCE: &str = "lastPhaseTransitionTime";
        let nothing = Value::Null;
        let before = old.and_then(|old| old.get("status")).unwrap_or(&nothing);
        let status = new.ensure("status");
        let moved = old.is_none() || status.text("phase") != before.text("phase");
        if moved && status.get(SINCE) == before.get(SINCE) {
            status.put(SINCE, now);
        }
    }
}

fn keep_generation(new: &mut Value, old: &Value) {
    match old["metadata"].get("generation") {
        Some(generation) => new.ensure("metadata").put("generation", generation.clone()),
        None => drop(new.ensure("metadata").cut("generation")),
    }
}

/// Through `/status` everything but the status stays; metadata may change, except on custom resources.
fn status(kind: &Kind, rules: &kinds::Rules, new: &mut Value, old: &Value) {
    let fields: Vec<String> =
        [&*new, old].iter().filter_map(|v| v.as_object()).flat_map(|map| map.keys().cloned()).collect();
    for field in fields.iter().filter(|field| !matches!(field.as_str(), "metadata" | "status" | "kind" | "apiVersion"))
    {
        keep(new, old, field);
    }
    if kind.custom.is_some() {
        own_metadata(new, old);
    }
    (rules.status_update)(new, old);
}

/// A field as it was.
pub(super) fn keep(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => new.put(field, value.clone()),
        None => drop(new.cut(field)),
    }
}

/// The metadata as it was, but for what the server itself writes there.
pub(super) fn own_metadata(new: &mut Value, old: &Value) {
    let meta = new.ensure("metadata");
    let own: Vec<(&str, Option<Value>)> =
        ["managedFields", "resourceVersion"].into_iter().map(|field| (field, meta.cut(field))).collect();
    keep(new, old, "metadata");
    let meta = new.ensure("metadata");
    for (field, value) in own {
        meta.cut(field);
        if let Some(value) = value {
            meta.put(field, value);
        }
    }
}

/// Everything as it was, except the metadata and the values at these paths.
pub(super) fn keep_all_but(new: &mut Value, old: &Value, paths: &[&[&str]]) {
    let metadata = new.cut("metadata").unwrap_or_default();
    let wanted: Vec<Option<Value>> = paths.iter().map(|path| at(new, path).cloned()).collect();
    *new = old.clone();
    new.put("metadata", metadata);
    for (path, value) in paths.iter().zip(wanted) {
        let Some((last, parents)) = path.split_last() else { continue };
        let parent = parents.iter().fold(&mut *new, |value, field| value.ensure(field));
        match value {
            Some(value) => parent.put(last, value),
            None => drop(parent.cut(last)),
        }
    }
}

fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, field| value.get(*field))
}

/// The generation counts changes of what is wanted.
fn generation(kind: &Kind, rules: &kinds::Rules, new: &mut Value, old: &Value) {
    let rule = if kind.custom.is_some() { Generation::AllButStatus } else { rules.generation };
    let changed = match rule {
        Generation::None => false,
        Generation::Spec => new.get("spec") != old.get("spec"),
        Generation::SpecAndAnnotations => {
            new.get("spec") != old.get("spec") || differs(new, old, &["metadata", "annotations"])
        }
        Generation::AllAndLabels => {
            outside_metadata(new) != outside_metadata(old) || differs(new, old, &["metadata", "labels"])
        }
        Generation::All => outside_metadata(new) != outside_metadata(old),
        Generation::AllButStatus => {
            let part = |object: &Value| {
                let mut fields = outside_metadata(object);
                if kind.has_status() {
                    fields.remove("status");
                }
                fields
            };
            part(new) != part(old)
        }
    };
    let before = old["metadata"].get("generation").and_then(Value::as_i64).unwrap_or(0);
    let meta = new.ensure("metadata");
    match before + i64::from(changed) {
        0 => drop(meta.cut("generation")),
        generation => meta.put("generation", generation),
    }
}

fn differs(new: &Value, old: &Value, path: &[&str]) -> bool {
    let found = |object| at(object, path).filter(|value: &&Value| value.as_object().is_some_and(|map| !map.is_empty()));
    found(new) != found(old)
}

fn outside_metadata(object: &Value) -> serde_json::Map<String, Value> {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    for field in ["metadata", "kind", "apiVersion"] {
        fields.remove(field);
    }
    fields
}
