//! What controllers ask of a pod.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;

use crate::informer::is_deleted;

pub(crate) const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// It will never run again.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// It counts for the one who wants so many of them.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_deleted(pod)
}

pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && is_deleted(pod)
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when it is ready; none when it is not, or when nobody knows.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// How long a pod still has to stay ready to count as available; none when it does not count towards it at all.
pub(crate) fn until_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    let been = now.duration_since(ready_since(pod)?);
    Some(min_ready.saturating_sub(Duration::try_from(been).unwrap_or_default()))
}

/// The smallest goes first. Upstream also spreads over nodes; here is one.
pub(crate) fn dispensability(pod: &Pod) -> impl Ord + use<> {
    let is_assigned = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().unwrap_or_default() != "");
    let phase = match phase(pod) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let cost = pod.annotations().get(DELETION_COST).and_then(|cost| cost.parse::<i32>().ok()).unwrap_or(0);
    let restarts = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let restarts = restarts.map(|container| container.restart_count).max().unwrap_or(0);
    let created = pod.creation_timestamp().map(|time| time.0);
    let newest_first = |time: Option<Timestamp>| std::cmp::Reverse(time);
    (is_assigned, phase, is_ready(pod), cost, newest_first(ready_since(pod)), -restarts, newest_first(created))
}
