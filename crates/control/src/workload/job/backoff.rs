//! How long a Job waits before it tries again: longer with each failure since the last success.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// What is remembered of a Job's failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Record {
    failures: u32,
    last_failure: Option<Timestamp>,
}

impl Record {
    /// With pods that have finished since.
    pub(super) fn and(mut self, succeeded: &[Arc<Pod>], failed: &[Arc<Pod>]) -> Self {
        let last_success = succeeded.iter().map(|pod| finished_at(pod)).max();
        if last_success.is_some() {
            self.failures = 0;
        }
        for pod in failed {
            let at = finished_at(pod);
            self.last_failure = self.last_failure.max(Some(at));
            self.failures += u32::from(last_success.is_none_or(|success| success < at));
        }
        self
    }

    pub(super) fn remaining(&self, now: Timestamp) -> Duration {
        self.last_failure.map_or(Duration::ZERO, |last| remaining(self.failures, last, now))
    }
}

/// How much longer after so many failures, the last of them then.
pub(super) fn remaining(failures: u32, last: Timestamp, now: Timestamp) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let pause = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST);
    // A time in the future counts as now: clocks of nodes may be wrong.
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    pause.saturating_sub(passed)
}

/// By its containers; else by its readiness, its deletion, its birth: whichever somebody has written down.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    by_containers(pod)
        .or_else(|| by_readiness(pod))
        .or_else(|| by_deletion(pod))
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn by_containers(pod: &Pod) -> Option<Timestamp> {
    let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
    let ends: Option<Vec<_>> = containers
        .iter()
        .map(|container| Some(container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0))
        .collect();
    ends?.into_iter().max()
}

fn by_readiness(pod: &Pod) -> Option<Timestamp> {
    let ready = pod::condition(pod, "Ready").filter(|ready| ready.status == "False")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

fn by_deletion(pod: &Pod) -> Option<Timestamp> {
    let due = pod.metadata.deletion_timestamp.as_ref()?.0;
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    due.checked_sub(jiff::SignedDuration::from_secs(grace)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(at: &str) -> Arc<Pod> {
        let state = json!({"terminated": {"exitCode": 1, "finishedAt": format!("2026-01-01T00:{at}Z")}});
        let container =
            json!({"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        Arc::new(serde_json::from_value(json!({"metadata": {}, "status": {"containerStatuses": [container]}})).unwrap())
    }

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T00:{time}Z").parse().unwrap()
    }

    #[test]
    fn each_failure_doubles_the_pause() {
        for (failures, passed, expected) in
            [(0, 0, 0), (1, 0, 10), (1, 4, 6), (1, 30, 0), (2, 5, 15), (3, 0, 40), (20, 0, 600)]
        {
            let now = at("10:00") + Duration::from_secs(passed);
            assert_eq!(remaining(failures, at("10:00"), now), Duration::from_secs(expected), "{failures} {passed}");
        }
    }

    #[test]
    fn a_success_forgives_what_was_before_it() {
        let now = at("01:00");
        let failed_twice = Record::default().and(&[], &[ended("00:50"), ended("01:00")]);
        assert_eq!(failed_twice.remaining(now), Duration::from_secs(20));
        assert_eq!(failed_twice.and(&[], &[]), failed_twice);
        assert_eq!(failed_twice.and(&[ended("01:00")], &[]).remaining(now), Duration::ZERO);
        let between = failed_twice.and(&[ended("00:58")], &[ended("00:57"), ended("00:59")]);
        assert_eq!(between.remaining(now), Duration::from_secs(10));
    }
}
