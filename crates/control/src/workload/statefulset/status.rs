//! What a StatefulSet says of its pods.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use super::decide::Observed;
use super::identity::revision_of;
use super::pod;

pub(super) fn min_ready(set: &StatefulSet) -> Duration {
    let seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    Duration::from_secs(seconds.max(0).unsigned_abs().into())
}

pub(super) fn is_running_and_ready(pod: &Pod) -> bool {
    pod::phase(pod) == "Running" && pod::is_ready(pod)
}

/// Ready for long enough.
pub(super) fn is_available(pod: &Pod, min_ready: Duration, now: Timestamp) -> bool {
    pod::phase(pod) == "Running" && pod::until_available(pod, min_ready, now) == Some(Duration::ZERO)
}

pub(super) fn next(observed: &Observed) -> StatefulSetStatus {
    let Observed { set, pods, current, update, .. } = observed;
    let count =
        |holds: &dyn Fn(&Pod) -> bool| i32::try_from(pods.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX);
    let present = |count: i32| (count != 0).then_some(count);
    let living_of = |revision: &str| count(&|pod| !super::is_deleted(pod) && revision_of(pod) == revision);
    let ready = count(&is_running_and_ready);
    let updated = living_of(&update.name);
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: count(&|_| true),
        ready_replicas: present(ready),
        available_replicas: Some(count(&|pod| is_available(pod, min_ready(set), observed.now))),
        current_replicas: present(living_of(&current.name)),
        updated_replicas: present(updated),
        current_revision: Some(current.name.clone()),
        update_revision: Some(update.name.clone()),
        collision_count: Some(observed.collisions),
        conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
    };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    if !super::decide::is_on_delete(set) && [status.replicas, ready, updated] == [wanted; 3] {
        status.current_replicas = status.updated_replicas;
        status.current_revision.clone_from(&status.update_revision);
    }
    status
}

/// When the next pod becomes available if nothing else happens.
pub(super) fn next_available(observed: &Observed) -> Option<Duration> {
    let waits = observed
        .pods
        .iter()
        .filter_map(|pod| pod::until_available(pod, min_ready(&observed.set), observed.now))
        .filter(|wait| !wait.is_zero());
    waits.min()
}
