//! What a CronJob does now: which Job to start, which to replace, which to forget, and what to tell.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use sluice_model::schedule::Schedule;

use super::super::events::Severity;
use super::super::informer::is_deleted;
use super::super::job::ended;
use super::super::owner;
use super::starts::{Since, due, until_next};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

#[derive(Debug, Default, PartialEq)]
pub(super) struct Decision {
    /// What is known of Jobs before anything is done.
    pub(super) status: CronJobStatus,
    pub(super) notes: Vec<Note>,
    pub(super) start: Option<Start>,
    /// Finished ones beyond the limits of the history.
    pub(super) forgotten: Vec<Arc<Job>>,
    pub(super) wake: Option<Duration>,
}

/// What users are told.
#[derive(Debug, PartialEq)]
pub(super) struct Note {
    pub(super) severity: Severity,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

#[derive(Debug, PartialEq)]
pub(super) struct Start {
    pub(super) at: Timestamp,
    /// Active ones that make room.
    pub(super) replaced: Vec<Arc<Job>>,
    pub(super) job: Box<Job>,
}

impl Decision {
    fn tell(&mut self, severity: Severity, reason: &'static str, message: impl Into<String>) {
        self.notes.push(Note { severity, reason, message: message.into() });
    }
}

/// `children` are the Jobs that the CronJob controls; `local` is the time zone of schedules that name none.
pub(super) fn decide(cron: &CronJob, children: &[Arc<Job>], local: &TimeZone, now: Timestamp) -> Decision {
    let spec = cron.spec.clone().unwrap_or_default();
    let mut decision = Decision { status: cron.status.clone().unwrap_or_default(), ..Decision::default() };
    take_stock(&mut decision, children);
    decision.forgotten = beyond_history(&spec, children);
    if is_deleted(cron) {
        return decision;
    }
    let zone = match spec.time_zone.as_deref() {
        None => local.clone(),
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                decision.tell(Severity::Warning, "UnknownTimeZone", format!("invalid timeZone: {name:?}: {error}"));
                return decision;
            }
        },
    };
    if spec.suspend == Some(true) {
        return decision;
    }
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
            decision.tell(Severity::Warning, "UnparseableSchedule", message);
            return decision;
        }
    };
    start(&mut decision, cron, &spec, children, &schedule, &zone, now);
    decision
}

/// Compares the list of active Jobs with those that are there.
fn take_stock(decision: &mut Decision, children: &[Arc<Job>]) {
    let mut active = decision.status.active.take().unwrap_or_default();
    for job in children {
        let is_listed = active.iter().any(|reference| reference.uid == job.uid());
        match ended(job) {
            None if !is_listed => {
                let message = format!("Saw a job that the controller did not create or forgot: {}", job.name_any());
                decision.tell(Severity::Warning, "UnexpectedJob", message);
            }
            None => {}
            Some(condition) if is_listed => {
                active.retain(|reference| reference.uid != job.uid());
                let message = format!("Saw completed job: {}, condition: {}", job.name_any(), condition.type_);
                decision.tell(Severity::Normal, "SawCompletedJob", message);
            }
            Some(_) => {}
        }
    }
    active.retain(|reference| {
        let is_there = children.iter().any(|job| job.uid() == reference.uid);
        if !is_there {
            let name = reference.name.clone().unwrap_or_default();
            decision.notes.push(Note {
                severity: Severity::Normal,
                reason: "MissingJob",
                message: format!("Active job went missing: {name}"),
            });
        }
        is_there
    });
    let successes = children.iter().filter(|job| ended(job).is_some_and(|condition| condition.type_ == "Complete"));
    let newest = successes.filter_map(|job| job.status.as_ref()?.completion_time.as_ref().map(|time| time.0)).max();
    let known = decision.status.last_successful_time.as_ref().map(|time| time.0);
    decision.status.last_successful_time = known.max(newest).map(Time);
    decision.status.active = (!active.is_empty()).then_some(active);
}

/// The oldest go first.
fn beyond_history(spec: &CronJobSpec, children: &[Arc<Job>]) -> Vec<Arc<Job>> {
    let of_kind = |kind: &str, limit: Option<i32>| {
        let finished = children.iter().filter(|job| ended(job).is_some_and(|condition| condition.type_ == kind));
        let mut finished: Vec<_> = finished.filter(|job| !is_deleted(&***job)).cloned().collect();
        finished.sort_by_key(|job| (started_at(job), job.name_any()));
        let kept = limit.map_or(finished.len(), |limit| usize::try_from(limit).unwrap_or(0));
        finished.truncate(finished.len().saturating_sub(kept));
        finished
    };
    let mut forgotten = of_kind("Complete", spec.successful_jobs_history_limit);
    forgotten.extend(of_kind("Failed", spec.failed_jobs_history_limit));
    forgotten
}

fn started_at(job: &Job) -> Option<Timestamp> {
    job.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0)
}

fn start(
    decision: &mut Decision,
    cron: &CronJob,
    spec: &CronJobSpec,
    children: &[Arc<Job>],
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
) {
    let time = |time: &Option<Time>| time.as_ref().map(|time| time.0);
    let deadline = spec.starting_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let since = Since {
        created: time(&cron.metadata.creation_timestamp).unwrap_or(now),
        last_start: time(&decision.status.last_schedule_time),
        deadline: deadline.map(Duration::from_secs),
    };
    let wake = |since: Since| until_next(schedule, zone, since, now);
    decision.wake = wake(since);
    let Some(due) = due(schedule, zone, since, now) else { return };
    if due.after_many_missed {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        decision.tell(Severity::Warning, "TooManyMissedTimes", message);
    }
    let active = decision.status.active.clone().unwrap_or_default();
    let name = job_name(cron, due.at);
    if active.iter().any(|reference| reference.name.as_ref() == Some(&name)) || since.last_start == Some(due.at) {
        return;
    }
    let replaced = match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            decision.tell(Severity::Normal, "JobAlreadyActive", message);
            return;
        }
        Some("Replace") => {
            let is_active = |job: &&Arc<Job>| active.iter().any(|reference| reference.uid == job.uid());
            children.iter().filter(is_active).cloned().collect()
        }
        _ => Vec::new(),
    };
    decision.wake = wake(Since { last_start: Some(due.at), ..since });
    decision.start = Some(Start { at: due.at, replaced, job: Box::new(job(cron, spec, &name, due.at, zone)) });
}

/// By the minute, so that one start cannot make two Jobs.
fn job_name(cron: &CronJob, at: Timestamp) -> String {
    format!("{}-{}", cron.name_any(), at.as_second() / 60)
}

fn job(cron: &CronJob, spec: &CronJobSpec, name: &str, at: Timestamp, zone: &TimeZone) -> Job {
    let meta = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let shown = at.to_zoned(zone.clone());
    let offset = if shown.offset().is_zero() { "Z".to_owned() } else { shown.strftime("%:z").to_string() };
    annotations.insert(SCHEDULED_AT.to_owned(), format!("{}{offset}", shown.strftime("%Y-%m-%dT%H:%M:%S")));
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: cron.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controlled_by(cron)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

/// How a started Job stands in the list of active ones.
pub(super) fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: job.namespace(),
        name: Some(job.name_any()),
        uid: job.uid(),
        resource_version: job.resource_version(),
        field_path: None,
    }
}
