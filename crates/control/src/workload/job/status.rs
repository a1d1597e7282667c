//! How the ends of pods become numbers, each exactly once.
//!
//! First the status notes the pods by their uid, then their finalizers go, then the notes become counts. Whatever is cut short
//! in between is taken up by the next pass without counting a pod twice or never.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::super::informer::is_deleted;
use super::super::time::time;
use super::decide::{Outcome, Verdict, is_suspended};
use super::tally::{Tally, counts_as_failed, is_failed, is_indexed, is_tracked, limits_each_index, valid_index};
use crate::pod;

const SUSPENDED: &str = "Suspended";
/// Ends of pods noted at one time.
const NOTED_MAX: usize = 500;

/// What the pass has left of the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remaining {
    pub(super) active: i32,
    pub(super) ready: i32,
    pub(super) terminating: i32,
}

#[derive(Debug, PartialEq)]
pub(super) struct Booking {
    /// To be written before the finalizers go.
    pub(super) noted: JobStatus,
    pub(super) untracked: Vec<Arc<Pod>>,
    /// There are more ends than can be noted at one time.
    pub(super) is_full: bool,
}

/// A change that users are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Suspended,
    Resumed,
}

/// Says whether the Job is suspended, where that is news.
pub(super) fn turn(status: &mut JobStatus, spec: &JobSpec, now: Timestamp) -> Option<Turn> {
    let (state, reason, message, turn) = if is_suspended(spec) {
        ("True", "JobSuspended", "Job suspended", Turn::Suspended)
    } else {
        ("False", "JobResumed", "Job resumed", Turn::Resumed)
    };
    let is_new = set_condition(status, SUSPENDED, state, reason, message, now);
    if is_new && turn == Turn::Resumed {
        status.start_time = Some(time(now));
    }
    is_new.then_some(turn)
}

pub(super) fn start(status: &mut JobStatus, spec: &JobSpec, now: Timestamp) {
    if status.start_time.is_none() && !is_suspended(spec) {
        status.start_time = Some(time(now));
    }
    status.uncounted_terminated_pods.get_or_insert_default();
}

/// Notes who has ended. `status` is the Job's, as far as the pass has come.
pub(super) fn book(
    job: &Job,
    mut status: JobStatus,
    pods: &[Arc<Pod>],
    tally: &Tally,
    verdict: Option<&Verdict>,
    left: Remaining,
    now: Timestamp,
) -> Booking {
    let spec = job.spec.clone().unwrap_or_default();
    status.active = present(left.active);
    status.ready = Some(left.ready);
    status.terminating = Some(left.terminating);
    let mut noted = status.uncounted_terminated_pods.take().unwrap_or_default();
    let mut untracked = Vec::new();
    let mut is_full = false;
    let mut done = tally.indexed.as_ref().map(|indexed| indexed.counted.clone());
    for pod in pods.iter().filter(|pod| is_tracked(pod)) {
        if !may_go(job, &spec, tally, verdict, pod) {
            continue;
        }
        let entries = noted.succeeded.iter().flatten().count() + noted.failed.iter().flatten().count();
        if entries >= NOTED_MAX {
            is_full = true;
            break;
        }
        untracked.push(Arc::clone(pod));
        let uid = pod.uid().unwrap_or_default();
        let is_in = |list: &Option<Vec<String>>| list.iter().flatten().any(|it| *it == uid);
        let index = valid_index(&spec, pod);
        if pod::phase(pod) == "Succeeded" && !is_in(&noted.failed) {
            match &mut done {
                Some(done) => index.into_iter().for_each(|index| done.insert(index)),
                None if is_in(&noted.succeeded) => {}
                None => noted.succeeded.get_or_insert_default().push(uid),
            }
        } else if counts(&spec, verdict, pod) && !is_in(&noted.failed) && (!is_indexed(&spec) || index.is_some()) {
            noted.failed.get_or_insert_default().push(uid);
        }
    }
    if let Some(done) = done {
        status.succeeded = present(done.total());
        status.completed_indexes = Some(done.to_string()).filter(|text| !text.is_empty());
    }
    if let Some(failed) = tally.indexed.as_ref().and_then(|indexed| indexed.failed.as_ref()) {
        status.failed_indexes = Some(failed.to_string());
    }
    status.uncounted_terminated_pods = Some(noted);
    if let Some(verdict) = verdict {
        set_condition(&mut status, verdict.outcome.interim(), "True", verdict.reason, &verdict.message, now);
    }
    Booking { noted: status, untracked, is_full }
}

/// Whether the pod's part is over, so that it may vanish.
fn may_go(job: &Job, spec: &JobSpec, tally: &Tally, verdict: Option<&Verdict>, pod: &Arc<Pod>) -> bool {
    if is_deleted(job) || verdict.is_some() || pod::phase(pod) == "Succeeded" {
        return true;
    }
    let holds_count = || {
        let retried = tally.indexed.iter().flat_map(|indexed| indexed.retried.values());
        limits_each_index(spec) && retried.into_iter().any(|it| it.uid() == pod.uid())
    };
    is_failed(spec, pod) && !holds_count()
}

/// In a Job that fails whoever still works has failed, too; in one that succeeds nobody has who was only told to end.
fn counts(spec: &JobSpec, verdict: Option<&Verdict>, pod: &Pod) -> bool {
    let has_failed = match verdict.map(|verdict| verdict.outcome) {
        Some(Outcome::Failure) => true,
        Some(Outcome::Success) => pod::phase(pod) == "Failed",
        None => is_failed(spec, pod),
    };
    has_failed && counts_as_failed(spec, pod)
}

/// Makes counts of the notes about pods that have no finalizer any more, and ends the Job once nothing is open.
pub(super) fn settle(
    mut status: JobStatus,
    still_tracked: &HashSet<String>,
    verdict: Option<&Verdict>,
    is_full: bool,
    now: Timestamp,
) -> (JobStatus, bool) {
    let noted = status.uncounted_terminated_pods.get_or_insert_default();
    let take = |list: &mut Option<Vec<String>>| {
        let all = list.take().unwrap_or_default();
        let (open, counted): (Vec<_>, Vec<_>) = all.into_iter().partition(|uid| still_tracked.contains(uid));
        *list = (!open.is_empty()).then_some(open);
        i32::try_from(counted.len()).unwrap_or(i32::MAX)
    };
    let (succeeded, failed) = (take(&mut noted.succeeded), take(&mut noted.failed));
    let is_open = noted.succeeded.is_some() || noted.failed.is_some() || is_full;
    status.succeeded = present(status.succeeded.unwrap_or(0) + succeeded);
    status.failed = present(status.failed.unwrap_or(0) + failed);
    let Some(verdict) = verdict else { return (status, false) };
    let has_pods = status.terminating.unwrap_or(0) > 0 || status.active.unwrap_or(0) > 0;
    if is_open || has_pods {
        return (status, false);
    }
    set_condition(&mut status, verdict.outcome.terminal(), "True", verdict.reason, &verdict.message, now);
    if verdict.outcome == Outcome::Success {
        status.completion_time = Some(time(now));
    }
    (status, true)
}

fn present(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// Whether it was news. What does not hold needs no condition unless it held before.
fn set_condition(status: &mut JobStatus, kind: &str, state: &str, reason: &str, message: &str, now: Timestamp) -> bool {
    let condition = JobCondition {
        type_: kind.to_owned(),
        status: state.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(time(now)),
        last_transition_time: Some(time(now)),
    };
    let standing = status.conditions.iter_mut().flatten().find(|it| it.type_ == kind);
    match standing {
        Some(it) if it.status == state && it.reason == condition.reason && it.message == condition.message => false,
        Some(it) => {
            *it = condition;
            true
        }
        None if state == "False" => false,
        None => {
            status.conditions.get_or_insert_default().push(condition);
            true
        }
    }
}
