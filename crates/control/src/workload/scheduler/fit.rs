//! Whether a node takes a pod, and in the scheduler's words why not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};
use kube::ResourceExt;
use sluice_model::quantity::Quantity;

use super::super::claim;
use super::company::{self, NamespaceLabels, Unwelcome};
use super::requests;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    reason: String,
    /// Other pods are in the way, not the node itself.
    is_crowded: bool,
}

/// The first kind of obstacle ends the search, as in the original: users know these messages.
pub(super) fn check(
    pod: &Pod,
    node: &Node,
    neighbours: &[Arc<Pod>],
    labels: NamespaceLabels<'_>,
) -> Result<(), Vec<Misfit>> {
    let hard = |reason: String| Err(vec![Misfit { reason, is_crowded: false }]);
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    if is_cordoned(node) && !tolerates(tolerations, &taint("node.kubernetes.io/unschedulable", "NoSchedule")) {
        return hard("node(s) were unschedulable".to_owned());
    }
    if let Some(taint) = taints(node).into_iter().find(|taint| !tolerates(tolerations, taint)) {
        let value = taint.value.unwrap_or_default();
        return hard(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key));
    }
    if !selects(pod, node) {
        return hard("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    let crowding = crowding(pod, node, neighbours);
    if !crowding.is_empty() {
        return Err(crowding);
    }
    if let Some(misfit) = uneven(pod, node, neighbours) {
        return Err(vec![misfit]);
    }
    company::check(pod, node, neighbours, labels).map_err(|unwelcome| {
        // Whom it misses would not come if others went.
        let is_crowded = unwelcome != Unwelcome::Alone;
        vec![Misfit { reason: unwelcome.reason().to_owned(), is_crowded }]
    })
}

/// `0/1 nodes are available: 1 Insufficient cpu. ...`
pub(super) fn explain(nodes: usize, misfits: &[Misfit]) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    misfits.iter().for_each(|misfit| *counts.entry(&misfit.reason).or_default() += 1);
    let mut reasons: Vec<_> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    let crowded = misfits.iter().filter(|misfit| misfit.is_crowded).count().min(nodes);
    let mut preemption = Vec::new();
    if crowded > 0 {
        preemption.push(format!("{crowded} No preemption victims found for incoming pod"));
    }
    if crowded < nodes {
        preemption.push(format!("{} Preemption is not helpful for scheduling", nodes - crowded));
    }
    let (reasons, preemption) = (reasons.join(", "), preemption.join(", "));
    format!(
        "0/{nodes} nodes are available: {reasons}. no new claims to deallocate, \
         preemption: 0/{nodes} nodes are available: {preemption}."
    )
}

pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

/// Those that keep pods away. Nobody else taints a node that is not ready, so that counts as one.
pub(in super::super) fn taints(node: &Node) -> Vec<Taint> {
    let spoken = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).cloned();
    let unready = (!is_ready(node)).then(|| taint("node.kubernetes.io/not-ready", "NoSchedule"));
    spoken.chain(unready).filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute").collect()
}

fn taint(key: &str, effect: &str) -> Taint {
    Taint { key: key.to_owned(), effect: effect.to_owned(), ..Taint::default() }
}

pub(in super::super) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let key = toleration.key.as_deref().unwrap_or_default();
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let value = || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
        let is_any = toleration.operator.as_deref() == Some("Exists");
        (key.is_empty() || key == taint.key) && (effect.is_empty() || effect == taint.effect) && (is_any || value())
    })
}

pub(in super::super) fn selects(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.labels();
    if spec.node_selector.iter().flatten().any(|(name, value)| labels.get(name) != Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| holds(term, node)))
}

fn holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.labels();
    let name = node.name_any();
    let by_label = term.match_expressions.iter().flatten();
    let by_field = term.match_fields.iter().flatten();
    let is_empty = term.match_expressions.is_none() && term.match_fields.is_none();
    !is_empty
        && by_label.into_iter().all(|it| agrees(it, labels.get(&it.key).map(String::as_str)))
        && by_field.into_iter().all(|it| it.key == "metadata.name" && agrees(it, Some(&name)))
}

fn agrees(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let is_listed = || value.is_some_and(|value| values.iter().any(|listed| listed == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let limit = number(values.first().map(String::as_str));
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(limit).is_some_and(|(value, limit)| value > limit),
        "Lt" => number(value).zip(limit).is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}

/// Host ports and resources that others have taken already, or that the node never had.
fn crowding(pod: &Pod, node: &Node, neighbours: &[Arc<Pod>]) -> Vec<Misfit> {
    let taken: BTreeSet<_> = neighbours.iter().flat_map(|pod| host_ports(pod)).collect();
    if host_ports(pod).iter().any(|port| taken.contains(port)) {
        let reason = "node(s) didn't have free ports for the requested pod ports".to_owned();
        return vec![Misfit { reason, is_crowded: true }];
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let allocatable = allocatable.map(requests::parse).unwrap_or_default();
    let mut used = requests::Amounts::new();
    neighbours.iter().for_each(|pod| requests::add(&mut used, &requests::of(pod)));
    let mut misfits = Vec::new();
    let room = allocatable.get("pods").map_or(i64::MAX, |pods| pods.value());
    if i64::try_from(neighbours.len()).unwrap_or(i64::MAX) >= room {
        misfits.push(Misfit { reason: "Too many pods".to_owned(), is_crowded: true });
    }
    let nothing = Quantity::whole(0);
    for (name, wanted) in requests::of(pod).into_iter().filter(|(_, wanted)| !wanted.is_zero()) {
        let whole = allocatable.get(&name).copied().unwrap_or(nothing);
        let free = whole - used.get(&name).copied().unwrap_or(nothing);
        if wanted > free {
            misfits.push(Misfit { reason: format!("Insufficient {name}"), is_crowded: wanted <= whole });
        }
    }
    misfits
}

fn host_ports(pod: &Pod) -> Vec<(i32, String)> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let named = ports.filter_map(|port| Some((port.host_port?, port.protocol.clone().unwrap_or_default())));
    named.filter(|(port, _)| *port != 0).collect()
}

/// On one machine every spread is even, unless there are to be more domains: those that are not there are empty. A label that
/// the node lacks holds a pod back in any case. Which nodes count as domains is no question where there is one.
fn uneven(pod: &Pod, node: &Node, neighbours: &[Arc<Pod>]) -> Option<Misfit> {
    let constraints = pod.spec.iter().flat_map(|spec| spec.topology_spread_constraints.iter().flatten());
    let hard: Vec<_> = constraints.filter(|constraint| constraint.when_unsatisfiable == "DoNotSchedule").collect();
    let uneven = "node(s) didn't match pod topology spread constraints";
    if hard.iter().any(|constraint| !node.labels().contains_key(&constraint.topology_key)) {
        return Some(Misfit { reason: format!("{uneven} (missing required label)"), is_crowded: false });
    }
    let mut lonely = hard.iter().filter(|constraint| constraint.min_domains.is_some_and(|domains| domains > 1));
    let crowded = lonely.any(|constraint| {
        let selector = constraint.label_selector.as_ref().map(claim::selector);
        let counts = |other: &Pod| {
            let chosen = selector.as_ref().is_some_and(|it| claim::matches(it, other.metadata.labels.as_ref()));
            chosen && other.metadata.namespace == pod.metadata.namespace && other.metadata.deletion_timestamp.is_none()
        };
        let here = neighbours.iter().filter(|other| counts(other)).count() + usize::from(counts(pod));
        here > usize::try_from(constraint.max_skew).unwrap_or(0)
    });
    crowded.then(|| Misfit { reason: uneven.to_owned(), is_crowded: true })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd", "cores": "4", "kubernetes.io/hostname": "n"}},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"},
                       "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap()
    }

    fn pod(spec: &Value) -> Pod {
        let mut spec = spec.clone();
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "x", "labels": {"app": "p"}}, "spec": spec}),
        )
        .unwrap()
    }

    fn asking(cpu: &str, memory: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
    }

    fn check_on(node: &Node, spec: &Value, neighbours: &[Value], expected: &str) {
        let neighbours: Vec<_> = neighbours.iter().map(|spec| Arc::new(pod(spec))).collect();
        let found = match check(&pod(spec), node, &neighbours, &|_| BTreeMap::new()) {
            Ok(()) => "fits".to_owned(),
            Err(misfits) => explain(1, &misfits),
        };
        let expected = match expected {
            "fits" => expected.to_owned(),
            reason => {
                let (reason, preemption) = match reason.strip_prefix("crowded: ") {
                    Some(reason) => (reason, "No preemption victims found for incoming pod"),
                    None => (reason, "Preemption is not helpful for scheduling"),
                };
                format!(
                    "0/1 nodes are available: {reason}. no new claims to deallocate, \
                     preemption: 0/1 nodes are available: 1 {preemption}."
                )
            }
        };
        assert_eq!(found, expected, "{spec}");
    }

    #[test]
    fn resources_are_counted_with_the_neighbours() {
        let node = node();
        check_on(&node, &asking("2", "1Gi"), &[], "fits");
        check_on(&node, &asking("5k", "500Ti"), &[], "1 Insufficient cpu, 1 Insufficient memory");
        check_on(&node, &asking("1500m", "0"), &[asking("600m", "0")], "crowded: 1 Insufficient cpu");
        check_on(&node, &asking("0", "0"), &[json!({}), json!({}), json!({})], "crowded: 1 Too many pods");
        let gpu = json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1"}}}]});
        check_on(&node, &gpu, &[], "1 Insufficient example.com/gpu");
        let port =
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]}]});
        let taken = "crowded: 1 node(s) didn't have free ports for the requested pod ports";
        check_on(&node, &port, std::slice::from_ref(&port), taken);
    }

    #[test]
    fn labels_and_taints_choose() {
        let misfit = "1 node(s) didn't match Pod's node affinity/selector";
        let requires = |key: &str, operator: &str, values: &[&str]| {
            let term = json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
            json!({"affinity": {"nodeAffinity":
                {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}})
        };
        let mut node = node();
        check_on(&node, &json!({"nodeSelector": {"disk": "ssd"}}), &[], "fits");
        check_on(&node, &json!({"nodeSelector": {"no": "such"}}), &[], misfit);
        check_on(&node, &requires("no", "Exists", &[]), &[], misfit);
        check_on(&node, &requires("disk", "In", &["hdd", "ssd"]), &[], "fits");
        check_on(&node, &requires("cores", "Gt", &["3"]), &[], "fits");
        check_on(&node, &requires("cores", "Lt", &["4"]), &[], misfit);
        node.spec =
            serde_json::from_value(json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]})).unwrap();
        check_on(&node, &json!({}), &[], "1 node(s) had untolerated taint {k: v}");
        check_on(&node, &json!({"tolerations": [{"key": "k", "operator": "Exists"}]}), &[], "fits");
        check_on(
            &node,
            &json!({"tolerations": [{"key": "k", "value": "w"}]}),
            &[],
            "1 node(s) had untolerated taint {k: v}",
        );
        node.spec = serde_json::from_value(json!({"unschedulable": true})).unwrap();
        check_on(&node, &json!({}), &[], "1 node(s) were unschedulable");
    }

    #[test]
    fn topology_and_company() {
        let node = node();
        let spread = json!({"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "no-such-key", "whenUnsatisfiable": "DoNotSchedule"}]});
        check_on(
            &node,
            &spread,
            &[],
            "1 node(s) didn't match pod topology spread constraints (missing required label)",
        );
        let spread = |domains: u32, skew: u32, app: &str| {
            let selector = json!({"matchLabels": {"app": app}});
            json!({"topologySpreadConstraints": [{"maxSkew": skew, "minDomains": domains, "labelSelector": selector,
                "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}]})
        };
        let uneven = "crowded: 1 node(s) didn't match pod topology spread constraints";
        check_on(&node, &spread(1, 1, "p"), &[json!({}), json!({})], "fits");
        check_on(&node, &spread(2, 1, "p"), &[], "fits");
        check_on(&node, &spread(2, 1, "p"), &[json!({})], uneven);
        check_on(&node, &spread(2, 2, "p"), &[json!({})], "fits");
        check_on(&node, &spread(2, 1, "other"), &[json!({})], "fits");
        let beside = |app: &str| {
            let term = json!({"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"});
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
        };
        check_on(&node, &beside("other"), &[json!({})], "1 node(s) didn't match pod affinity rules");
        check_on(&node, &beside("p"), &[], "fits");
        let apart = json!({"labelSelector": {"matchLabels": {"app": "p"}}, "topologyKey": "kubernetes.io/hostname"});
        let apart =
            json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}});
        check_on(&node, &apart, &[], "fits");
        check_on(&node, &apart, &[json!({})], "crowded: 1 node(s) didn't match pod anti-affinity rules");
        let minded = "crowded: 1 node(s) didn't satisfy existing pods anti-affinity rules";
        check_on(&node, &json!({}), std::slice::from_ref(&apart), minded);
    }
}
