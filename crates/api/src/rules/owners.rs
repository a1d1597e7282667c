//! Who owns which field: `metadata.managedFields` of every write, and server-side apply.

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_schema::Kind;
use sluice_schema::decode::{self, Decoded, Format};
use sluice_schema::managed::{self, ApplyError, Versions, Writer};

use super::typed;
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
        Some((other, versions::view(other, object.clone())))
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
    let Decoded { object, notices } = decode::untyped(Format::Yaml, &call.body)
        .map_err(|error| Refusal::bad(format!("error decoding YAML: {error}")))?;
    match options.validation {
        FieldValidation::Strict if !notices.is_empty() => {
            Err(Refusal::bad(format!("error strict decoding YAML: {}", notices.join(", "))))
        }
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
    typed(kind, &mut object).map_err(|why| {
        let named = managed::named(&object);
        Refusal::Unexplained(format!(
            "failed to convert new object ({named}) to proper version: unable to convert unstructured object to {}: {why}",
            versions::gvk(kind)
        ))
    })?;
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
