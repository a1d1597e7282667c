//! Namespaces and Nodes.

use std::collections::BTreeSet;

use super::check::Faults;
use super::cursor::At;
use super::{ip, names, pod, quantities};

pub(crate) fn namespace(f: &mut Faults, object: &At<'_>) {
    let finalizers = object.dig(&["spec", "finalizers"]);
    for finalizer in finalizers.items() {
        f.problems(&finalizers, finalizer.str(), names::qualified(finalizer.str()));
        if !names::is_known_finalizer(finalizer.str()) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            f.invalid_value(&finalizers, finalizer.str(), detail);
        }
    }
}

pub(crate) fn namespace_status(f: &mut Faults, new: &At<'_>) {
    let phase = new.dig(&["status", "phase"]);
    let shown = new.dig(&["status", "Phase"]).with(phase.value);
    if new.get("metadata").has("deletionTimestamp") {
        if phase.str() != "Terminating" {
            f.invalid(&shown, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
    } else if phase.str() != "Active" {
        f.invalid(&shown, "may only be 'Active' if `deletionTimestamp` is empty");
    }
}

pub(crate) fn node(f: &mut Faults, node: &At<'_>) {
    node_taints(f, node);
    for (name, amount) in node.dig(&["status", "capacity"]).entries() {
        quantities::resource_amount(f, &amount, name);
    }
    for cidr in node.dig(&["spec", "podCIDRs"]).items() {
        ip::cidr(f, &cidr);
    }
}

fn node_taints(f: &mut Faults, node: &At<'_>) {
    let taints = node.dig(&["spec", "taints"]);
    // The real server puts taints below the metadata.
    let at = node.dig(&["metadata", "taints"]).with(taints.value);
    let mut seen = BTreeSet::new();
    for taint in at.items() {
        f.format(&taint.get("key"), names::qualified);
        f.format(&taint.get("value"), names::label_value);
        if f.present(&taint.get("effect")) {
            pod::taint_effect(f, &taint.get("effect"));
        }
        if !seen.insert((taint.text("key"), taint.text("effect"))) {
            f.duplicate(&taint);
        }
    }
}

pub(crate) fn node_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    node(f, new);
    // As if it were new, and as a change.
    node_taints(f, new);
    let (new, old) = (new.get("spec"), old.get("spec"));
    for (field, name) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
        if !old.get(field).is_zero() && new.get(field).value != old.get(field).value {
            f.forbidden(&new.get(field), format!("node updates may not change {name} except from \"\" to valid"));
        }
    }
}
