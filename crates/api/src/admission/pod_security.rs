//! Pods keep to the Pod Security Standards that the labels of their namespace name.

use std::collections::BTreeMap;

use serde_json::Value;
use sluice_model::pod_security::{Policy, Standard, reasons, summary};

use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::storage::scope;

/// Pods that are looked at when a namespace becomes stricter.
const PODS_LOOKED_AT: usize = 3000;
/// What a pod may change without being looked at again.
const HARMLESS: [&str; 3] = ["activeDeadlineSeconds", "tolerations", "schedulingGates"];

/// Refuses pods, and warns of templates and of what a namespace holds already.
pub(super) fn check(call: &Call, before: Option<&Value>, object: &Value) -> Result<(), Refusal> {
    let (kind, subresource) = (call.kind(), call.target.subresource.as_deref());
    if kind.is("", "Pod") {
        let is_looked_at = match (before, subresource) {
            (None, None) | (Some(_), Some("ephemeralcontainers")) => true,
            (Some(before), None) => harmful(&before["spec"]) != harmful(&object["spec"]),
            _ => false,
        };
        return if is_looked_at { check_pod(call, object) } else { Ok(()) };
    }
    if subresource.is_some() {
        return Ok(());
    }
    if let Some(template) = template(kind.kind.as_str(), object) {
        let policy = policy(call);
        warn(call, &policy.warn, &template["metadata"], &template["spec"]);
    }
    if let Some(before) = before.filter(|_| kind.is("", "Namespace")) {
        warn_of_pods(call, &Policy::of(before).enforce, &Policy::of(object).enforce);
    }
    Ok(())
}

fn harmful(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        HARMLESS.iter().for_each(|field| drop(fields.remove(*field)));
    }
    spec
}

/// The pod template of a workload.
fn template<'a>(kind: &str, object: &'a Value) -> Option<&'a Value> {
    let template = match kind {
        "Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet" | "DaemonSet" | "Job" => {
            &object["spec"]["template"]
        }
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        "PodTemplate" => &object["template"],
        _ => return None,
    };
    (!template.is_null()).then_some(template)
}

fn policy(call: &Call) -> Policy {
    let kinds = call.server.registry().kinds();
    let kind = kinds.find("", "v1", "namespaces").expect("namespaces are built in");
    let namespace = call.server.storage().get_by(&kind, "", call.namespace());
    Policy::of(&namespace.map(|entry| entry.to_value()).unwrap_or_default())
}

fn check_pod(call: &Call, pod: &Value) -> Result<(), Refusal> {
    let Policy { enforce, warn: advice } = policy(call);
    let found = enforce.violations(&pod["metadata"], &pod["spec"]);
    if !found.is_empty() {
        let why = format!("violates PodSecurity \"{enforce}\": {}", summary(&found));
        return Err(Refusal::forbidden(call.kind(), pod.name(), why));
    }
    warn(call, &advice, &pod["metadata"], &pod["spec"]);
    Ok(())
}

fn warn(call: &Call, standard: &Standard, metadata: &Value, spec: &Value) {
    let found = standard.violations(metadata, spec);
    if !found.is_empty() {
        call.notices.add(format!("would violate PodSecurity \"{standard}\": {}", summary(&found)));
    }
}

/// Pods that are there stay, so a stricter standard is only said to be violated.
fn warn_of_pods(call: &Call, before: &Standard, now: &Standard) {
    if !now.is_stricter_than(before) {
        return;
    }
    let name = call.name();
    let kinds = call.server.registry().kinds();
    let pods = call.server.storage().all(&scope(&kinds.find("", "v1", "pods").expect("pods are built in"), name));
    let mut violating: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in pods.iter().take(PODS_LOOKED_AT) {
        let pod = entry.value();
        let found = now.violations(&pod["metadata"], &pod["spec"]);
        if !found.is_empty() {
            violating.entry(reasons(&found)).or_default().push(pod.name().to_owned());
        }
    }
    if pods.len() > PODS_LOOKED_AT {
        call.notices.add(format!(
            "new PodSecurity enforce level only checked against the first {PODS_LOOKED_AT} of {} existing pods",
            pods.len()
        ));
    }
    if violating.is_empty() {
        return;
    }
    call.notices
        .add(format!("existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{now}\""));
    let mut lines: Vec<_> = violating.into_iter().map(|(reasons, names)| line(&names, &reasons)).collect();
    lines.sort();
    lines.into_iter().for_each(|line| call.notices.add(line));
}

/// `a (and 1 other pod): privileged`
fn line(names: &[String], reasons: &str) -> String {
    let others = match names.len() {
        1 => String::new(),
        2 => " (and 1 other pod)".to_owned(),
        many => format!(" (and {} other pods)", many - 1),
    };
    format!("{}{others}: {reasons}", names[0])
}
