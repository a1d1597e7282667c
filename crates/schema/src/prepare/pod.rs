//! Pods: what their subresources may change, and the status they begin with.

use serde_json::{Value, json};

use super::{keep, keep_all_but, own_metadata, qos_class};
use crate::edit::Edit;

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(super) fn create(pod: &mut Value) {
    let class = qos_class(&pod["spec"]);
    pod.put("status", json!({"phase": "Pending", "qosClass": class}));
    if pod["spec"].holds("schedulingGates") {
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        });
        pod["status"].put("conditions", json!([condition]));
    }
    let labels = pod["metadata"].get("labels").cloned().unwrap_or_default();
    drop_disabled(&mut pod["spec"]);
    merge_label_keys(pod.ensure("spec"), &labels);
    app_armor_from_annotations(pod);
}

pub(super) fn update(new: &mut Value, old: &Value) {
    keep(new, old, "status");
    drop_disabled(&mut new["spec"]);
}

/// `pods/status`: the class of a pod is the server's.
pub(super) fn status(new: &mut Value, old: &Value) {
    let status = new.ensure("status");
    if !status.has("qosClass") {
        keep(status, &old["status"], "qosClass");
    }
    // The owners of a pod are not the node's to change.
    let owners = old["metadata"].get("ownerReferences").cloned();
    let meta = new.ensure("metadata");
    match owners {
        Some(owners) => meta.put("ownerReferences", owners),
        None => drop(meta.cut("ownerReferences")),
    }
}

/// `pods/ephemeralcontainers` and `pods/resize`: nothing else changes, without a word.
pub(super) fn subresource(new: &mut Value, old: &Value, part: &str) {
    if part == "binding" {
        // The annotations and labels of a binding become the pod's.
        return;
    }
    own_metadata(new, old);
    match part {
        "ephemeralcontainers" => keep_all_but(new, old, &[&["spec", "ephemeralContainers"]]),
        "resize" => {
            let resized: Vec<(&str, Vec<Value>)> = ["containers", "initContainers"]
                .into_iter()
                .map(|list| (list, new["spec"][list].as_array().cloned().unwrap_or_default()))
                .collect();
            keep_all_but(new, old, &[]);
            for (list, containers) in resized {
                for container in new.ensure("spec").each(list) {
                    let name = container.text("name").to_owned();
                    if let Some(found) = containers.iter().find(|c| c.text("name") == name) {
                        keep(container, found, "resources");
                        keep(container, found, "resizePolicy");
                    }
                }
            }
        }
        _ => {}
    }
}

/// Fields behind gates that are off vanish without a word.
fn drop_disabled(spec: &mut Value) {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec.each(list) {
            let emptied = container.child("lifecycle").is_some_and(|lifecycle| {
                lifecycle.cut("stopSignal").is_some() && lifecycle.as_object().is_some_and(serde_json::Map::is_empty)
            });
            if emptied {
                container.cut("lifecycle");
            }
        }
    }
}

/// `matchLabelKeys` become requirements on the values that this pod has.
fn merge_label_keys(spec: &mut Value, labels: &Value) {
    for constraint in spec.each("topologySpreadConstraints") {
        merge_keys(constraint, "matchLabelKeys", "In", labels);
    }
    let Some(affinity) = spec.child("affinity") else { return };
    for side in ["podAffinity", "podAntiAffinity"] {
        let Some(side) = affinity.child(side) else { continue };
        for term in side.each("requiredDuringSchedulingIgnoredDuringExecution") {
            merge_keys(term, "matchLabelKeys", "In", labels);
            merge_keys(term, "mismatchLabelKeys", "NotIn", labels);
        }
        for preference in side.each("preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = preference.child("podAffinityTerm") {
                merge_keys(term, "matchLabelKeys", "In", labels);
                merge_keys(term, "mismatchLabelKeys", "NotIn", labels);
            }
        }
    }
}

fn merge_keys(term: &mut Value, field: &str, operator: &str, labels: &Value) {
    if !term.has("labelSelector") {
        return;
    }
    let keys = term.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let added: Vec<Value> = keys
        .iter()
        .filter_map(|key| {
            let value = labels.get(key.as_str()?)?;
            Some(json!({"key": key, "operator": operator, "values": [value]}))
        })
        .collect();
    if added.is_empty() {
        return;
    }
    let selector = term.ensure("labelSelector");
    let mut all = selector.get("matchExpressions").and_then(Value::as_array).cloned().unwrap_or_default();
    all.extend(added);
    selector.put("matchExpressions", all);
}

/// The old annotations become the fields that replaced them.
fn app_armor_from_annotations(pod: &mut Value) {
    let annotations = pod["metadata"].get("annotations").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, profile) in annotations {
        let Some(name) = key.strip_prefix(APP_ARMOR) else { continue };
        let profile = match profile.as_str().unwrap_or_default() {
            "runtime/default" => json!({"type": "RuntimeDefault"}),
            "unconfined" => json!({"type": "Unconfined"}),
            other => match other.strip_prefix("localhost/") {
                Some(name) => json!({"type": "Localhost", "localhostProfile": name}),
                None => continue,
            },
        };
        let spec = pod.ensure("spec");
        for list in ["containers", "initContainers"] {
            for container in spec.each(list).filter(|container| container.text("name") == name) {
                container.ensure("securityContext").default("appArmorProfile", profile.clone());
            }
        }
    }
}
