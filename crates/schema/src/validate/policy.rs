//! Budgets, quotas, limits, priorities and runtime classes.

use std::collections::BTreeSet;

use super::check::{Faults, int_or_percent, not_more_than_100_percent};
use super::cursor::At;
use super::quantities::{self, amount};
use super::{meta, names, pod, selector};
use crate::fault::Fault;

pub(crate) fn disruption_budget(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let (available, unavailable) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if available.is_set() && unavailable.is_set() {
        let shown = crate::go::print("PodDisruptionBudgetSpec", spec.value);
        f.invalid_shown(&spec, &shown, "minAvailable and maxUnavailable cannot be both set");
    }
    for bound in [available, unavailable].iter().filter(|bound| bound.is_set()) {
        int_or_percent(f, bound);
        not_more_than_100_percent(f, bound);
    }
    selector::label_selector(f, &spec.get("selector"));
    f.optional_one_of(&spec.get("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
}

pub(crate) fn disruption_budget_status(f: &mut Faults, object: &At<'_>) {
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        f.not_negative(&object.get("status").get(field));
    }
}

pub(crate) fn resource_quota(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    for (name, quantity) in spec.get("hard").entries() {
        quantities::quota_resource_name(f, &quantity, name);
        quantities::resource_amount(f, &quantity, name);
    }
    scopes(f, &spec);
}

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// What a scope other than `BestEffort` can bound.
const OF_PODS: &[&str] = &["pods", "cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

fn scopes(f: &mut Faults, spec: &At<'_>) {
    let at = spec.get("scopes");
    if at.is_zero() {
        return;
    }
    let hard: Vec<&str> = spec.get("hard").entries().map(|(name, _)| name).collect();
    let mut seen = BTreeSet::new();
    for scope in at.list().iter().filter_map(|scope| scope.as_str()) {
        if !SCOPES.contains(&scope) {
            f.invalid(&at, "unsupported scope");
        }
        for name in &hard {
            let fits = match scope {
                "BestEffort" => *name == "pods",
                "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
                    OF_PODS.contains(name)
                }
                _ => true,
            };
            if !fits {
                f.invalid(&at, "unsupported scope applied to resource");
            }
        }
        seen.insert(scope);
    }
    for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
        if seen.contains(one) && seen.contains(other) {
            f.invalid(&at, "conflicting scopes");
        }
    }
}

pub(crate) fn limit_range(f: &mut Faults, object: &At<'_>) {
    let mut types = BTreeSet::new();
    for limit in object.dig(&["spec", "limits"]).items() {
        let kind = limit.get("type");
        limit_type(f, &kind);
        if !types.insert(kind.str()) {
            f.duplicate(&kind);
        }
        limit_range_item(f, &limit);
    }
}

fn limit_type(f: &mut Faults, at: &At<'_>) {
    let problems = names::qualified(at.str());
    let well_formed = problems.is_empty();
    f.problems(at, at.str(), problems);
    if well_formed && !at.str().contains('/') && !matches!(at.str(), "Pod" | "Container" | "PersistentVolumeClaim") {
        f.invalid(at, "must be a standard limit type or fully qualified");
    }
}

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn limit_range_item(f: &mut Faults, limit: &At<'_>) {
    let kind = limit.text("type");
    let mut named = BTreeSet::new();
    for list in LISTS {
        for (name, at) in limit.get(list).entries() {
            named.insert(name);
            limit_resource_name(f, &at, name, kind);
        }
    }
    if kind == "Pod" {
        for list in ["default", "defaultRequest"].map(|list| limit.get(list)) {
            if !list.is_zero() {
                f.forbidden(&list, "may not be specified when `type` is 'Pod'");
            }
        }
    }
    if kind == "PersistentVolumeClaim" {
        let bounded = ["min", "max"].iter().any(|list| limit.get(list).value.get("storage").is_some());
        if !bounded {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            f.required(&limit.get("limits"), detail);
        }
    }
    for name in named {
        bounds(f, limit, name);
    }
}

fn limit_resource_name(f: &mut Faults, at: &At<'_>, name: &str, kind: &str) {
    match kind {
        "Pod" | "Container" => quantities::container_resource_name(f, at, name),
        _ => quantities::resource_name(f, at, name),
    }
}

/// min <= default request <= default <= max, as far as they are there.
fn bounds<'v>(f: &mut Faults, limit: &At<'v>, name: &'v str) {
    let [max, min, default, request, ratio] = LISTS.map(|list| limit.get(list).key(name));
    let value = |at: &At<'_>| amount(at);
    // The lower and the upper, the place that is blamed, and whose value the message shows there.
    let order = [
        (&min, &max, &min, &min, "min value", "max value"),
        (&min, &request, &request, &request, "min value", "default request value"),
        (&request, &max, &request, &request, "default request value", "max value"),
        (&request, &default, &request, &request, "default request value", "default limit value"),
        (&min, &default, &default, &min, "min value", "default value"),
        (&default, &max, &default, &max, "default value", "max value"),
    ];
    for (low, high, blamed, shown, low_name, high_name) in order {
        let (Some(low), Some(high)) = (value(low), value(high)) else { continue };
        if low > high {
            let detail = format!("{low_name} {low} is greater than {high_name} {high}");
            let shown = value(shown).map(|amount| amount.to_string()).unwrap_or_default();
            f.add(Fault::invalid(blamed.path(), shown, detail));
        }
    }
    if let Some(found) = value(&ratio)
        && found < sluice_model::quantity::Quantity::whole(1)
    {
        f.invalid_value(&ratio, found.to_string(), format!("ratio {found} is less than 1"));
    }
}

const USER_PRIORITY_MAX: i64 = 1_000_000_000;

pub(crate) fn priority_class(f: &mut Faults, object: &At<'_>) {
    let name = object.dig(&["metadata", "name"]);
    if name.str().starts_with("system-") {
        if !matches!(name.str(), "system-cluster-critical" | "system-node-critical") {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {} is not a known system priority class",
                name.str()
            );
            f.forbidden(&name, detail);
        }
    } else if object.get("value").int_or(0) > USER_PRIORITY_MAX {
        let detail = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        f.forbidden(&object.get("value"), detail);
    }
    f.optional_one_of(&object.get("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
}

pub(crate) fn priority_class_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    if new.get("value").int_or(0) != old.get("value").int_or(0) {
        f.forbidden(&new.get("value"), "may not be changed in an update.");
    }
    f.immutable(&new.get("preemptionPolicy"), &old.get("preemptionPolicy"));
}

pub(crate) fn runtime_class(f: &mut Faults, object: &At<'_>) {
    f.format(&object.get("handler"), names::label);
    for (name, quantity) in object.dig(&["overhead", "podFixed"]).entries() {
        let at = object.dig(&["overhead", "limits"]).key(name).with(quantity.value);
        quantities::container_resource_name(f, &at, name);
        quantities::resource_amount(f, &at, name);
    }
    let scheduling = object.get("scheduling");
    meta::labels(f, &scheduling.get("nodeSelector"));
    pod::tolerations(f, &scheduling.get("tolerations"));
}

pub(crate) fn runtime_class_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    f.immutable(&new.get("handler"), &old.get("handler"));
}
