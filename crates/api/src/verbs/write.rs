//! What every write of an object goes through, whatever the verb: from bytes to a checked object, and into the store.

use std::sync::Arc;

use serde_json::Value;
use sluice_schema::{Fault, Kind};
use sluice_store::Entry;

use crate::admission;
use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::request::FieldValidation;
use crate::rules;
use crate::versions;

/// How often a patch is tried again when others write meanwhile.
pub(crate) const ATTEMPTS: usize = 100;

/// Does with unknown and duplicate fields what the caller wants.
pub(crate) fn judge_fields(
    call: &Call,
    kind: &Kind,
    validation: FieldValidation,
    found: Vec<String>,
) -> Result<(), Refusal> {
    match validation {
        _ if found.is_empty() => Ok(()),
        FieldValidation::Ignore => Ok(()),
        FieldValidation::Warn => {
            found.into_iter().for_each(|notice| call.notices.add(notice));
            Ok(())
        }
        FieldValidation::Strict => Err(rules::strict_refusal(kind, &found)),
    }
}

pub(crate) fn valid(kind: &Kind, name: &str, faults: Vec<Fault>) -> Result<(), Refusal> {
    if faults.is_empty() { Ok(()) } else { Err(Refusal::invalid(kind, name, faults)) }
}

/// Whether two states of an object differ in more than their revision.
pub(crate) fn same(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    let others = |map: &serde_json::Map<String, Value>| map.len() - usize::from(map.contains_key("metadata"));
    let metadata = |map: &serde_json::Map<String, Value>| map.get("metadata").and_then(Value::as_object).cloned();
    let bare = |map: &serde_json::Map<String, Value>| {
        let mut metadata = metadata(map).unwrap_or_default();
        metadata.remove("resourceVersion");
        metadata
    };
    others(old) == others(new)
        && old.iter().all(|(key, value)| key == "metadata" || new.get(key) == Some(value))
        && bare(old) == bare(new)
}

/// Stores a new state of an object, and what quotas count with it; a state like the old one is not written. `None`:
/// somebody else was faster.
pub(crate) async fn replace(call: &Call, old: &Arc<Entry>, new: Value) -> Result<Option<Arc<Entry>>, Refusal> {
    let stored = versions::to_storage(&call.server.registry().kinds(), call.kind(), new);
    if same(&old.value(), &stored) {
        return Ok(Some(Arc::clone(old)));
    }
    let charges = admission::charge(call, Some(&old.value()), &stored).await?;
    call.server.storage().replace_with(&call.key(), old.revision, &stored, charges.changes).await
}

/// The revision that a body insists on; `None` for an unconditional write.
pub(crate) fn wanted_revision(object: &Value) -> Result<Option<u64>, Refusal> {
    match object.resource_version() {
        "" | "0" => Ok(None),
        text => text
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
            .map(Some)
            .ok_or_else(|| Refusal::Unexplained(format!("strconv.ParseUint: parsing {text:?}: invalid syntax"))),
    }
}
