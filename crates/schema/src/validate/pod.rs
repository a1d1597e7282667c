//! Pods and pod templates.
//!
//! The parts in reading order: [`spec`] walks the whole specification; containers, their environment, probes, mounts,
//! resources and security settings each have a module; [`update`] holds what a running pod may change.

mod containers;
mod env;
mod mounts;
mod probes;
pub(crate) mod resources;
mod scheduling;
mod security;
mod spec;
pub(crate) mod update;
pub(crate) mod volumes;

pub(crate) use scheduling::{taint_effect, tolerations};
pub(crate) use spec::pod_spec;

use super::check::Faults;
use super::cursor::At;
use super::meta;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod that is about to be created, besides its metadata.
pub(crate) fn create(f: &mut Faults, pod: &At<'_>) {
    whole(f, pod);
    let spec = pod.get("spec");
    if !spec.get("ephemeralContainers").is_zero() {
        f.forbidden(&spec.get("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.get("nodeName").is_zero() && !spec.get("schedulingGates").is_zero() {
        f.forbidden(&spec.get("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// What holds for a pod at any time, besides its metadata.
pub(crate) fn whole(f: &mut Faults, pod: &At<'_>) {
    let spec = pod.get("spec");
    let annotations = pod.dig(&["metadata", "annotations"]);
    let mirror = annotations.key(MIRROR);
    if mirror.is_set() && spec.get("nodeName").is_zero() {
        f.invalid(&mirror, "must set spec.nodeName if mirror pod annotation is set");
    }
    pod_spec(f, &spec);
    // Templates may keep such images for compatibility, pods may not.
    for list in ["containers", "initContainers"] {
        for container in spec.get(list).items() {
            containers::image_without_space(f, &container);
        }
    }
}

/// A pod template that controllers make pods of.
pub(crate) fn template(f: &mut Faults, template: &At<'_>) {
    template_metadata(f, template);
    let spec = template.get("spec");
    pod_spec(f, &spec);
    if !spec.get("ephemeralContainers").is_zero() {
        f.forbidden(&spec.get("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// What is checked of a template whose pods get more than it says.
pub(crate) fn template_metadata(f: &mut Faults, template: &At<'_>) {
    // Paths of a template's metadata leave `metadata` out.
    let meta = template.get("metadata");
    meta::labels(f, &template.get("labels").with(meta.get("labels").value));
    meta::annotations(f, &template.get("annotations").with(meta.get("annotations").value));
}
