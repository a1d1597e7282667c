//! Deployments, ReplicaSets and ReplicationControllers.

use serde_json::Value;

use super::check::{Faults, int_or_percent, not_more_than_100_percent, percent_of};
use super::cursor::At;
use super::{pod, selector};

pub(crate) fn deployment(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    f.not_negative(&spec.get("replicas"));
    selector_of_template(f, &spec, |f, template| replicated_template(f, template, "ReplicaSet"));
    strategy(f, &spec.get("strategy"));
    f.not_negative(&spec.get("minReadySeconds"));
    f.not_negative(&spec.get("revisionHistoryLimit"));
    let deadline = spec.get("progressDeadlineSeconds");
    f.not_negative(&deadline);
    if deadline.int().is_some_and(|seconds| seconds <= spec.get("minReadySeconds").int_or(0)) {
        f.invalid(&deadline, "must be greater than minReadySeconds");
    }
}

pub(crate) fn deployment_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    deployment(f, new);
    immutable_selector(f, new, old);
}

pub(crate) fn immutable_selector(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (new, old) = (new.dig(&["spec", "selector"]), old.dig(&["spec", "selector"]));
    f.immutable_shown(&new, &old, selector::show);
}

/// `selector` must be there, be sound, select something, and fit the template; then the template itself.
pub(super) fn selector_of_template(f: &mut Faults, spec: &At<'_>, template: impl FnOnce(&mut Faults, &At<'_>)) {
    let at = spec.get("selector");
    if !at.is_set() {
        f.required(&at, "");
    } else {
        selector::label_selector(f, &at);
        if selector::is_empty(&at) {
            f.invalid_shown(&at, "{}", "empty selector is invalid for deployment");
        }
    }
    if !selector::is_well_formed(&at) {
        return f.invalid_shown(&at, &selector::show(at.value), "invalid label selector");
    }
    matches_template(f, spec, at.value);
    template(f, &spec.get("template"));
}

/// The labels of the template must be selected by `selector`.
pub(super) fn matches_template(f: &mut Faults, spec: &At<'_>, selector: &Value) {
    let labels = spec.dig(&["template", "metadata", "labels"]);
    // No selector at all selects nothing, an empty one everything.
    let fits = !selector.is_null() && selector::selects(selector, labels.map());
    if !fits {
        f.invalid(&labels, "`selector` does not match template `labels`");
    }
}

/// A template whose pods are kept running for ever.
pub(super) fn replicated_template(f: &mut Faults, template: &At<'_>, owner: &str) {
    pod::template(f, template);
    always_restarted(f, template, owner);
}

pub(super) fn always_restarted(f: &mut Faults, template: &At<'_>, owner: &str) {
    let spec = template.get("spec");
    let policy = spec.get("restartPolicy");
    if policy.str() != "Always" {
        f.add(crate::fault::Fault::unsupported(policy.path(), policy.str(), &["Always"]));
    }
    if spec.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {owner} is not Supported");
        f.forbidden(&spec.get("activeDeadlineSeconds"), detail);
    }
}

fn strategy(f: &mut Faults, at: &At<'_>) {
    let rolling = at.get("rollingUpdate");
    match at.text("type") {
        "Recreate" if rolling.is_set() => {
            f.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.is_set() => f.required(&rolling, "this should be defaulted and never be nil"),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            int_or_percent(f, &unavailable);
            int_or_percent(f, &surge);
            if is_nothing(&unavailable) && is_nothing(&surge) {
                f.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
            }
            not_more_than_100_percent(f, &unavailable);
        }
        _ => {
            let shown = crate::go::print("DeploymentStrategy", at.value);
            f.unsupported_shown(at, &shown, &["Recreate", "RollingUpdate"]);
        }
    }
}

/// `0`, `0%`, or nothing that can be read.
pub(super) fn is_nothing(at: &At<'_>) -> bool {
    match at.value {
        Value::String(_) => percent_of(at).is_none_or(|percent| percent == 0),
        _ => at.int_or(0) == 0,
    }
}

const ABOVE_REPLICAS: &str = "cannot be greater than status.replicas";

pub(crate) fn deployment_status(f: &mut Faults, object: &At<'_>) {
    let fields = ["observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas"];
    counters(f, object, &fields, &["unavailableReplicas", "collisionCount"], &fields[2..]);
}

pub(crate) fn replica_set_status(f: &mut Faults, object: &At<'_>) {
    let fields = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    counters(f, object, &fields, &[], &fields[1..4]);
}

/// Counters are not negative, and parts are not more than the whole.
pub(super) fn counters(
    f: &mut Faults,
    object: &At<'_>,
    fields: &[&'static str],
    more: &[&'static str],
    parts: &[&'static str],
) {
    let status = object.get("status");
    for field in fields.iter().chain(more) {
        f.not_negative(&status.get(field));
    }
    let count = |field| status.get(field).int_or(0);
    for field in parts {
        if count(field) > count("replicas") {
            f.invalid_value(&status.get(field), count(field), ABOVE_REPLICAS);
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let at = status.get("availableReplicas");
        f.invalid_value(&at, at.int_or(0), "cannot be greater than readyReplicas");
    }
}

pub(crate) fn replica_set(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    f.not_negative(&spec.get("replicas"));
    f.not_negative(&spec.get("minReadySeconds"));
    selector_of_template(f, &spec, |f, template| replicated_template(f, template, "ReplicaSet"));
}

pub(crate) fn replica_set_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    replica_set(f, new);
    immutable_selector(f, new, old);
}

pub(crate) fn replication_controller(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    f.not_negative(&spec.get("minReadySeconds"));
    let selector = spec.get("selector");
    if selector.is_zero() {
        f.required(&selector, "");
    }
    f.not_negative(&spec.get("replicas"));
    let template = spec.get("template");
    if !template.is_set() {
        return f.required(&template, "");
    }
    matches_template(f, &spec, &serde_json::json!({"matchLabels": selector.value}));
    replicated_template(f, &template, "ReplicationController");
}
