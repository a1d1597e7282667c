//! Volumes and claims are not taken from under those who use them.

use serde_json::Value;
use sluice_schema::Kind;

use crate::object::Object;

pub(super) fn add(kind: &Kind, object: &mut Value) {
    let finalizer = match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "PersistentVolumeClaim") => "kubernetes.io/pvc-protection",
        ("", "PersistentVolume") => "kubernetes.io/pv-protection",
        _ => return,
    };
    let mut finalizers = object.finalizers();
    if !finalizers.iter().any(|own| own == finalizer) {
        finalizers.push(finalizer.to_owned());
        object.set_meta("finalizers", finalizers);
    }
}
