//! One resource in several versions: objects are kept in one of them and shown in the one that is asked for.

use std::borrow::Cow;

use serde_json::Value;
use sluice_schema::{Kind, crd};
use sluice_store::Entry;

use crate::object::prefix;
use crate::registry::Kinds;

/// Whether the stored bytes are what this version shows.
pub(crate) fn is_stored(kind: &Kind, entry: &Entry) -> bool {
    entry.bytes.starts_with(prefix(&kind.kind, &kind.api_version()).as_bytes())
}

/// A stored object in the version of `kind`.
pub(crate) fn live<'a>(kind: &Kind, entry: &'a Entry) -> Cow<'a, Value> {
    if is_stored(kind, entry) { Cow::Borrowed(entry.value()) } else { Cow::Owned(view(kind, entry.value().clone())) }
}

/// An object as it is kept: in the storage version of its kind.
pub(crate) fn to_storage(kinds: &Kinds, kind: &Kind, object: Value) -> Value {
    if kind.version == kind.storage_version && kind.group == kind.storage_group {
        return object;
    }
    match kinds.find(&kind.storage_group, &kind.storage_version, &kind.plural) {
        Some(stored) => {
            let mut object = view(&stored, object);
            if let Some(custom) = &stored.custom {
                crd::apply_defaults(&custom.schema, &mut object);
            }
            object
        }
        None => object,
    }
}

/// An object in the version of `kind`: what that version does not know is not shown, but nothing is made up either.
pub(crate) fn view(kind: &Kind, mut object: Value) -> Value {
    sluice_schema::convert(kind, &mut object);
    match &kind.custom {
        Some(custom) => {
            crd::prune(&custom.schema, &mut object);
        }
        None => sluice_schema::decode::complete(kind, &mut object),
    }
    object
}

/// `/v1, Kind=ConfigMap` or `apps/v1, Kind=Deployment`, as Go prints it.
pub(crate) fn gvk(kind: &Kind) -> String {
    format!("{}/{}, Kind={}", kind.group, kind.version, kind.kind)
}
