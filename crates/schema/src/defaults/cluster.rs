//! Namespaces, nodes, limits and bindings.

use serde_json::{Value, json};

use super::pod;
use crate::edit::Edit;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";
const RBAC: &str = "rbac.authorization.k8s.io";

/// A namespace always carries its name as a label, whatever the manifest says.
pub(super) fn namespace(object: &mut Value) {
    let name = object["metadata"].text("name").to_owned();
    if !name.is_empty() {
        object.ensure("metadata").ensure("labels").put(NAME_LABEL, name);
    }
}

pub(super) fn node(object: &mut Value) {
    if let Some(spec) = object.child("spec") {
        match (spec.text("podCIDR").to_owned(), spec.holds("podCIDRs")) {
            (cidr, _) if !cidr.is_empty() && spec["podCIDRs"][0] != cidr => spec.put("podCIDRs", json!([cidr])),
            (cidr, true) if cidr.is_empty() => {
                let first = spec["podCIDRs"][0].clone();
                spec.put("podCIDR", first);
            }
            _ => {}
        }
    }
    if let Some(status) = object.child("status") {
        pod::round(status.child("capacity"));
        pod::round(status.child("allocatable"));
        if status.holds("capacity") && !status.holds("allocatable") {
            let capacity = status["capacity"].clone();
            status.put("allocatable", capacity);
        }
    }
}

/// Rounds the amounts at the end of a path.
pub(super) fn round_resources(object: &mut Value, path: &[&str]) {
    let list = path.iter().try_fold(object, |at, field| at.child(field));
    pod::round(list);
}

/// A container's default limit comes from its maximum, its default request from its default limit or its minimum.
pub(super) fn limit_range(object: &mut Value) {
    let Some(spec) = object.child("spec") else { return };
    for limit in spec.each("limits") {
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            pod::round(limit.child(list));
        }
        if limit.text("type") != "Container" {
            continue;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let Some(amounts) = limit.get(from).and_then(Value::as_object).cloned() else { continue };
            for (name, amount) in amounts {
                limit.ensure(to).default(&name, amount);
            }
        }
    }
}

pub(super) fn role_binding(object: &mut Value) {
    object.ensure("roleRef").default("apiGroup", RBAC);
    for subject in object.each("subjects") {
        let group = match subject.text("kind") {
            "User" | "Group" => RBAC,
            _ => continue,
        };
        subject.default("apiGroup", group);
    }
}

pub(super) fn priority_class(object: &mut Value) {
    object.default("preemptionPolicy", "PreemptLowerPriority");
}

pub(super) fn runtime_class(object: &mut Value) {
    round_resources(object, &["overhead", "podFixed"]);
}

/// Requests for devices want exactly one where they say nothing else.
pub(super) fn device_requests(spec: &mut Value) {
    let Some(devices) = spec.child("devices") else { return };
    for request in devices.each("requests") {
        if let Some(exactly) = request.child("exactly") {
            device_count(exactly);
        }
        request.each("firstAvailable").for_each(device_count);
    }
}

fn device_count(request: &mut Value) {
    request.default("allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" && !request.holds("count") {
        request.put("count", 1);
    }
}
