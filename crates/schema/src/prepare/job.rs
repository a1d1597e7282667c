//! Jobs: the labels and the selector that tell their pods from others.

use serde_json::Value;

use super::keep;
use crate::edit::Edit;

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";
const OLD_UID: &str = "controller-uid";
const OLD_NAME: &str = "job-name";

/// Gives a new Job its selector and the labels of its pods, unless it brings a selector of its own. For the server, once
/// the Job has its uid and its name.
pub fn job_identity(job: &mut Value, uid: &str) {
    let name = job["metadata"].text("name").to_owned();
    // A Job without labels of its own has those of its pods.
    let own = job["metadata"].get("labels").cloned().unwrap_or_default();
    let shares = !job["metadata"].holds("labels") || own == job["spec"]["template"]["metadata"]["labels"];
    let Some(spec) = job.child("spec") else { return };
    if spec.holds("manualSelector") {
        return;
    }
    let labels = spec.ensure("template").ensure("metadata").ensure("labels");
    for (label, value) in [(OLD_NAME, name.as_str()), (NAME, &name), (OLD_UID, uid), (UID, uid)] {
        labels.default(label, value);
    }
    let labels = labels.clone();
    spec.ensure("selector").ensure("matchLabels").default(UID, uid);
    if shares {
        job.ensure("metadata").put("labels", labels);
    }
}

/// A Job that says nothing about its selector keeps it.
pub(super) fn update(new: &mut Value, old: &Value) {
    let spec = new.ensure("spec");
    if !spec.has("selector") && !old["spec"].holds("manualSelector") {
        keep(spec, &old["spec"], "selector");
    }
}
