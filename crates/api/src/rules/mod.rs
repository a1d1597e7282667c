//! What the schema knows about objects, in the terms of the API: the one place where the two meet.

mod kinds;
mod owners;
mod patches;

use jiff::Timestamp;
use serde_json::Value;
use sluice_schema::decode::{self, DecodeError, Decoded, Expected, Format};
use sluice_schema::{Catalog, Fault, Kind, crd, defaults, merge, prepare, table, validate};

pub(crate) use kinds::*;
pub(crate) use owners::{apply, read_apply, refused, settle, track_create, track_status, track_update, with_writer};
pub(crate) use patches::{Patch, read_patch};

use crate::object::Object;
use crate::random;
use crate::refusal::Refusal;
use crate::registry::Kinds;
use crate::request::BodyFormat;
use crate::versions;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

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
    if kind.custom.is_none() {
        object["kind"] = kind.kind.clone().into();
        object["apiVersion"] = kind.api_version().into();
    }
    Ok(notices)
}

/// What an object that came about on this server, and not as a body, does not fit in its kind.
pub(crate) fn misfit(kind: &Kind, object: &Value) -> Option<String> {
    if kind.custom.is_some() { None } else { merge::unstructured_fault(kind.ty(), object) }
}

/// What is wrong with a patched object that says it is something else now: it is read as that.
pub(crate) fn other_kind(kinds: &Kinds, kind: &Kind, object: &Value) -> Option<String> {
    let (version, name) = (object.text("/apiVersion"), object.text("/kind"));
    let same = (name.is_empty() || name == kind.kind) && (version.is_empty() || version == kind.api_version());
    if same || kind.custom.is_some() {
        return None;
    }
    let Some(other) = kinds.all.iter().find(|other| other.api_version() == version && other.kind == name) else {
        return Some(format!(
            "no kind {name:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
        ));
    };
    let unreadable = decode::typed(other, &mut object.clone()).err().map(|error| error.cause());
    let package = kind.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
    let gvk = versions::gvk(other);
    unreadable.or_else(|| Some(format!("unable to decode {gvk} into *{package}.{}", kind.kind)))
}

/// What a patched custom resource may not say of itself.
pub(crate) fn identity_faults(kind: &Kind, object: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    if object.text("/kind") != kind.kind {
        faults.push(Fault::invalid("kind", object.text("/kind"), format!("must be {}", kind.kind)));
    }
    let version = kind.api_version();
    if object.text("/apiVersion") != version {
        faults.push(Fault::invalid("apiVersion", object.text("/apiVersion"), format!("must be {version}")));
    }
    faults
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
    if kind.custom.is_some()
        && let Some(metadata) = object.get_mut("metadata")
    {
        let ty = Catalog::builtin().ty(OBJECT_META).expect("the catalog holds the metadata of objects");
        decode::complete_as(ty, metadata);
    }
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
    // An empty list of managers means that recording starts anew, as one empty manager does; only that would stay.
    if object["metadata"]["managedFields"].as_array().is_some_and(Vec::is_empty) {
        object.set_meta("managedFields", serde_json::json!([{}]));
    }
    if let Some(custom) = &kind.custom {
        crd::drop_nulls(&custom.schema, object);
        let unknown = crd::prune(&custom.schema, object);
        crd::apply_defaults(&custom.schema, object);
        complete(kind, object);
        return unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect();
    }
    if is_definition(kind) {
        crd::apply_definition_defaults(object);
    }
    // Empty values are absent ones, so that they get their defaults.
    decode::complete_with(kind, object, decode::Empty::Stays);
    defaults::apply(kind, object);
    decode::complete_with(kind, object, decode::Empty::Stays);
    vec![]
}

/// Makes a decoded object one that can be created: what is not the client's is reset.
pub(crate) fn prepare_create(kind: &Kind, object: &mut Value) {
    prepare::create(kind, object);
    prepare::stamp(kind, object, None, &random::now());
    if is_definition(kind) {
        // Its status begins with the versions that are stored.
        crd::apply_definition_defaults(object);
    }
}

/// What follows from the uid of a new object.
pub(crate) fn identify(kind: &Kind, object: &mut Value) {
    if kind.is("batch", "Job") {
        let uid = object.uid().to_owned();
        prepare::job_identity(object, &uid);
    }
}

/// Makes a decoded object one that can replace the live one.
pub(crate) fn prepare_update(kind: &Kind, new: &mut Value, live: &Value, subresource: Option<&str>) {
    prepare::update(kind, new, live, subresource);
    prepare::stamp(kind, new, Some(live), &random::now());
    if is_definition(kind) && subresource.is_none() {
        // A new storage version joins those that are stored already.
        crd::apply_definition_defaults(new);
    }
    if is_definition(kind) && subresource.is_none() && new["spec"] != live["spec"] {
        let generation = live["metadata"]["generation"].as_i64().unwrap_or(0);
        new.set_meta("generation", generation + 1);
    }
}

pub(crate) fn validate_create(kind: &Kind, object: &Value) -> Vec<Fault> {
    let mut faults = validate::create(kind, object);
    if is_definition(kind) {
        faults.extend(crd::check_definition(object));
    }
    if let Some(custom) = &kind.custom {
        faults.extend(crd::check(custom, object, None).faults);
    }
    faults.extend(renamed(kind, object));
    faults
}

pub(crate) fn validate_update(kind: &Kind, new: &Value, live: &Value, subresource: Option<&str>) -> Vec<Fault> {
    let mut faults = validate::update(kind, new, live, subresource);
    if is_definition(kind) && subresource.is_none() {
        faults.extend(crd::check_definition_update(new, live));
    }
    if let Some(custom) = &kind.custom {
        faults.extend(crd::check(custom, new, Some(live)).faults);
    }
    faults.extend(renamed(kind, new));
    faults
}

/// A custom resource that says it is of another kind.
fn renamed(kind: &Kind, object: &Value) -> Option<Fault> {
    let name = object.text("/kind");
    let other = kind.custom.is_some() && name != kind.kind;
    other.then(|| Fault::invalid("kind", name, format!("must be {}", kind.kind)))
}

pub(crate) fn warnings(kind: &Kind, new: &Value, old: Option<&Value>) -> Vec<String> {
    match &kind.custom {
        Some(custom) => crd::check(custom, new, old).warnings,
        None => validate::warnings(kind, new, old),
    }
}

pub(crate) fn columns(kind: &Kind, object: Option<&Value>) -> Value {
    if object.is_some_and(is_scale) { table::scale_columns(kind) } else { table::columns(kind) }
}

pub(crate) fn row(kind: &Kind, item: &Value, now: Timestamp) -> Value {
    if is_scale(item) { table::scale_row(kind, item, now) } else { table::row(kind, item, now) }
}

fn is_scale(object: &Value) -> bool {
    object["kind"] == "Scale" && object["apiVersion"] == "autoscaling/v1"
}

/// The zero value of a kind, as bookmarks carry it.
pub(crate) fn zero(kind: &Kind) -> Value {
    decode::zero(kind)
}
