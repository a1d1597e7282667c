//! Who owns which field: `metadata.managedFields` of every write, and server-side apply.

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_schema::decode::{self, Decoded, Format};
use sluice_schema::managed::{self, ApplyError, Versions, Writer};
use sluice_schema::merge::go_json_type;
use sluice_schema::{Kind, crd};

use super::{misfit, typed};
use crate::call::Call;
use crate::refusal::Refusal;
use crate::registry::Kinds;
use crate::request::{FieldValidation, WriteOptions};
use crate::versions;

/// The other versions of a resource, for entries that were written through them.
pub(super) struct OtherVersions<'a> {
    pub(super) kinds: &'a Kinds,
    pub(super) kind: &'a Kind,
}

impl Versions for OtherVersions<'_> {
    fn convert<'a>(&'a self, object: &Value, api_version: &str) -> Option<(&'a Kind, Value)> {
        let kind = self.kind;
        let other = self.kinds.all.iter().find(|other| {
            other.plural == kind.plural
                && other.storage_group == kind.storage_group
                && other.api_version() == api_version
        })?;
        let mut object = object.clone();
        sluice_schema::convert(other, &mut object);
        if other.custom.is_none() {
            decode::complete(other, &mut object);
        }
        Some((other, object))
    }
}

/// Records a create.
pub(crate) fn track_create(call: &Call, object: &mut Value, manager: &str) {
    with_writer(call, call.kind(), manager, None, |writer| managed::update(writer, None, object));
}

/// Records an update or a patch.
pub(crate) fn track_update(call: &Call, live: &Value, new: &mut Value, manager: &str, subresource: Option<&str>) {
    with_writer(call, call.kind(), manager, subresource, |writer| managed::update(writer, Some(live), new));
}

/// Takes back new times of a write that changes nothing.
pub(crate) fn settle(new: &mut Value, live: &Value) {
    managed::settle(new, live);
}

/// Acts as a manager. `kind` is that of the body: the resource itself, or `Scale`.
pub(crate) fn with_writer<T>(
    call: &Call,
    kind: &Kind,
    manager: &str,
    subresource: Option<&str>,
    act: impl FnOnce(&Writer<'_>) -> T,
) -> T {
    let kinds = call.server.registry().kinds();
    let versions = OtherVersions { kinds: &kinds, kind: call.kind() };
    act(&Writer { kind, manager, subresource, now: Timestamp::now(), versions: &versions })
}

/// Records what the server itself writes into the status of an object.
pub(crate) fn track_status(kind: &Kind, live: &Value, new: &mut Value, manager: &str) {
    let writer =
        Writer { kind, manager, subresource: Some("status"), now: Timestamp::now(), versions: &managed::OnlyVersion };
    managed::update(&writer, Some(live), new);
}

/// The body of an apply. It need not be complete, but it must say what it is.
pub(crate) fn read_apply(call: &Call, options: &WriteOptions) -> Result<Value, Refusal> {
    let unreadable = |why: String| Refusal::bad(format!("error decoding YAML: {why}"));
    let Decoded { object, notices } = decode::untyped(Format::Yaml, &call.body)
        .map_err(|error| unreadable(format!("error converting YAML to JSON: {error}")))?;
    if !object.is_object() && !object.is_null() {
        let found = go_json_type(&object);
        return Err(unreadable(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type \
             map[string]interface {{}}"
        )));
    }
    match options.validation {
        FieldValidation::Strict if !notices.is_empty() => Err(Refusal::bad(format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
            notices.join("\n  ")
        ))),
        FieldValidation::Warn => {
            notices.into_iter().for_each(|notice| call.notices.add(notice));
            Ok(object)
        }
        _ => Ok(object),
    }
}

/// Server-side apply: the merged object, with its managed fields, read as its kind.
pub(crate) fn apply(
    call: &Call,
    live: Option<&Value>,
    intent: &Value,
    options: &WriteOptions,
) -> Result<Value, Refusal> {
    let kind = call.kind();
    let subresource = call.target.subresource.as_deref();
    let applied = with_writer(call, kind, &options.manager, subresource, |writer| {
        managed::apply(writer, live, intent, options.force)
    });
    let mut object = applied.map_err(refused)?;
    if let Some(custom) = &kind.custom {
        // Nulls stay: what may not be null is refused, not dropped.
        crd::prune(&custom.schema, &mut object);
        crd::apply_defaults(&custom.schema, &mut object);
        return Ok(object);
    }
    let unconverted = |why: String| {
        let (named, gvk) = (managed::named(intent), versions::gvk(kind));
        Refusal::Unexplained(format!(
            "failed to convert new object ({named}) to proper version: unable to convert unstructured object to {gvk}: {why}"
        ))
    };
    if let Some(why) = misfit(kind, &object) {
        return Err(unconverted(why));
    }
    typed(kind, &mut object).map_err(unconverted)?;
    Ok(object)
}

pub(crate) fn refused(error: ApplyError) -> Refusal {
    match error {
        ApplyError::Conflicts(ref conflicts) => {
            let cause = |conflict: &managed::Conflict| json!({"reason": "FieldManagerConflict", "message": conflict.message(), "field": conflict.path});
            Refusal::ApplyConflict { message: error.to_string(), causes: conflicts.iter().map(cause).collect() }
        }
        ApplyError::BadRequest(message) => Refusal::BadRequest(message),
        ApplyError::Failed(message) => Refusal::Unexplained(message),
    }
}
