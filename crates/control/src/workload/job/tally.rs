//! What a Job's pods amount to: who works, who has finished and is not yet counted, which indexes are done.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::super::informer::is_deleted;
use super::backoff::{Record, finished_at};
use super::indexes::Indexes;
use super::policy::{self, Consequence};
use crate::pod;

/// On each pod until its end is counted in the Job's status.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) ready: i32,
    pub(super) terminating: i32,
    pub(super) succeeded: i32,
    pub(super) failed: i32,
    pub(super) record: Record,
    /// Only of an indexed Job.
    pub(super) indexed: Option<Indexed>,
    /// A failure that ends the whole Job by its policy.
    pub(super) fatal: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Indexed {
    /// As counted in the status already.
    pub(super) counted: Indexes,
    pub(super) succeeded: Indexes,
    /// Only with a limit of failures per index.
    pub(super) failed: Option<Indexes>,
    /// The last failure of each index that is to be tried again; it holds the count of failures.
    pub(super) retried: BTreeMap<i32, Arc<Pod>>,
    /// Indexes of pods that are on their way out.
    pub(super) leaving: Indexes,
}

/// A failure limit of its own for each index.
pub(super) fn limits_each_index(spec: &JobSpec) -> bool {
    is_indexed(spec) && spec.backoff_limit_per_index.is_some()
}

pub(super) fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// New pods wait until old ones are gone, and only pods that have really failed count as failed.
pub(super) fn replaces_only_failed(spec: &JobSpec) -> bool {
    spec.pod_replacement_policy.as_deref() == Some("Failed")
}

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|finalizer| finalizer == TRACKING)
}

pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// The index, if it is one of the Job's.
pub(super) fn valid_index(spec: &JobSpec, pod: &Pod) -> Option<i32> {
    index_of(pod).filter(|index| *index < spec.completions.unwrap_or(0))
}

/// It failed, or was told to end before it could succeed.
pub(super) fn is_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match pod::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => is_deleted(pod) && !replaces_only_failed(spec),
    }
}

pub(super) fn consequence(spec: &JobSpec, pod: &Pod) -> Consequence {
    spec.pod_failure_policy
        .as_ref()
        .map_or(Consequence::Count, |failure_policy| policy::consequence(&failure_policy.rules, pod))
}

/// Counts against the Job's limits.
pub(super) fn counts_as_failed(spec: &JobSpec, pod: &Pod) -> bool {
    consequence(spec, pod) != Consequence::Ignore
}

/// Failures of the pod's index before this pod: those that count, and those that a policy ignores.
pub(super) fn former_failures(pod: &Pod) -> (u32, u32) {
    let number = |name: &str| pod.annotations().get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    (number(INDEX_FAILURES), number(INDEX_IGNORED_FAILURES))
}

impl Tally {
    /// `known` is what was remembered of failures; without it all pods that are there are news.
    pub(super) fn of(job: &Job, pods: &[Arc<Pod>], known: Option<Record>) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        let status = job.status.clone().unwrap_or_default();
        let belongs = |pod: &&Arc<Pod>| !is_indexed(&spec) || valid_index(&spec, pod).is_some();
        let ended: Vec<_> = pods.iter().filter(belongs).cloned().collect();
        let succeeded: Vec<_> = ended.iter().filter(|pod| pod::phase(pod) == "Succeeded").cloned().collect();
        let failed: Vec<_> = ended.iter().filter(|pod| is_failed(&spec, pod)).cloned().collect();
        let uncounted = |pods: &[Arc<Pod>]| -> Vec<Arc<Pod>> {
            pods.iter().filter(|pod| is_tracked(pod) && !is_noted(&status, pod)).cloned().collect()
        };
        let (new_succeeded, new_failed) = (uncounted(&succeeded), uncounted(&failed));
        let record = match known {
            Some(record) => record.and(&new_succeeded, &new_failed),
            None => Record::default().and(&succeeded, &failed),
        };
        let newly_failed = new_failed.iter().filter(|pod| counts_as_failed(&spec, pod)).count();
        let noted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let length = |list: &Option<Vec<String>>| count(list.iter().flatten());
        let active: Vec<_> = pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
        let indexed = is_indexed(&spec).then(|| Indexed::of(&spec, &status, pods, &active));
        let new_successes = status.succeeded.unwrap_or(0) + length(&noted.succeeded) + count(&new_succeeded);
        Self {
            ready: count(active.iter().filter(|pod| pod::is_ready(pod))),
            terminating: count(pods.iter().filter(|pod| pod::is_terminating(pod))),
            succeeded: indexed.as_ref().map_or(new_successes, |indexed| indexed.succeeded.total()),
            failed: status.failed.unwrap_or(0) + length(&noted.failed) + count(0..newly_failed),
            fatal: failed.iter().find_map(|pod| match consequence(&spec, pod) {
                Consequence::FailJob { message } => Some(message),
                _ => None,
            }),
            record,
            indexed,
            active,
        }
    }
}

impl Indexed {
    fn of(spec: &JobSpec, status: &JobStatus, pods: &[Arc<Pod>], active: &[Arc<Pod>]) -> Self {
        let completions = spec.completions.unwrap_or(0);
        let read = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        let counted = read(&status.completed_indexes);
        let mut succeeded = counted.clone();
        let mut failed = limits_each_index(spec).then(|| read(&status.failed_indexes));
        let tracked: Vec<(i32, &Arc<Pod>)> =
            pods.iter().filter(|pod| is_tracked(pod)).filter_map(|pod| Some((valid_index(spec, pod)?, pod))).collect();
        for (index, pod) in &tracked {
            if pod::phase(pod) == "Succeeded" {
                succeeded.insert(*index);
            }
        }
        if let Some(failed) = &mut failed {
            for (index, pod) in &tracked {
                if is_failed(spec, pod) && ends_index(spec, pod) {
                    failed.insert(*index);
                }
            }
        }
        let working: Indexes = active.iter().filter_map(|pod| index_of(pod)).collect();
        let mut retried: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        if let Some(failed) = &failed {
            let is_open =
                |index: i32| !succeeded.contains(index) && !failed.contains(index) && !working.contains(index);
            for (index, pod) in tracked.iter().filter(|(index, pod)| is_failed(spec, pod) && is_open(*index)) {
                let is_newer = retried.get(index).is_none_or(|last| rank(last) < rank(pod));
                if is_newer {
                    retried.insert(*index, Arc::clone(pod));
                }
            }
        }
        let leaving = pods.iter().filter(|pod| pod::is_terminating(pod)).filter_map(|pod| index_of(pod)).collect();
        Self { counted, succeeded, failed, retried, leaving }
    }
}

/// The one with more failures before it came later.
fn rank(pod: &Pod) -> impl Ord + use<> {
    let (counted, ignored) = former_failures(pod);
    (counted + ignored, finished_at(pod))
}

/// With this failure the index has had all its chances.
fn ends_index(spec: &JobSpec, pod: &Pod) -> bool {
    let limit = spec.backoff_limit_per_index.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(0);
    match consequence(spec, pod) {
        Consequence::FailIndex => true,
        Consequence::Ignore => false,
        Consequence::Count | Consequence::FailJob { .. } => former_failures(pod).0 >= limit,
    }
}

/// The status holds its end already.
fn is_noted(status: &JobStatus, pod: &Pod) -> bool {
    let uid = pod.uid().unwrap_or_default();
    let noted = status.uncounted_terminated_pods.iter();
    noted.flat_map(|noted| noted.succeeded.iter().chain(&noted.failed).flatten()).any(|it| *it == uid)
}

/// Counts of the API are of this type.
pub(super) fn count<T>(things: impl IntoIterator<Item = T>) -> i32 {
    i32::try_from(things.into_iter().count()).unwrap_or(i32::MAX)
}
