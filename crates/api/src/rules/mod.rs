//! What the schema knows about objects, in the terms of the API: the one place where the two meet.

mod kinds;
mod owners;
mod patches;

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_schema::{Fault, Kind, crd};

pub(crate) use kinds::*;
pub(crate) use owners::{apply, read_apply, refused, settle, track_create, track_status, track_update, with_writer};
pub(crate) use patches::{Patch, read_patch};

use crate::go_json;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::request::BodyFormat;

/// An object as its kind, and what was odd about its fields.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) object: Value,
    pub(crate) notices: Vec<String>,
}

/// A body, read as JSON or YAML; what it means is not asked yet.
pub(crate) fn read_object(format: BodyFormat, body: &[u8]) -> Result<Decoded, String> {
    let object = match format {
        BodyFormat::Json => serde_json::from_slice(body).map_err(|_| go_json::syntax(body))?,
        BodyFormat::Yaml => serde_saphyr::from_slice(body).map_err(|error| error.to_string())?,
        BodyFormat::Protobuf => return Err("protobuf is not read yet".into()),
    };
    Ok(Decoded { object, notices: vec![] })
}

/// A body as an object of a kind, with its defaults.
pub(crate) fn decode(kind: &Kind, format: BodyFormat, body: &[u8]) -> Result<Decoded, Refusal> {
    let mut decoded = read_object(format, body).map_err(Refusal::bad)?;
    decoded.object["kind"] = json!(kind.kind);
    decoded.object["apiVersion"] = json!(kind.api_version());
    let unknown = typed(kind, &mut decoded.object).map_err(|why| crate::verbs::undecodable(kind, &why))?;
    decoded.notices.extend(unknown);
    Ok(decoded)
}

pub(crate) fn decode_delete_options(format: BodyFormat, body: &[u8]) -> Result<Value, Refusal> {
    match format {
        BodyFormat::Yaml => serde_saphyr::from_slice(body).map_err(|e| Refusal::bad(e.to_string())),
        _ => serde_json::from_slice(body)
            .map_err(|e| Refusal::bad(format!("couldn't get version/kind; json parse error: {e}"))),
    }
}

/// Reads an object as its kind, with its defaults. `Ok` are unknown fields, `Err` is what the decoder says.
pub(crate) fn typed(kind: &Kind, object: &mut Value) -> Result<Vec<String>, String> {
    if let Some(custom) = &kind.custom {
        crd::drop_nulls(&custom.schema, object);
        let unknown = crd::prune(&custom.schema, object);
        crd::apply_defaults(&custom.schema, object);
        return Ok(unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect());
    }
    if is_definition(kind) {
        crd::apply_definition_defaults(object);
    }
    Ok(vec![])
}

pub(crate) fn prepare_create(kind: &Kind, object: &mut Value) {
    if kind.has_status() {
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        object.set_meta("generation", 1);
    }
    if kind.is("", "Namespace") {
        object["status"] = json!({"phase": "Active"});
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

pub(crate) fn validate_create(kind: &Kind, object: &Value) -> Vec<Fault> {
    let mut faults = vec![];
    if object.name().is_empty() {
        faults.push(crate::faults::required("metadata.name", "name or generateName is required"));
    }
    if is_definition(kind) {
        faults.extend(crd::check_definition(object));
    }
    if let Some(custom) = &kind.custom {
        faults.extend(crd::check(custom, &kind.kind, &kind.api_version(), object, None).faults);
    }
    faults
}

pub(crate) fn validate_update(kind: &Kind, new: &Value, live: &Value, _subresource: Option<&str>) -> Vec<Fault> {
    let mut faults = vec![];
    if is_definition(kind) {
        faults.extend(crd::check_definition_update(new, live));
    }
    if let Some(custom) = &kind.custom {
        faults.extend(crd::check(custom, &kind.kind, &kind.api_version(), new, Some(live)).faults);
    }
    faults
}

pub(crate) fn warnings(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    match &kind.custom {
        Some(custom) => crd::check(custom, &kind.kind, &kind.api_version(), new, old).warnings,
        None => vec![],
    }
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
