//! What a ReplicaSet says of its pods.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;

use super::super::time::time;
use super::keeper::{Keeper, Wanted};
use super::{Failure, pod};

const REPLICA_FAILURE: &str = "ReplicaFailure";

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    active: i32,
    fully_labeled: i32,
    ready: i32,
    available: i32,
    terminating: i32,
    /// When the next pod becomes available if nothing else happens.
    pub(super) next_available: Option<Duration>,
}

impl Counts {
    pub(super) fn of(wanted: &Wanted, owned: &[Arc<Pod>], now: Timestamp) -> Self {
        let template_labels =
            wanted.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
        let mut counts = Self::default();
        for pod in owned {
            counts.terminating += i32::from(pod::is_terminating(pod));
            if !pod::is_active(pod) {
                continue;
            }
            let labels = pod.metadata.labels.as_ref();
            let is_fully_labeled =
                template_labels.iter().all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value));
            counts.active += 1;
            counts.fully_labeled += i32::from(is_fully_labeled);
            counts.ready += i32::from(pod::is_ready(pod));
            match pod::until_available(pod, wanted.min_ready, now) {
                Some(Duration::ZERO) => counts.available += 1,
                Some(wait) => counts.next_available = Some(counts.next_available.map_or(wait, |next| next.min(wait))),
                None => {}
            }
        }
        counts
    }
}

pub(super) fn next<K: Keeper>(set: &K, counts: &Counts, failure: Option<&Failure>, now: Timestamp) -> ReplicaSetStatus {
    let present = |count: i32| (count != 0).then_some(count);
    ReplicaSetStatus {
        replicas: counts.active,
        fully_labeled_replicas: present(counts.fully_labeled),
        ready_replicas: present(counts.ready),
        available_replicas: present(counts.available),
        terminating_replicas: Some(counts.terminating),
        observed_generation: Resource::meta(set).generation,
        conditions: conditions(set, failure, now),
    }
}

fn conditions<K: Keeper>(set: &K, failure: Option<&Failure>, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    let (standing, mut rest): (Vec<_>, Vec<_>) =
        set.conditions().into_iter().partition(|it| it.type_ == REPLICA_FAILURE);
    match (failure, standing.into_iter().next()) {
        (Some(_), Some(standing)) => rest.push(standing),
        (Some(failure), None) => rest.push(ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(time(now)),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
        }),
        (None, _) => {}
    }
    (!rest.is_empty()).then_some(rest)
}
