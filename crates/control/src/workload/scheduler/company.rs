//! Which pods a pod wants beside it, and which it does not. A topology of one machine is its node.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, PodAffinityTerm};
use kube::ResourceExt as _;

use super::super::claim;

/// The labels of a namespace.
pub(super) type NamespaceLabels<'a> = &'a dyn Fn(&str) -> BTreeMap<String, String>;

/// Why a node is the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwelcome {
    /// Those it wants are not there.
    Alone,
    /// Those it does not want are there.
    Averse,
    /// Those that are there do not want it.
    Unwanted,
}

impl Unwelcome {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Alone => "node(s) didn't match pod affinity rules",
            Self::Averse => "node(s) didn't match pod anti-affinity rules",
            Self::Unwanted => "node(s) didn't satisfy existing pods anti-affinity rules",
        }
    }
}

pub(super) fn check(
    pod: &Pod,
    node: &Node,
    neighbours: &[Arc<Pod>],
    labels: NamespaceLabels<'_>,
) -> Result<(), Unwelcome> {
    let has_topology = |term: &PodAffinityTerm| node.labels().contains_key(&term.topology_key);
    // A pod that wants its own kind may be the first.
    let is_there = |term: &PodAffinityTerm| {
        neighbours.iter().any(|other| means(term, pod, other, labels)) || means(term, pod, pod, labels)
    };
    if !wanted(pod).iter().all(|term| has_topology(term) && is_there(term)) {
        return Err(Unwelcome::Alone);
    }
    let is_averse = |term: &&PodAffinityTerm| neighbours.iter().any(|other| means(term, pod, other, labels));
    if unwanted(pod).iter().filter(|term| has_topology(term)).any(|term| is_averse(&term)) {
        return Err(Unwelcome::Averse);
    }
    let minds = |other: &Pod| {
        unwanted(other).iter().filter(|term| has_topology(term)).any(|term| means(term, other, pod, labels))
    };
    if neighbours.iter().any(|other| minds(other)) { Err(Unwelcome::Unwanted) } else { Ok(()) }
}

fn wanted(pod: &Pod) -> &[PodAffinityTerm] {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref());
    affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

fn unwanted(pod: &Pod) -> &[PodAffinityTerm] {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref());
    affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

/// Whether a term of `owner` is about `other`; without namespaces it is about those of the owner's own.
fn means(term: &PodAffinityTerm, owner: &Pod, other: &Pod, labels: NamespaceLabels<'_>) -> bool {
    let Some(selector) = &term.label_selector else { return false };
    let namespace = other.namespace().unwrap_or_default();
    let listed = term.namespaces.as_deref().unwrap_or_default();
    let is_in_reach = match &term.namespace_selector {
        None if listed.is_empty() => owner.namespace().unwrap_or_default() == namespace,
        None => listed.contains(&namespace),
        Some(selector) => {
            listed.contains(&namespace) || claim::matches(&claim::selector(selector), Some(&labels(&namespace)))
        }
    };
    is_in_reach && claim::matches(&claim::selector(selector), other.metadata.labels.as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(namespace: &str, app: &str, affinity: &Value) -> Pod {
        let metadata = json!({"name": app, "namespace": namespace, "labels": {"app": app}});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [], "affinity": affinity}})).unwrap()
    }

    fn beside(kind: &str, app: &str, more: &Value) -> Value {
        let mut term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"});
        term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    }

    fn check_beside(newcomer: &Pod, neighbour: Pod, expected: Result<(), Unwelcome>) {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "n"}}}))
                .unwrap();
        let labels = |namespace: &str| BTreeMap::from([("team".to_owned(), namespace.to_owned())]);
        assert_eq!(check(newcomer, &node, &[Arc::new(neighbour)], &labels), expected, "{newcomer:?}");
    }

    #[test]
    fn pods_choose_their_neighbours() {
        let (near, far, none) = ("podAffinity", "podAntiAffinity", json!({}));
        let web = || pod("x", "web", &none);
        let with = |kind: &str, app: &str, more: Value| pod("x", "web", &beside(kind, app, &more));
        check_beside(&with(near, "db", json!({})), web(), Err(Unwelcome::Alone));
        check_beside(&with(near, "web", json!({})), pod("x", "db", &none), Ok(()));
        check_beside(&with(near, "db", json!({})), pod("x", "db", &none), Ok(()));
        check_beside(
            &with(near, "db", json!({"topologyKey": "no-such"})),
            pod("x", "db", &none),
            Err(Unwelcome::Alone),
        );
        check_beside(&with(far, "web", json!({})), web(), Err(Unwelcome::Averse));
        check_beside(&with(far, "web", json!({"topologyKey": "no-such"})), web(), Ok(()));
        check_beside(&with(far, "db", json!({})), web(), Ok(()));
        check_beside(&web(), pod("x", "db", &beside(far, "web", &none)), Err(Unwelcome::Unwanted));
    }

    #[test]
    fn terms_reach_into_the_namespaces_they_name() {
        let other = || pod("y", "web", &json!({}));
        let averse = |more: Value| pod("x", "web", &beside("podAntiAffinity", "web", &more));
        check_beside(&averse(json!({})), other(), Ok(()));
        check_beside(&averse(json!({"namespaces": ["y"]})), other(), Err(Unwelcome::Averse));
        check_beside(&averse(json!({"namespaceSelector": {}})), other(), Err(Unwelcome::Averse));
        let team = |team: &str| json!({"namespaceSelector": {"matchLabels": {"team": team}}});
        check_beside(&averse(team("y")), other(), Err(Unwelcome::Averse));
        check_beside(&averse(team("z")), other(), Ok(()));
    }
}
