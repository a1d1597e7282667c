//! What a Deployment says of its ReplicaSets: counts, and the three conditions Available, Progressing, ReplicaFailure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use kube::ResourceExt;

use super::super::time::time;
use super::sizes::Sizes;

pub(super) const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";

pub(super) const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";

pub(super) fn condition<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub(super) fn make(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    }
}

/// The changed condition comes last; the same status and reason change nothing, not even the message.
pub(super) fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(before) = self::condition(status, &condition.type_) {
        if before.status == condition.status && before.reason == condition.reason {
            return;
        }
        if before.status == condition.status {
            condition.last_transition_time.clone_from(&before.last_transition_time);
        }
    }
    remove(status, &condition.type_);
    status.conditions.get_or_insert_default().push(condition);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
    status.conditions.take_if(|conditions| conditions.is_empty());
}

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

/// What will be available when the set has the size it was told: its count may be of the time before.
pub(super) fn lasting(set: &ReplicaSet) -> i32 {
    available(set).min(replicas(set))
}

fn sum(sets: &[ReplicaSet], count: impl Fn(&ReplicaSet) -> i32) -> i32 {
    sets.iter().map(count).sum()
}

/// The counts, and whether it is available. `before` carries the conditions.
pub(super) fn count(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    new: Option<&ReplicaSet>,
    before: &DeploymentStatus,
    now: Timestamp,
) -> DeploymentStatus {
    let sizes = Sizes::of(deployment);
    let actual = |set: &ReplicaSet| set.status.as_ref().map_or(0, |status| status.replicas);
    let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let terminating =
        |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.terminating_replicas).unwrap_or(0);
    let present = |count: i32| (count != 0).then_some(count);
    let available_pods = sum(sets, available);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: present(sum(sets, actual)),
        updated_replicas: present(new.map_or(0, actual)),
        ready_replicas: present(sum(sets, ready)),
        available_replicas: present(available_pods),
        unavailable_replicas: present((sum(sets, replicas) - available_pods).max(0)),
        terminating_replicas: Some(sum(sets, terminating)),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    let available = if available_pods >= sizes.least_available() {
        make(AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned(), now)
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        make(AVAILABLE, "False", "MinimumReplicasUnavailable", message, now)
    };
    set(&mut status, available);
    status
}

pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = Sizes::of(deployment).wanted;
    let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
    all(status.updated_replicas)
        && all(status.replicas)
        && all(status.available_replicas)
        && status.observed_generation >= deployment.metadata.generation
}

/// 2147483647 is how users say "never".
pub(super) fn progress_deadline(deployment: &Deployment) -> Option<Duration> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then(|| Duration::from_secs(seconds.unsigned_abs().into()))
}

/// Whose progress is judged, and against what.
pub(super) struct Progress<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) new: Option<&'a ReplicaSet>,
    /// The status that this pass began with, with the conditions that it has set so far.
    pub(super) before: &'a DeploymentStatus,
    /// A Rollout says how far it goes: waiting is no failure then.
    pub(super) is_directed: bool,
    pub(super) now: Timestamp,
}

impl Progress<'_> {
    pub(super) fn judge(&self, status: &mut DeploymentStatus) {
        if progress_deadline(self.deployment).is_none() {
            remove(status, PROGRESSING);
            return;
        }
        let standing = condition(self.before, PROGRESSING);
        let was_complete = status.replicas == status.updated_replicas
            && standing.is_some_and(|standing| standing.reason.as_deref() == Some(NEW_AVAILABLE));
        if was_complete {
            return;
        }
        if is_complete(self.deployment, status) {
            let message = format!("{} has successfully progressed.", self.subject());
            set(status, make(PROGRESSING, "True", NEW_AVAILABLE, message, self.now));
        } else if self.has_progressed(status) || (self.is_directed && self.is_late()) {
            let message = format!("{} is progressing.", self.subject());
            let mut progressing = make(PROGRESSING, "True", "ReplicaSetUpdated", message, self.now);
            if let Some(standing) = standing.filter(|standing| standing.status == "True") {
                progressing.last_transition_time.clone_from(&standing.last_transition_time);
            }
            remove(status, PROGRESSING);
            status.conditions.get_or_insert_default().push(progressing);
        } else if self.is_late() {
            let message = format!("{} has timed out progressing.", self.subject());
            set(status, make(PROGRESSING, "False", TIMED_OUT, message, self.now));
        }
    }

    fn subject(&self) -> String {
        match self.new {
            Some(new) => format!("ReplicaSet \"{}\"", new.name_any()),
            None => format!("Deployment \"{}\"", self.deployment.name_any()),
        }
    }

    fn has_progressed(&self, status: &DeploymentStatus) -> bool {
        let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
        status.updated_replicas > self.before.updated_replicas
            || old(status) < old(self.before)
            || status.ready_replicas > self.before.ready_replicas
            || status.available_replicas > self.before.available_replicas
    }

    fn is_late(&self) -> bool {
        let Some(standing) = condition(self.before, PROGRESSING) else { return false };
        match standing.reason.as_deref() {
            Some(NEW_AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            _ => until_deadline(self.deployment, self.before, self.now).is_some_and(|left| left.is_negative()),
        }
    }
}

/// None when there is no deadline, or no progress that could miss it.
fn until_deadline(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<SignedDuration> {
    let deadline = SignedDuration::try_from(progress_deadline(deployment)?).ok()?;
    let since = condition(status, PROGRESSING)?.last_update_time.as_ref()?.0;
    Some(deadline - now.duration_since(since))
}

/// When to look at a stuck rollout again.
pub(super) fn wake(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let reason = condition(status, PROGRESSING)?.reason.as_deref();
    if is_complete(deployment, status) || matches!(reason, Some(TIMED_OUT | NEW_AVAILABLE)) {
        return None;
    }
    let left = until_deadline(deployment, status, now)?.max(SignedDuration::ZERO);
    // Times are kept in whole seconds: a second later the deadline has passed for sure.
    Some(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
}

/// The failure of the new ReplicaSet, or of any.
pub(super) fn judge_failures(
    status: &mut DeploymentStatus,
    sets: &[ReplicaSet],
    new: Option<&ReplicaSet>,
    now: Timestamp,
) {
    let failure = |set: &ReplicaSet| {
        let conditions = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == FAILURE)
    };
    match new.and_then(failure).or_else(|| sets.iter().find_map(failure)) {
        Some(failure) => {
            let reason = failure.reason.unwrap_or_default();
            let mut condition = make(FAILURE, &failure.status, &reason, failure.message.unwrap_or_default(), now);
            condition.last_transition_time = failure.last_transition_time;
            set(status, condition);
        }
        None => remove(status, FAILURE),
    }
}
