//! How many pods of a budget may go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::super::informer::is_deleted;
use super::super::portion::{Rounding, portion};
use super::super::time::time;
use crate::pod;

const ALLOWED: &str = "DisruptionAllowed";
/// An evicted pod that is still there after this time was not deleted after all.
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) status: PodDisruptionBudgetStatus,
    /// Pods that were evicted and stayed.
    pub(super) undead: Vec<Arc<Pod>>,
    pub(super) wake: Option<Duration>,
}

/// How many pods there should be, as far as somebody says so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) wanted: i32,
    /// Pods that nobody controls.
    pub(super) unmanaged: usize,
}

/// Whether the number of pods that there should be matters; else it is the number of those that are there.
pub(super) fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

pub(super) fn decide(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], scale: &Scale, now: Timestamp) -> Decision {
    let spec = budget.spec.clone().unwrap_or_default();
    let present = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let expected = if needs_scale(&spec) { scale.wanted } else { present };
    // Percentages are rounded up, also where that lets more pods go.
    let desired = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (expected - portion(most, expected, Rounding::Up)).max(0),
        (None, Some(least)) => portion(least, expected, Rounding::Up),
        (None, None) => 0,
    };
    let mut decision = Decision { status: PodDisruptionBudgetStatus::default(), undead: Vec::new(), wake: None };
    let disrupted = still_disrupted(budget, pods, now, &mut decision);
    let healthy = pods
        .iter()
        .filter(|pod| !is_deleted(&***pod) && pod::is_ready(pod) && !disrupted.contains_key(&pod.name_any()));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    decision.status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        current_healthy: healthy,
        desired_healthy: desired,
        expected_pods: expected,
        disruptions_allowed: allowed,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        conditions: Some(conditions(budget, allowed > 0, now)),
    };
    decision
}

/// When nobody knows how many there should be, none may go.
pub(super) fn refuse(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = 0;
    status.observed_generation = budget.metadata.generation;
    status.conditions = Some(with_condition(budget, "False", "SyncFailed", why, now));
    status
}

/// Pods that were evicted and are not yet seen to be going.
fn still_disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
    decision: &mut Decision,
) -> BTreeMap<String, Time> {
    let known = budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let mut disrupted = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !is_deleted(&***pod)) {
        let Some(since) = known.get(&pod.name_any()) else { continue };
        let passed = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
        if passed > DELETION_TIMEOUT {
            decision.undead.push(Arc::clone(pod));
            continue;
        }
        let left = DELETION_TIMEOUT - passed + Duration::from_secs(1);
        decision.wake = Some(decision.wake.map_or(left, |wake| wake.min(left)));
        disrupted.insert(pod.name_any(), since.clone());
    }
    disrupted
}

fn conditions(budget: &PodDisruptionBudget, is_allowed: bool, now: Timestamp) -> Vec<Condition> {
    let (state, reason) = if is_allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    with_condition(budget, state, reason, "", now)
}

fn with_condition(
    budget: &PodDisruptionBudget,
    state: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = budget.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let standing = conditions.iter().find(|it| it.type_ == ALLOWED && it.status == state);
    let since = standing.map_or_else(|| time(now), |it| it.last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since,
    };
    match conditions.iter_mut().find(|it| it.type_ == ALLOWED) {
        Some(it) => *it = condition,
        None => conditions.push(condition),
    }
    conditions
}

/// In the words of the event about pods that nobody controls.
pub(super) fn unmanaged(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(name, value)| format!("{name}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten().map(|it| {
        let values = it.values.clone().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", it.key, it.operator)
    });
    let expressions: String = expressions.collect();
    format!(
        "Pods selected by this PodDisruptionBudget (selector: &LabelSelector{{MatchLabels:map[string]string{{{labels}}},\
         MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}) were found to be unmanaged. As a result, the status of \
         the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
         \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-01-01T01:00:00Z";

    /// A letter per pod: `r`eady, `u`nready, ready but `d`eleted.
    fn pods(states: &str) -> Vec<Arc<Pod>> {
        let pod = |(index, state): (usize, char)| {
            let deleted = (state == 'd').then_some(NOW);
            let ready = if state == 'u' { "False" } else { "True" };
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": format!("p{index}"), "deletionTimestamp": deleted},
                    "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
                .unwrap(),
            )
        };
        states.chars().enumerate().map(pod).collect()
    }

    fn budget(spec: &Value, disrupted: &Value) -> PodDisruptionBudget {
        let status = json!({"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, "disruptionsAllowed": 0,
            "disruptedPods": disrupted});
        serde_json::from_value(json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status}))
            .unwrap()
    }

    /// Allowed disruptions, as `healthy/desired of expected`.
    fn check(spec: &Value, states: &str, wanted: i32, expected: &str) {
        let scale = Scale { wanted, unmanaged: 0 };
        let status = decide(&budget(spec, &json!({})), &pods(states), &scale, NOW.parse().unwrap()).status;
        let numbers = format!("{}/{} of {}", status.current_healthy, status.desired_healthy, status.expected_pods);
        assert_eq!(format!("{}: {numbers}", status.disruptions_allowed), expected, "{spec} {states}");
    }

    #[test]
    fn numbers_and_percentages() {
        check(&json!({"minAvailable": 2}), "rrr", 9, "1: 3/2 of 3");
        check(&json!({"minAvailable": 2}), "rud", 9, "0: 1/2 of 3");
        check(&json!({"minAvailable": 0}), "", 0, "0: 0/0 of 0");
        check(&json!({"minAvailable": "50%"}), "rrr", 3, "1: 3/2 of 3");
        check(&json!({"minAvailable": "50%"}), "rrr", 0, "0: 3/0 of 0");
        check(&json!({"maxUnavailable": 1}), "rrr", 3, "1: 3/2 of 3");
        check(&json!({"maxUnavailable": 1}), "rr", 3, "0: 2/2 of 3");
        check(&json!({"maxUnavailable": "34%"}), "rrr", 3, "2: 3/1 of 3");
        check(&json!({"maxUnavailable": 7}), "rrr", 3, "3: 3/0 of 3");
    }

    #[test]
    fn an_evicted_pod_is_waited_for_and_not_for_ever() {
        let spec = json!({"minAvailable": 1});
        let evicted = json!({"p0": "2026-01-01T00:59:30Z", "p1": "2026-01-01T00:57:00Z", "gone": NOW});
        let decision = decide(&budget(&spec, &evicted), &pods("rrr"), &Scale::default(), NOW.parse().unwrap());
        assert_eq!(decision.status.disruptions_allowed, 1);
        let left: Vec<_> = decision.status.disrupted_pods.unwrap().into_keys().collect();
        assert_eq!(left, ["p0"]);
        assert_eq!(decision.undead.iter().map(|pod| pod.name_any()).collect::<Vec<_>>(), ["p1"]);
        assert_eq!(decision.wake, Some(Duration::from_secs(91)));
    }
}
