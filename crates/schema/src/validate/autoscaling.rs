//! HorizontalPodAutoscalers.

use std::collections::BTreeSet;

use super::check::Faults;
use super::cursor::At;
use super::names;
use super::quantities::amount;

const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

pub(crate) fn autoscaler(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let most = max.int_or(0);
    if min.int().is_some_and(|replicas| replicas < 1) {
        f.invalid(&min, "must be greater than or equal to 1");
    }
    if most < 1 {
        f.invalid_value(&max, most, "must be greater than 0");
    }
    if min.int().is_some_and(|replicas| most < replicas) {
        f.invalid_value(&max, most, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.get("scaleTargetRef");
    reference(f, &target);
    group_given(f, &target);
    if object.text("apiVersion") == "autoscaling/v1" {
        return cpu_percentage(f, &spec);
    }
    metrics(f, &spec);
    let behavior = spec.get("behavior");
    for rules in ["scaleUp", "scaleDown"].map(|name| behavior.get(name)) {
        if rules.is_set() {
            scaling_rules(f, &rules);
        }
    }
}

/// The first version knows one metric, which is shown where the second has it.
fn cpu_percentage(f: &mut Faults, spec: &At<'_>) {
    let percentage = spec.get("targetCPUUtilizationPercentage");
    if percentage.int().is_some_and(|percent| percent < 1) {
        let path = "spec.metrics[0].resource.target.averageUtilization";
        f.add(crate::fault::Fault::invalid(path, percentage.value.clone(), "must be greater than 0"));
    }
}

fn reference(f: &mut Faults, at: &At<'_>) {
    for field in ["kind", "name"].map(|name| at.get(name)) {
        if field.is_zero() {
            f.required(&field, "");
        } else {
            f.format(&field, names::path_segment);
        }
    }
}

fn group_given(f: &mut Faults, at: &At<'_>) {
    let version = at.get("apiVersion");
    if !version.str().contains('/') && at.text("kind") != "ReplicationController" {
        f.invalid_value(&version, version.str(), "apiVersion must specify API group");
    }
}

/// The sources a metric can have, in the order they are looked at: the name of the type, and its field.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

const METRIC_TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

fn metrics(f: &mut Faults, spec: &At<'_>) {
    let at = spec.get("metrics");
    let mut scales_to_zero = false;
    for metric in at.items() {
        metric_spec(f, &metric);
        scales_to_zero |= matches!(metric.text("type"), "Object" | "External");
    }
    if spec.get("minReplicas").int() == Some(0) && !scales_to_zero {
        f.forbidden(&at, "must specify at least one Object or External metric to support scaling to zero replicas");
    }
}

fn metric_spec(f: &mut Faults, metric: &At<'_>) {
    let kind = metric.get("type");
    if kind.is_zero() {
        f.required(&kind, "must specify a metric source type");
    }
    f.one_of(&kind, METRIC_TYPES);
    let mut present = BTreeSet::new();
    for (_, field) in SOURCES {
        if metric.has(field) && present.insert(field) && present.len() == 1 {
            metric_source(f, field, &metric.get(field));
        }
    }
    let Some((_, expected)) = SOURCES.iter().find(|(name, _)| *name == kind.str()) else {
        return f.unsupported(&kind, METRIC_TYPES);
    };
    if !metric.has(expected) {
        f.required(&metric.get(expected), "must populate information for the given metric source");
    }
    if present.len() != 1 {
        for field in present.iter().filter(|field| *field != expected) {
            f.forbidden(&metric.get(field), "must populate the given metric source only");
        }
    }
}

fn metric_source(f: &mut Faults, field: &str, at: &At<'_>) {
    let target = at.get("target");
    let (value, average, utilization) =
        (target.get("value"), target.get("averageValue"), target.get("averageUtilization"));
    match field {
        "object" => {
            reference(f, &at.get("describedObject"));
            metric_name(f, at);
            metric_target(f, &target);
            if !value.is_set() && !average.is_set() {
                f.required(&average, "must set either a target value or averageValue");
            }
        }
        "external" => {
            metric_name(f, at);
            metric_target(f, &target);
            match (value.is_set(), average.is_set()) {
                (true, true) => {
                    f.forbidden(&value, "may not set both a target value for metric and a per-pod target");
                }
                (false, false) => {
                    f.required(&average, "must set either a target value for metric or a per-pod target");
                }
                _ => {}
            }
        }
        "pods" => {
            metric_name(f, at);
            metric_target(f, &target);
            if !amount(&average).is_some_and(|amount| !amount.is_zero() && !amount.is_negative()) {
                f.required(&average, "must specify a positive target averageValue");
            }
        }
        _ => {
            if field == "containerResource" && at.get("container").is_zero() {
                f.required(&at.get("container"), "must specify a container");
            }
            if at.get("name").is_zero() {
                f.required(&at.get("name"), "must specify a resource name");
            }
            metric_target(f, &target);
            match (utilization.is_set(), average.is_set()) {
                (false, false) => {
                    f.required(&utilization, "must set either a target raw value or a target utilization");
                }
                (true, true) => {
                    f.forbidden(&average, "may not set both a target raw value and a target utilization");
                }
                _ => {}
            }
        }
    }
}

fn metric_name(f: &mut Faults, at: &At<'_>) {
    let name = at.dig(&["metric", "name"]);
    if name.is_zero() {
        f.required(&name, "must specify a metric name");
    } else {
        f.format(&name, names::path_segment);
    }
}

fn metric_target(f: &mut Faults, at: &At<'_>) {
    let kind = at.get("type");
    if kind.is_zero() {
        f.required(&kind, "must specify a metric target type");
    }
    if !matches!(kind.str(), "Utilization" | "Value" | "AverageValue") {
        f.invalid_value(&kind, kind.str(), "must be either Utilization, Value, or AverageValue");
    }
    for field in ["value", "averageValue"].map(|name| at.get(name)) {
        if amount(&field).is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            f.invalid(&field, "must be positive");
        }
    }
    let utilization = at.get("averageUtilization");
    if utilization.int().is_some_and(|percent| percent < 1) {
        f.invalid(&utilization, "must be greater than 0");
    }
}

fn scaling_rules(f: &mut Faults, at: &At<'_>) {
    let window = at.get("stabilizationWindowSeconds");
    match window.int() {
        Some(seconds) if seconds < 0 => f.invalid(&window, "must be greater than or equal to zero"),
        Some(seconds) if seconds > WINDOW_MAX => {
            f.invalid(&window, format!("must be less than or equal to {WINDOW_MAX}"));
        }
        _ => {}
    }
    f.optional_one_of(&at.get("selectPolicy"), &["Disabled", "Max", "Min"]);
    let policies = at.get("policies");
    if policies.is_zero() {
        f.required(&policies, "must specify at least one Policy");
    }
    for policy in policies.items() {
        f.one_of(&policy.get("type"), &["Percent", "Pods"]);
        for field in ["value", "periodSeconds"].map(|name| policy.get(name)) {
            if field.int_or(0) <= 0 {
                f.invalid_value(&field, field.int_or(0), "must be greater than zero");
            }
        }
        let period = policy.get("periodSeconds");
        if period.int_or(0) > PERIOD_MAX {
            f.invalid(&period, format!("must be less than or equal to {PERIOD_MAX}"));
        }
    }
}
