//! What single kinds do differently, as data: facts that no published schema holds.

use serde_json::{Value, json};
use sluice_schema::Kind;

use crate::object::Object;
use crate::random;
use crate::request::Propagation;

/// Kinds whose objects a PUT makes when they are not there.
pub(crate) fn put_creates(kind: &Kind) -> bool {
    matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("", "Endpoints" | "Event" | "LimitRange" | "Service")
            | ("events.k8s.io", "Event")
            | ("coordination.k8s.io", "Lease")
            | ("rbac.authorization.k8s.io", _)
            | ("node.k8s.io", "RuntimeClass")
    )
}

/// Kinds that a PUT may replace without saying which revision it saw.
pub(crate) fn unconditional_update(kind: &Kind) -> bool {
    let group = kind.group.as_str();
    let always_named = matches!(group, "coordination.k8s.io" | "apiextensions.k8s.io");
    kind.custom.is_none() && !always_named && !kind.is("policy", "PodDisruptionBudget")
}

/// Kinds whose deletion is answered with the object although it is gone.
pub(crate) fn delete_answers_object(kind: &Kind) -> bool {
    matches!(
        (kind.group.as_str(), kind.kind.as_str()),
        ("", "Pod" | "Service" | "ServiceAccount" | "ResourceQuota" | "PersistentVolume" | "PersistentVolumeClaim")
            | ("storage.k8s.io", _)
    )
}

/// Jobs of before propagation policies keep their pods when nobody says otherwise.
pub(crate) fn default_propagation(kind: &Kind) -> Option<Propagation> {
    kind.is("batch", "Job").then_some(Propagation::Orphan)
}

/// Kinds that are told of their end before it comes.
pub(crate) fn graceful(kind: &Kind) -> bool {
    kind.is("", "Pod")
}

/// What callers of a kind are told whatever they do with it.
pub(crate) fn deprecation(kind: &Kind) -> Option<&str> {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Endpoints") => Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        ("", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => kind.custom.as_ref().and_then(|custom| custom.deprecation.as_deref()),
    }
}

/// What somebody is told who deletes an object of a kind without a policy.
pub(crate) fn deletion_notice(kind: &Kind) -> Option<&'static str> {
    kind.is("batch", "Job").then_some(
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set \
         propagationPolicy=Orphan to suppress this warning",
    )
}

/// The grace of a deletion; `None` for kinds that know none.
pub(crate) fn grace(kind: &Kind, live: &Value, asked: Option<i64>) -> Option<i64> {
    if kind.is("", "Namespace") || is_definition(kind) {
        return None;
    }
    if !graceful(kind) {
        return Some(0);
    }
    let phase = live.text("/status/phase");
    let spec = live["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    if live.text("/spec/nodeName").is_empty() || matches!(phase, "Succeeded" | "Failed") || spec == 0 {
        return Some(0);
    }
    let asked = asked.unwrap_or(spec);
    // A negative grace means: at once, but by the way of an ordinary deletion.
    Some(if asked < 0 { 1 } else { asked })
}

/// Finalizer of definitions: their objects go first.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(crate) fn is_definition(kind: &Kind) -> bool {
    kind.is("apiextensions.k8s.io", "CustomResourceDefinition")
}

/// What a kind notes in itself when it is being deleted.
pub(crate) fn mark_deleted(kind: &Kind, object: &mut Value) {
    if kind.is("", "Namespace") {
        object["status"]["phase"] = json!("Terminating");
    }
    if is_definition(kind) {
        let mut finalizers = object.finalizers();
        if !finalizers.iter().any(|finalizer| finalizer == CLEANUP) {
            finalizers.push(CLEANUP.to_owned());
        }
        object.set_meta("finalizers", finalizers);
        set_condition(
            object,
            "Terminating",
            true,
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        );
    }
}

/// Sets a condition in the status; its time moves only when it turns.
pub(crate) fn set_condition(object: &mut Value, kind: &str, holds: bool, reason: &str, message: &str) {
    let status = if holds { "True" } else { "False" };
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let list = conditions.as_array_mut().expect("it was just made a list");
    let at = list.iter().position(|condition| condition["type"] == kind);
    let since = match at.map(|at| &list[at]) {
        Some(old) if old["status"] == status => old["lastTransitionTime"].clone(),
        _ => json!(random::now()),
    };
    let new =
        json!({"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message});
    match at {
        Some(at) => list[at] = new,
        None => list.push(new),
    }
}

/// Whether something other than finalizers in the metadata still holds the object.
pub(crate) fn held(kind: &Kind, object: &Value) -> bool {
    kind.is("", "Namespace") && object["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

/// The key that the real server would have kept the object under; conflicts print it.
pub(crate) fn registry_key(kind: &Kind, namespace: &str, name: &str) -> String {
    let resource = match kind.plural.as_str() {
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        plural => plural,
    };
    if kind.namespaced {
        format!("/registry/{resource}/{namespace}/{name}")
    } else {
        format!("/registry/{resource}/{name}")
    }
}
