//! What the schema knows about objects, in the terms of the API: the one place where the two meet.

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_schema::{Fault, Kind};

use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::request::{BodyFormat, PatchFormat, Propagation, WriteOptions};

/// An object as its kind, and what was odd about its fields.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) object: Value,
    pub(crate) notices: Vec<String>,
}

pub(crate) fn decode(kind: &Kind, format: BodyFormat, body: &[u8]) -> Result<Decoded, Refusal> {
    let mut object: Value = match format {
        BodyFormat::Json => serde_json::from_slice(body).map_err(|e| Refusal::bad(e.to_string()))?,
        BodyFormat::Yaml => serde_saphyr::from_slice(body).map_err(|e| Refusal::bad(e.to_string()))?,
        BodyFormat::Protobuf => return Err(Refusal::UnknownBodyFormat("application/json, application/yaml")),
    };
    object["kind"] = json!(kind.kind);
    object["apiVersion"] = json!(kind.api_version());
    Ok(Decoded { object, notices: vec![] })
}

pub(crate) fn decode_delete_options(format: BodyFormat, body: &[u8]) -> Result<Value, Refusal> {
    match format {
        BodyFormat::Yaml => serde_saphyr::from_slice(body).map_err(|e| Refusal::bad(e.to_string())),
        _ => serde_json::from_slice(body)
            .map_err(|e| Refusal::bad(format!("couldn't get version/kind; json parse error: {e}"))),
    }
}

pub(crate) fn typed_patch(kind: &Kind, object: &mut Value) -> Result<Vec<String>, Refusal> {
    let _ = (kind, object);
    Ok(vec![])
}

pub(crate) fn undecodable_patch(_body: &[u8], format: PatchFormat, error: &serde_json::Error) -> Refusal {
    let _ = format;
    Refusal::bad(format!("error decoding patch: {error}"))
}

/// The live object with a patch applied.
pub(crate) fn patch(_kind: &Kind, live: &Value, format: PatchFormat, body: &Value) -> Result<Value, Refusal> {
    let mut new = live.clone();
    match format {
        PatchFormat::Merge | PatchFormat::Strategic => merge(&mut new, body),
        PatchFormat::Json | PatchFormat::Apply => return Err(Refusal::UnsupportedMediaType),
    }
    Ok(new)
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().expect("made above").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

pub(crate) fn apply_body(call: &Call, options: &WriteOptions) -> Result<Value, Refusal> {
    let _ = options;
    serde_saphyr::from_slice(&call.body).map_err(|e| Refusal::bad(e.to_string()))
}

pub(crate) fn apply(
    kind: &Kind,
    live: Option<&Value>,
    intent: &Value,
    options: &WriteOptions,
    subresource: Option<&str>,
) -> Result<Value, Refusal> {
    let _ = (options, subresource);
    let mut new = live.cloned().unwrap_or_else(|| json!({"kind": kind.kind, "apiVersion": kind.api_version()}));
    merge(&mut new, intent);
    Ok(new)
}

pub(crate) fn track_create(_kind: &Kind, _object: &mut Value, _manager: &str) {}

pub(crate) fn track_update(_kind: &Kind, _live: &Value, _new: &mut Value, _manager: &str, _subresource: Option<&str>) {}

pub(crate) fn prepare_create(kind: &Kind, object: &mut Value) {
    if kind.has_status() {
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        object.set_meta("generation", 1);
    }
    if kind.is("", "Pod") {
        object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
    }
}

pub(crate) fn prepare_update(kind: &Kind, new: &mut Value, live: &Value, subresource: Option<&str>) {
    let part = if subresource == Some("status") { "spec" } else { "status" };
    if kind.has_status() {
        match live.get(part) {
            Some(value) => new[part] = value.clone(),
            None => {
                new.as_object_mut().and_then(|fields| fields.remove(part));
            }
        }
    }
    if let Some(generation) = live["metadata"]["generation"].as_i64() {
        let changed = new["spec"] != live["spec"];
        new.set_meta("generation", generation + i64::from(changed));
    }
}

pub(crate) fn validate_create(_kind: &Kind, object: &Value) -> Vec<Fault> {
    if object.name().is_empty() {
        return vec![crate::faults::required("metadata.name", "name or generateName is required")];
    }
    vec![]
}

pub(crate) fn validate_update(_kind: &Kind, _new: &Value, _live: &Value, _subresource: Option<&str>) -> Vec<Fault> {
    vec![]
}

pub(crate) fn warnings(_kind: &Kind, _new: &Value, _old: Option<&Value>) -> Vec<String> {
    vec![]
}

pub(crate) fn columns(_kind: &Kind) -> Value {
    json!([{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}])
}

pub(crate) fn row(_kind: &Kind, item: &Value, _now: Timestamp) -> Value {
    json!({"cells": [item.name()]})
}

/// The zero value of a kind, as bookmarks carry it.
pub(crate) fn zero(_kind: &Kind) -> Value {
    json!({})
}

// What follows is data about single kinds that no published schema holds.

/// Kinds whose objects a PUT makes when they are not there.
pub(crate) fn put_creates(kind: &Kind) -> bool {
    matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("", "Endpoints" | "Event" | "LimitRange" | "Service")
            | ("events.k8s.io", "Event")
            | ("coordination.k8s.io", "Lease")
            | ("rbac.authorization.k8s.io", _)
            | ("node.k8s.io", "RuntimeClass")
    )
}

/// Kinds that a PUT may replace without saying which revision it saw.
pub(crate) fn unconditional_update(kind: &Kind) -> bool {
    let group = kind.group.as_str();
    kind.custom.is_none() && !matches!(group, "coordination.k8s.io" | "apiextensions.k8s.io")
}

/// Kinds whose deletion is answered with the object although it is gone.
pub(crate) fn delete_answers_object(kind: &Kind) -> bool {
    matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("", "Pod" | "Service" | "ServiceAccount" | "ResourceQuota" | "PersistentVolume" | "PersistentVolumeClaim")
            | ("storage.k8s.io", "StorageClass")
    )
}

/// Jobs of before propagation policies keep their pods when nobody says otherwise.
pub(crate) fn default_propagation(kind: &Kind) -> Option<Propagation> {
    kind.is("batch", "Job").then_some(Propagation::Orphan)
}

/// The grace of a deletion; `None` for kinds that know none.
pub(crate) fn grace(kind: &Kind, live: &Value, asked: Option<i64>) -> Option<i64> {
    if kind.is("", "Namespace") {
        return None;
    }
    if !kind.is("", "Pod") {
        return Some(0);
    }
    let phase = live.text("/status/phase");
    let spec = live["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    if live.text("/spec/nodeName").is_empty() || matches!(phase, "Succeeded" | "Failed") || spec == 0 {
        return Some(0);
    }
    let asked = asked.unwrap_or(spec);
    // A negative grace means: at once, but by the way of an ordinary deletion.
    Some(if asked < 0 { 1 } else { asked })
}

/// What a kind notes in its own status when it is being deleted.
pub(crate) fn mark_deleted(kind: &Kind, object: &mut Value) {
    if kind.is("", "Namespace") {
        object["status"]["phase"] = json!("Terminating");
    }
}

/// Whether something other than finalizers in the metadata still holds the object.
pub(crate) fn held(kind: &Kind, object: &Value) -> bool {
    kind.is("", "Namespace") && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// The key that the real server would have kept the object under; conflicts print it.
pub(crate) fn registry_key(kind: &Kind, namespace: &str, name: &str) -> String {
    let resource = match kind.plural.as_str() {
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        plural => plural,
    };
    if kind.namespaced {
        format!("/registry/{resource}/{namespace}/{name}")
    } else {
        format!("/registry/{resource}/{name}")
    }
}
