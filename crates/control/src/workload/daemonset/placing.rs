//! Whether a node is for the pods of a DaemonSet, and what makes a pod one for that node.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Toleration,
};
use kube::ResourceExt;

use crate::template;
use crate::workload::history::POD_REVISION;
use crate::workload::scheduler::{selects, taints, tolerates};

pub(super) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
pub(super) const TEMPLATE_GENERATION_LABEL: &str = "pod-template-generation";

/// What a pod of every node bears, because it belongs to the node.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const TOLERATED_ON_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Wanted,
    /// A pod that is there may stay; a new one would not be let in.
    Tolerated,
    Refused,
}

fn template_of(set: &DaemonSet) -> PodTemplateSpec {
    set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
}

pub(super) fn place(set: &DaemonSet, node: &Node) -> Place {
    let mut pod = template::pod(set, &template_of(set));
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    let is_elsewhere = spec.node_name.as_ref().is_some_and(|name| !name.is_empty() && *name != node.name_any());
    let tolerations = spec.tolerations.clone().unwrap_or_default();
    if is_elsewhere || !selects(&pod, node) {
        return Place::Refused;
    }
    let mut repelling = taints(node).into_iter().filter(|taint| !tolerates(&tolerations, taint)).peekable();
    if repelling.peek().is_none() {
        Place::Wanted
    } else if repelling.any(|taint| taint.effect == "NoExecute") {
        Place::Refused
    } else {
        Place::Tolerated
    }
}

/// The pod for one node. The scheduler binds it, as any other.
pub(super) fn pod(set: &DaemonSet, hash: &str, node: &str) -> Pod {
    let mut pod = template::pod(set, &template_of(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(POD_REVISION.to_owned(), hash.to_owned());
    if let Some(generation) = set.annotations().get(TEMPLATE_GENERATION) {
        labels.insert(TEMPLATE_GENERATION_LABEL.to_owned(), generation.clone());
    }
    let spec = pod.spec.get_or_insert_default();
    tolerate(spec);
    let is_this = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    // The node was chosen by what stood here.
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![is_this]) }],
    });
    pod
}

fn tolerate(spec: &mut PodSpec) {
    let on_host = (spec.host_network == Some(true)).then_some(TOLERATED_ON_HOST_NETWORK);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(on_host) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// The node that a pod is on, or was made for.
pub(super) fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.as_ref().filter(|name| !name.is_empty()) {
        return Some(name.clone());
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &affinity.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let mut fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    fields.find(|field| field.key == "metadata.name" && field.operator == "In")?.values.as_ref()?.first().cloned()
}
