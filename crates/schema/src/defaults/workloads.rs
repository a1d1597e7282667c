//! Deployments, ReplicaSets, StatefulSets, DaemonSets, ReplicationControllers.

use serde_json::{Value, json};

use super::{pod, storage};
use crate::edit::Edit;

pub(super) fn deployment(object: &mut Value) {
    let spec = object.ensure("spec");
    spec.default("replicas", 1);
    let strategy = spec.ensure("strategy");
    strategy.default("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.ensure("rollingUpdate");
        rolling.default("maxUnavailable", "25%");
        rolling.default("maxSurge", "25%");
    }
    spec.default("revisionHistoryLimit", 10);
    spec.default("progressDeadlineSeconds", 600);
    pod::template(spec, "template");
}

pub(super) fn replica_set(object: &mut Value) {
    let spec = object.ensure("spec");
    spec.default("replicas", 1);
    pod::template(spec, "template");
}

pub(super) fn stateful_set(object: &mut Value) {
    let spec = object.ensure("spec");
    spec.default("podManagementPolicy", "OrderedReady");
    let strategy = spec.ensure("updateStrategy");
    strategy.default("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        strategy.ensure("rollingUpdate").default("partition", 0);
    }
    let retention = spec.ensure("persistentVolumeClaimRetentionPolicy");
    retention.default("whenDeleted", "Retain");
    retention.default("whenScaled", "Retain");
    spec.default("replicas", 1);
    spec.default("revisionHistoryLimit", 10);
    for claim in spec.each("volumeClaimTemplates") {
        claim.default("apiVersion", "v1");
        claim.default("kind", "PersistentVolumeClaim");
        storage::claim(claim);
    }
    pod::template(spec, "template");
}

/// The old count of template changes lives on in an annotation, which every DaemonSet has.
pub(crate) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) fn daemon_set(object: &mut Value) {
    object.ensure("metadata").ensure("annotations").default(TEMPLATE_GENERATION, "0");
    let spec = object.ensure("spec");
    let strategy = spec.ensure("updateStrategy");
    strategy.default("type", "RollingUpdate");
    if strategy.text("type") == "RollingUpdate" {
        let rolling = strategy.ensure("rollingUpdate");
        rolling.default("maxUnavailable", 1);
        rolling.default("maxSurge", 0);
    }
    spec.default("revisionHistoryLimit", 10);
    pod::template(spec, "template");
}

/// Labels and selector come from the template where they are missing.
pub(super) fn replication_controller(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        if !object["spec"].holds("selector") {
            object.ensure("spec").put("selector", labels.clone());
        }
        if !object["metadata"].holds("labels") {
            object.ensure("metadata").put("labels", labels);
        }
    }
    let spec = object.ensure("spec");
    spec.default("replicas", 1);
    if spec.get("selector") == Some(&json!({})) {
        spec.cut("selector");
    }
    if spec.has("template") {
        pod::template(spec, "template");
    }
}
