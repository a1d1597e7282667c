//! What may change on a pod that exists.

use serde_json::Value;

use super::super::check::{Faults, IMMUTABLE};
use super::super::cursor::At;
use super::super::ip;
use super::super::names;

const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A pod written as a whole.
pub(crate) fn whole(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    super::whole(f, new);
    let (spec, before) = (new.get("spec"), old.get("spec"));
    if spec.get("containers").list().len() != before.get("containers").list().len() {
        return f.forbidden(&spec.get("containers"), "pod updates may not add or remove containers");
    }
    if spec.get("initContainers").list().len() != before.get("initContainers").list().len() {
        return f.forbidden(&spec.get("initContainers"), "pod updates may not add or remove containers");
    }
    for list in ["containers", "initContainers"] {
        for container in spec.get(list).items() {
            if container.get("image").is_zero() {
                f.required(&container.get("image"), "");
            }
        }
    }
    deadline(f, &spec.get("activeDeadlineSeconds"), &before.get("activeDeadlineSeconds"));
    only_added_tolerations(f, &spec.get("tolerations"), &before.get("tolerations"));
    let gated = !before.get("schedulingGates").is_zero();
    only_removed_gates(f, &spec.get("schedulingGates"), &before.get("schedulingGates"));
    if gated {
        only_narrower_placement(f, &spec, &before);
    }
    let allowed = with_allowed_changes(spec.value, before.value, gated);
    if allowed != *before.value {
        f.forbidden(&spec, format!("{ONLY}\n{}", crate::go::diff("PodSpec", before.value, &allowed)));
    }
}

fn deadline(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    match (new.int(), old.int()) {
        (Some(seconds), _) if seconds < 0 || seconds > i64::from(i32::MAX) => {
            f.invalid(new, "must be between 0 and 2147483647, inclusive");
        }
        (Some(seconds), Some(before)) if seconds > before => {
            f.invalid(new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => f.invalid(new, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn only_added_tolerations(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration.as_object_mut().map(|map| map.remove("tolerationSeconds"));
        toleration
    };
    let new_ones: Vec<Value> = new.list().iter().map(without_seconds).collect();
    if !old.list().iter().map(without_seconds).all(|toleration| new_ones.contains(&toleration)) {
        f.forbidden(new, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn only_removed_gates(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    for gate in new.items() {
        if !old.list().iter().any(|before| before["name"] == gate.value["name"]) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.text("name"));
            f.forbidden(&gate.get("name"), detail);
        }
    }
}

/// A pod that waits may be told more narrowly where to run.
fn only_narrower_placement(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (selector, before) = (new.get("nodeSelector"), old.get("nodeSelector"));
    let kept = before.map().into_iter().flatten().all(|(key, value)| selector.value.get(key) == Some(value));
    if !kept {
        f.invalid(&selector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    }
}

/// The new specification with everything put back that may change: equal to the old one if nothing else did.
fn with_allowed_changes(new: &Value, old: &Value, gated: bool) -> Value {
    let mut allowed = new.clone();
    let Some(spec) = allowed.as_object_mut() else { return allowed };
    let mut put_back = |field: &str| match old.get(field) {
        Some(value) => spec.insert(field.to_owned(), value.clone()),
        None => spec.remove(field),
    };
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        put_back(field);
    }
    if gated {
        put_back("nodeSelector");
        put_back("affinity");
    }
    let grace = |spec: &Value| spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    if grace(old) < 0 && grace(new) == 1 {
        put_back("terminationGracePeriodSeconds");
    }
    for list in ["containers", "initContainers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for (index, container) in containers.iter_mut().enumerate() {
            if let (Some(container), Some(image)) =
                (container.as_object_mut(), old.get(list).and_then(|list| list.get(index)?.get("image")))
            {
                container.insert("image".to_owned(), image.clone());
            }
        }
    }
    allowed
}

/// `pods/status`
pub(crate) fn status(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    if spec.get("nodeName").value != before.get("nodeName").value {
        f.forbidden(&new.dig(&["status", "nodeName"]), "may not be changed directly");
    }
    let status = new.get("status");
    let nominated = status.get("nominatedNodeName");
    f.optional_format(&nominated, names::subdomain);
    let (class, class_before) = (status.get("qosClass"), old.dig(&["status", "qosClass"]));
    for address in status.get("podIPs").items() {
        let at = address.with(address.get("ip").value);
        ip::address(f, &at);
    }
    if class.value != class_before.value {
        f.invalid(&class, IMMUTABLE);
    }
}

/// `pods/ephemeralcontainers`: containers may be added, those there stay as they are.
pub(crate) fn ephemeral_containers(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    super::whole(f, new);
    let at = new.dig(&["spec", "ephemeralContainers"]);
    let before = old.dig(&["spec", "ephemeralContainers"]);
    for container in before.items() {
        let name = container.text("name");
        match at.list().iter().find(|now| now["name"] == name) {
            None => f.forbidden(&at, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(now) if now != container.value => {
                let diff = crate::go::diff("EphemeralContainer", container.value, now);
                f.forbidden(&at, format!("existing ephemeral containers {name:?} may not be changed\n{diff}"));
            }
            Some(_) => {}
        }
    }
}

/// `pods/resize`: only cpu and memory.
pub(crate) fn resize(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    super::whole(f, new);
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let (class, class_before) = (crate::prepare::qos_class(spec.value), crate::prepare::qos_class(before.value));
    if class != class_before {
        f.invalid_value(&spec, class_before, "Pod QOS Class may not change as a result of resizing");
    }
    let mut others_changed = false;
    for (container, old_container) in spec.get("containers").items().zip(before.get("containers").items()) {
        for list in ["requests", "limits"] {
            let at = container.dig(&["resources", list]);
            let was = old_container.dig(&["resources", list]);
            let removed = was
                .map()
                .into_iter()
                .flatten()
                .any(|(name, _)| matches!(name.as_str(), "cpu" | "memory") && at.value.get(name).is_none());
            if removed {
                f.forbidden(&at, format!("resource {list} cannot be removed"));
            }
            let others = |value: &Value| {
                let mut map = value.as_object().cloned().unwrap_or_default();
                map.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
                map
            };
            others_changed |= others(at.value) != others(was.value);
        }
    }
    if others_changed {
        f.forbidden(&spec, "only cpu and memory resources are mutable");
    }
}
