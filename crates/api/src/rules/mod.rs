//! What the schema knows about objects, in the terms of the API: the one place where the two meet.

mod kinds;
mod owners;
mod patches;

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_schema::decode::{self, DecodeError, Decoded, Expected, Format};
use sluice_schema::{Fault, Kind, crd, merge};

pub(crate) use kinds::*;
pub(crate) use owners::{apply, read_apply, refused, settle, track_create, track_status, track_update, with_writer};
pub(crate) use patches::{Patch, read_patch};

use crate::object::Object;
use crate::refusal::Refusal;
use crate::request::BodyFormat;

/// A body as an object of a kind, with its defaults.
pub(crate) fn decode(kind: &Kind, format: BodyFormat, body: &[u8]) -> Result<Decoded, Refusal> {
    let mut decoded = decode::object(&Expected::from(kind), written_as(format), body).map_err(refuse)?;
    let unknown = fill(kind, &mut decoded.object);
    decoded.notices.extend(unknown);
    Ok(decoded)
}

/// The options of a deletion, from its body.
pub(crate) fn decode_delete_options(format: BodyFormat, body: &[u8]) -> Result<Value, Refusal> {
    let expected =
        Expected::body("meta.k8s.io", "v1", "DeleteOptions").expect("the catalog knows the options of deletions");
    let decoded = decode::object(&expected, written_as(format), body);
    decoded.map(|decoded| decoded.object).map_err(|error| Refusal::bad(error.cause()))
}

/// Reads an object as its kind, with its defaults. `Ok` are unknown fields, `Err` is what the decoder says.
pub(crate) fn typed(kind: &Kind, object: &mut Value) -> Result<Vec<String>, String> {
    let mut notices = decode::typed(kind, object).map_err(|error| error.cause())?;
    notices.extend(fill(kind, object));
    Ok(notices)
}

/// What an object that came about on this server, and not as a body, does not fit in its kind.
pub(crate) fn misfit(kind: &Kind, object: &Value) -> Option<String> {
    if kind.custom.is_some() { None } else { merge::unstructured_fault(kind.ty(), object) }
}

/// What strict field validation says of these notices.
pub(crate) fn strict_text(notices: &[String]) -> String {
    decode::strict_text(notices)
}

/// The refusal of a body by strict field validation.
pub(crate) fn strict_refusal(kind: &Kind, notices: &[String]) -> Refusal {
    refuse(decode::strict_refusal(&Expected::from(kind), notices))
}

/// Makes an object what a real server prints: empty values that are always there, none that never are.
pub(crate) fn complete(kind: &Kind, object: &mut Value) {
    decode::complete(kind, object);
}

fn written_as(format: BodyFormat) -> Format {
    match format {
        BodyFormat::Json => Format::Json,
        BodyFormat::Yaml => Format::Yaml,
        BodyFormat::Protobuf => Format::Protobuf,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is used as the last step of a chain of results")]
fn refuse(error: DecodeError) -> Refusal {
    Refusal::bad(error.to_string())
}

/// Brings a decoded object into the shape of its kind: defaults in, what a custom schema does not know out.
fn fill(kind: &Kind, object: &mut Value) -> Vec<String> {
    if let Some(custom) = &kind.custom {
        crd::drop_nulls(&custom.schema, object);
        let unknown = crd::prune(&custom.schema, object);
        crd::apply_defaults(&custom.schema, object);
        return unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect();
    }
    if is_definition(kind) {
        crd::apply_definition_defaults(object);
    }
    vec![]
}

pub(crate) fn prepare_create(kind: &Kind, object: &mut Value) {
    if kind.has_status() {
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        object.set_meta("generation", 1);
    }
    if is_definition(kind) {
        // Its status begins with the versions that are stored.
        crd::apply_definition_defaults(object);
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
pub(crate) fn zero(kind: &Kind) -> Value {
    decode::zero(kind)
}
