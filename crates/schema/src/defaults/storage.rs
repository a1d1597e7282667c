//! Volumes, claims, classes and drivers.

use serde_json::{Value, json};

use super::pod;
use crate::edit::Edit;

pub(super) fn volume(object: &mut Value) {
    object.ensure("status").default("phase", "Pending");
    let spec = object.ensure("spec");
    spec.default("persistentVolumeReclaimPolicy", "Retain");
    spec.default("volumeMode", "Filesystem");
    pod::round(spec.child("capacity"));
    pod::volume_source(spec);
}

pub(super) fn claim(object: &mut Value) {
    object.ensure("status").default("phase", "Pending");
    claim_spec(object.ensure("spec"));
}

/// The specification of a claim, on its own or inside a pod. Its two sources mirror each other.
pub(super) fn claim_spec(spec: &mut Value) {
    spec.default("volumeMode", "Filesystem");
    if let Some(resources) = spec.child("resources") {
        pod::round_resources(resources);
    }
}

pub(super) fn class(object: &mut Value) {
    object.default("reclaimPolicy", "Delete");
    object.default("volumeBindingMode", "Immediate");
}

pub(super) fn csi_driver(object: &mut Value) {
    let spec = object.ensure("spec");
    spec.default("attachRequired", true);
    spec.default("podInfoOnMount", false);
    spec.default("storageCapacity", false);
    spec.default("fsGroupPolicy", "ReadWriteOnceWithFSType");
    if !spec.holds("volumeLifecycleModes") {
        spec.put("volumeLifecycleModes", json!(["Persistent"]));
    }
    spec.default("requiresRepublish", false);
    spec.default("seLinuxMount", false);
}
