//! What a Job does next: start pods, end some, wait, or be over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::super::informer::is_deleted;
use super::backoff::{finished_at, remaining};
use super::indexes::Indexes;
use super::policy;
use super::tally::{
    Indexed, Tally, count, counts_as_failed, former_failures, limits_each_index, replaces_only_failed, valid_index,
};
use crate::pod;

/// Pods created or deleted in one pass.
const BURST: usize = 500;

const POD_FAILURE_POLICY: &str = "PodFailurePolicy";
const BACKOFF: &str = "BackoffLimitExceeded";
const DEADLINE: &str = "DeadlineExceeded";
const MAX_FAILED_INDEXES: &str = "MaxFailedIndexesExceeded";
const FAILED_INDEXES: &str = "FailedIndexes";
const SUCCESS_POLICY: &str = "SuccessPolicy";
const COMPLETIONS: &str = "CompletionsReached";
/// Why Jobs end.
const REASONS: [&str; 7] =
    [POD_FAILURE_POLICY, BACKOFF, DEADLINE, MAX_FAILED_INDEXES, FAILED_INDEXES, SUCCESS_POLICY, COMPLETIONS];

#[derive(Debug, PartialEq)]
pub(super) struct Decision {
    /// The Job is to end so; it does once nothing of it is left running.
    pub(super) verdict: Option<Verdict>,
    pub(super) act: Act,
    /// When to look again though nothing happens.
    pub(super) wake: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    Nothing,
    /// All that still works, because the Job is over; it counts as failed if the Job did.
    End(Vec<Arc<Pod>>),
    /// More than wanted; these do not count.
    Shrink(Vec<Arc<Pod>>),
    Create(Vec<Seat>),
}

/// The place of one new pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) index: Option<i32>,
    /// Failures of the index before, counted and ignored; only with a limit of failures per index.
    pub(super) failures: Option<(u32, u32)>,
}

/// How a Job is to end, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
}

impl Outcome {
    /// The condition that says that it will end so.
    pub(super) fn interim(self) -> &'static str {
        match self {
            Self::Success => "SuccessCriteriaMet",
            Self::Failure => "FailureTarget",
        }
    }

    /// The condition that says that it has.
    pub(super) fn terminal(self) -> &'static str {
        match self {
            Self::Success => "Complete",
            Self::Failure => "Failed",
        }
    }
}

impl Verdict {
    fn new(outcome: Outcome, reason: &'static str, message: impl Into<String>) -> Self {
        Self { outcome, reason, message: message.into() }
    }

    fn failure(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Outcome::Failure, reason, message)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(", ");
        match &self.act {
            Act::Nothing => f.write_str("nothing to do")?,
            Act::End(pods) => write!(f, "end {}", names(pods))?,
            Act::Shrink(pods) => write!(f, "delete {}", names(pods))?,
            Act::Create(seats) => {
                let indexes: Vec<_> = seats.iter().filter_map(|seat| seat.index).map(|it| it.to_string()).collect();
                write!(f, "create {}", seats.len())?;
                if !indexes.is_empty() {
                    write!(f, " ({})", indexes.join(","))?;
                }
            }
        }
        if let Some(verdict) = &self.verdict {
            write!(f, "; {}: {}", verdict.outcome.interim(), verdict.reason)?;
        }
        match self.wake {
            Some(wake) => write!(f, "; again in {}s", wake.as_secs_f64()),
            None => Ok(()),
        }
    }
}

pub(super) fn is_suspended(spec: &JobSpec) -> bool {
    spec.suspend == Some(true)
}

pub(super) fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// The condition of a Job that is over.
pub(super) fn finished(job: &Job) -> Option<&JobCondition> {
    condition(job, Outcome::Success.terminal()).or_else(|| condition(job, Outcome::Failure.terminal()))
}

pub(super) fn decide(job: &Job, tally: &Tally, now: Timestamp) -> Decision {
    let spec = job.spec.clone().unwrap_or_default();
    if let Some(verdict) = verdict(job, &spec, tally, now) {
        let act = if tally.active.is_empty() { Act::Nothing } else { Act::End(tally.active.clone()) };
        return Decision { verdict: Some(verdict), act, wake: None };
    }
    let (act, pause) = if is_deleted(job) { (Act::Nothing, None) } else { manage(&spec, tally, now) };
    let left = tally.active.len() - if let Act::Shrink(pods) = &act { pods.len() } else { 0 };
    let starts = matches!(&act, Act::Create(_));
    let is_complete = left == 0 && !starts && has_enough(&spec, tally);
    let reached = || Verdict::new(Outcome::Success, COMPLETIONS, "Reached expected number of succeeded pods");
    let deadline = until_deadline(job, &spec, now);
    let wake = [pause, deadline].into_iter().flatten().min();
    Decision { verdict: is_complete.then(reached), act, wake }
}

fn has_enough(spec: &JobSpec, tally: &Tally) -> bool {
    // Without a number the pods decide themselves: one success is all.
    spec.completions.map_or(tally.succeeded > 0, |completions| tally.succeeded >= completions)
}

/// Why the Job is over, if it is.
fn verdict(job: &Job, spec: &JobSpec, tally: &Tally, now: Timestamp) -> Option<Verdict> {
    let said = |outcome: Outcome| {
        let condition = condition(job, outcome.interim())?;
        let reason = condition.reason.as_deref().unwrap_or_default();
        let known = REASONS.into_iter().find(|known| *known == reason).unwrap_or("Unknown");
        Some(Verdict::new(outcome, known, condition.message.clone().unwrap_or_default()))
    };
    if let Some(said) = said(Outcome::Success).or_else(|| said(Outcome::Failure)) {
        return Some(said);
    }
    if let Some(message) = &tally.fatal {
        return Some(Verdict::failure(POD_FAILURE_POLICY, message));
    }
    if tally.failed > spec.backoff_limit.unwrap_or(6) || restarted_too_often(spec, &tally.active) {
        return Some(Verdict::failure(BACKOFF, "Job has reached the specified backoff limit"));
    }
    if until_deadline(job, spec, now) == Some(Duration::ZERO) {
        return Some(Verdict::failure(DEADLINE, "Job was active longer than specified deadline"));
    }
    tally.indexed.as_ref().and_then(|indexed| index_verdict(spec, indexed))
}

fn index_verdict(spec: &JobSpec, indexed: &Indexed) -> Option<Verdict> {
    let completions = spec.completions.unwrap_or(0);
    let failed = indexed.failed.as_ref().map_or(0, Indexes::total);
    if spec.max_failed_indexes.is_some_and(|most| failed > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(Verdict::failure(MAX_FAILED_INDEXES, message));
    }
    if failed > 0 && failed + indexed.succeeded.total() >= completions {
        return Some(Verdict::failure(FAILED_INDEXES, "Job has failed indexes"));
    }
    let message = policy::success(spec.success_policy.as_ref()?, completions, &indexed.succeeded)?;
    Some(Verdict::new(Outcome::Success, SUCCESS_POLICY, message))
}

/// Containers that are restarted in their pod fail there, not as pods.
fn restarted_too_often(spec: &JobSpec, active: &[Arc<Pod>]) -> bool {
    let in_place = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure");
    if !in_place {
        return false;
    }
    let statuses = active.iter().filter_map(|pod| pod.status.as_ref());
    let containers = statuses.flat_map(|it| it.container_statuses.iter().chain(&it.init_container_statuses).flatten());
    let restarts: i32 = containers.map(|container| container.restart_count).sum();
    restarts > 0 && restarts >= spec.backoff_limit.unwrap_or(6)
}

/// How long the Job may still take; none without a deadline, or while it does not run.
fn until_deadline(job: &Job, spec: &JobSpec, now: Timestamp) -> Option<Duration> {
    let limit = spec.active_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok())?;
    if is_suspended(spec) {
        return None;
    }
    let started = job.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(now, |time| time.0);
    let passed = Duration::try_from(now.duration_since(started)).unwrap_or_default();
    Some(Duration::from_secs(limit).saturating_sub(passed))
}

/// As many pods as are wanted; with how long to wait where it is too early to start one.
fn manage(spec: &JobSpec, tally: &Tally, now: Timestamp) -> (Act, Option<Duration>) {
    let active = count(&tally.active);
    if is_suspended(spec) {
        return (shrink(ranked(&tally.active)), None);
    }
    let parallelism = spec.parallelism.unwrap_or(1);
    let wanted = match spec.completions {
        Some(completions) => (completions - tally.succeeded).clamp(0, parallelism.max(0)),
        None if tally.succeeded > 0 => active,
        None => parallelism,
    };
    let doomed = too_many(spec, tally, active - wanted);
    if !doomed.is_empty() {
        return (shrink(doomed), None);
    }
    let waits_for = if replaces_only_failed(spec) { tally.terminating } else { 0 };
    let missing = usize::try_from(wanted - waits_for - active).unwrap_or(0).min(BURST);
    if missing == 0 {
        return (Act::Nothing, None);
    }
    if !limits_each_index(spec) {
        let pause = tally.record.remaining(now);
        if !pause.is_zero() {
            return (Act::Nothing, Some(pause));
        }
    }
    let Some(indexed) = &tally.indexed else { return (create(vec![Seat::default(); missing]), None) };
    let mut seats = Vec::new();
    let mut soonest: Option<Duration> = None;
    for index in open_indexes(spec, tally, indexed).take(missing) {
        let pause = pause_of_index(indexed, index, now);
        if pause.is_zero() {
            let failures = limits_each_index(spec).then(|| failures_of_index(spec, indexed, index));
            seats.push(Seat { index: Some(index), failures });
        } else {
            soonest = Some(soonest.map_or(pause, |soonest| soonest.min(pause)));
        }
    }
    (create(seats), soonest)
}

fn create(seats: Vec<Seat>) -> Act {
    if seats.is_empty() { Act::Nothing } else { Act::Create(seats) }
}

fn shrink(mut doomed: Vec<Arc<Pod>>) -> Act {
    doomed.truncate(BURST);
    if doomed.is_empty() { Act::Nothing } else { Act::Shrink(doomed) }
}

/// Pods without a valid index, those that share one, and so many more of the others.
fn too_many(spec: &JobSpec, tally: &Tally, at_least: i32) -> Vec<Arc<Pod>> {
    let at_least = usize::try_from(at_least).unwrap_or(0);
    let mut doomed = Vec::new();
    let mut rest = Vec::new();
    let mut seated = std::collections::BTreeSet::new();
    // The most valuable of those who share an index keeps it.
    for pod in ranked(&tally.active).into_iter().rev() {
        let has_place = tally.indexed.is_none() || valid_index(spec, &pod).is_some_and(|index| seated.insert(index));
        if has_place { rest.push(pod) } else { doomed.push(pod) }
    }
    rest.reverse();
    rest.truncate(at_least.saturating_sub(doomed.len()));
    doomed.append(&mut rest);
    doomed
}

/// The most dispensable first.
fn ranked(pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let mut ranked = pods.to_vec();
    ranked.sort_by(|a, b| pod::dispensability(a).cmp(&pod::dispensability(b)).then_with(|| a.uid().cmp(&b.uid())));
    ranked
}

/// Indexes that nobody works on and that are not done.
fn open_indexes<'a>(spec: &JobSpec, tally: &'a Tally, indexed: &'a Indexed) -> impl Iterator<Item = i32> + 'a {
    let working: Indexes = tally.active.iter().filter_map(|pod| super::tally::index_of(pod)).collect();
    let waits_for_leaving = replaces_only_failed(spec);
    (0..spec.completions.unwrap_or(0)).filter(move |index| {
        let is_failed = indexed.failed.as_ref().is_some_and(|failed| failed.contains(*index));
        let is_leaving = waits_for_leaving && indexed.leaving.contains(*index);
        !indexed.succeeded.contains(*index) && !is_failed && !is_leaving && !working.contains(*index)
    })
}

fn pause_of_index(indexed: &Indexed, index: i32, now: Timestamp) -> Duration {
    indexed.retried.get(&index).map_or(Duration::ZERO, |last| {
        let (counted, ignored) = former_failures(last);
        remaining(counted + ignored + 1, finished_at(last), now)
    })
}

fn failures_of_index(spec: &JobSpec, indexed: &Indexed, index: i32) -> (u32, u32) {
    let Some(last) = indexed.retried.get(&index) else { return (0, 0) };
    let (counted, ignored) = former_failures(last);
    if counts_as_failed(spec, last) { (counted + 1, ignored) } else { (counted, ignored + 1) }
}
