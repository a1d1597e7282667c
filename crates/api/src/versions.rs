//! One resource in several versions: objects are kept in one of them and shown in the one that is asked for.

use serde_json::{Value, json};
use sluice_schema::Kind;
use sluice_store::Entry;

use crate::object::prefix;

/// Whether the stored bytes are what this version shows.
pub(crate) fn is_stored(kind: &Kind, entry: &Entry) -> bool {
    entry.bytes.starts_with(prefix(&kind.kind, &kind.api_version()).as_bytes())
}

/// An object in the version of `kind`.
pub(crate) fn view(kind: &Kind, mut object: Value) -> Value {
    let version = kind.api_version();
    if object["apiVersion"] != json!(version) {
        object["apiVersion"] = json!(version);
    }
    object
}
