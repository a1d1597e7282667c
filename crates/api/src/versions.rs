//! One resource in several versions: objects are kept in one of them and shown in the one that is asked for.

use std::sync::Arc;

use serde_json::Value;
use sluice_schema::{Kind, crd};
use sluice_store::Entry;

use crate::object::prefix;
use crate::registry::Kinds;

/// Whether the stored bytes are what this version shows.
pub(crate) fn is_stored(kind: &Kind, entry: &Entry) -> bool {
    let in_shape = kind.custom.as_ref().is_none_or(|custom| entry.revision.0 >= custom.since);
    in_shape && entry.bytes.starts_with(prefix(&kind.kind, &kind.api_version()).as_bytes())
}

/// A stored object in the version of `kind`.
pub(crate) fn live(kind: &Kind, entry: &Entry) -> Arc<Value> {
    if is_stored(kind, entry) { entry.value() } else { Arc::new(view(kind, entry.to_value())) }
}

/// An object as it is kept: in the storage version of its kind.
pub(crate) fn to_storage(kinds: &Kinds, kind: &Kind, object: Value) -> Value {
    if kind.version == kind.storage_version && kind.group == kind.storage_group {
        return object;
    }
    match kinds.find(&kind.storage_group, &kind.storage_version, &kind.plural) {
        Some(stored) => view(&stored, object),
        None => object,
    }
}

/// An object in the version of `kind`: what that version does not know is not shown.
pub(crate) fn view(kind: &Kind, mut object: Value) -> Value {
    sluice_schema::convert(kind, &mut object);
    match &kind.custom {
        Some(custom) => {
            crd::prune(&custom.schema, &mut object);
            // Defaults that came after the object show, too: those of the version that is stored.
            if kind.version == kind.storage_version {
                crd::apply_defaults(&custom.schema, &mut object);
            }
        }
        None => sluice_schema::decode::complete(kind, &mut object),
    }
    object
}

/// `/v1, Kind=ConfigMap` or `apps/v1, Kind=Deployment`, as Go prints it.
pub(crate) fn gvk(kind: &Kind) -> String {
    format!("{}/{}, Kind={}", kind.group, kind.version, kind.kind)
}
