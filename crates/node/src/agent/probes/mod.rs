//! Probes: a task per probe of a running container, which tells its pod when the verdict changes.

mod attempt;
mod grpc;
mod http;
mod judge;
mod target;
mod tls;

use std::{net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec, Probe};
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

pub(super) use self::target::port;
use self::{
    attempt::Target,
    judge::{Judge, Schedule},
};
use super::link::Link;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Startup,
    Readiness,
    Liveness,
}

/// What a probe has to say.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) container: String,
    /// The start of the container that was probed: late news of an earlier one is no news.
    pub(super) id: String,
    pub(super) purpose: Purpose,
    pub(super) news: News,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Verdict(bool),
    /// A failure that counts, and what it looked like.
    Failed(String),
    /// A success that somebody should look at.
    Odd(String),
}

/// What one probe has shown.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Good,
    /// Good, but not quite as it should be.
    Odd(String),
    Bad(String),
    /// The probe itself could not be carried out, which says nothing about the container.
    Unknown,
}

/// A probe at work; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Probing(AbortHandle);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is probed, and since when it runs.
#[derive(Debug, Clone)]
pub(super) struct Subject<'a> {
    pub(super) container: &'a Container,
    pub(super) id: &'a str,
    pub(super) started_at: Timestamp,
    pub(super) pod_ip: Ipv4Addr,
    pub(super) link: &'a Link,
}

pub(super) fn start(
    purpose: Purpose,
    probe: &Probe,
    subject: &Subject<'_>,
    findings: mpsc::Sender<Finding>,
) -> Probing {
    let target = Target { container: subject.container.clone(), pod_ip: subject.pod_ip, link: subject.link.clone() };
    let (probe, id, started_at) = (probe.clone(), subject.id.to_owned(), subject.started_at);
    let name = subject.container.name.clone();
    let task = tokio::spawn(async move {
        let report = |news| {
            let finding = Finding { container: name.clone(), id: id.clone(), purpose, news };
            let findings = findings.clone();
            async move { findings.send(finding).await.is_ok() }
        };
        let schedule = schedule(purpose, &probe);
        let ran = Timestamp::now().duration_since(started_at).unsigned_abs();
        tokio::time::sleep(schedule.initial_delay.saturating_sub(ran)).await;
        let (mut judge, first) = (Judge::new(schedule.clone()), Instant::now());
        loop {
            let (at, outcome) = (first.elapsed(), attempt::attempt(&probe, &target).await);
            let next = match outcome {
                Outcome::Unknown => schedule.period,
                outcome => {
                    let judgement = judge.observe(at, !matches!(outcome, Outcome::Bad(_)));
                    let worth_telling = match outcome {
                        Outcome::Bad(why) if judgement.counted => Some(News::Failed(why)),
                        Outcome::Odd(why) => Some(News::Odd(why)),
                        Outcome::Good | Outcome::Bad(_) | Outcome::Unknown => None,
                    };
                    if let Some(news) = worth_telling
                        && !report(news).await
                    {
                        return;
                    }
                    if let Some(verdict) = judgement.verdict
                        && !report(News::Verdict(verdict)).await
                    {
                        return;
                    }
                    judgement.next_in
                }
            };
            tokio::time::sleep_until(first + at + next).await;
        }
    });
    Probing(task.abort_handle())
}

fn schedule(purpose: Purpose, probe: &Probe) -> Schedule {
    let seconds =
        |value: Option<i32>, default: u32| Duration::from_secs(u64::from(value.map_or(default, i32::unsigned_abs)));
    Schedule {
        initial_delay: seconds(probe.initial_delay_seconds, 0),
        period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
        failure_threshold: probe.failure_threshold.map_or(3, i32::unsigned_abs).max(1),
        success_threshold: probe.success_threshold.map_or(1, i32::unsigned_abs).max(1),
        eager: purpose != Purpose::Liveness,
    }
}

impl Purpose {
    /// As events begin.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// What is left to a container that a probe ends: the probe's own grace period, or the pod's.
pub(super) fn grace_seconds(purpose: Purpose, container: &Container, pod: &PodSpec) -> u64 {
    let probe = match purpose {
        Purpose::Startup => container.startup_probe.as_ref(),
        Purpose::Liveness => container.liveness_probe.as_ref(),
        Purpose::Readiness => None,
    };
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    own.or(pod.termination_grace_period_seconds).unwrap_or(30).max(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_a_probe_has_its_default() {
        let check = |purpose, probe: serde_json::Value, expected: [u64; 4], eager| {
            let probe: Probe = serde_json::from_value(probe).expect("a probe");
            let got = schedule(purpose, &probe);
            let seconds = [got.initial_delay.as_secs(), got.period.as_secs()];
            let counts = [got.failure_threshold, got.success_threshold].map(u64::from);
            assert_eq!(([seconds, counts].concat(), got.eager), (expected.to_vec(), eager));
        };
        check(Purpose::Readiness, serde_json::json!({}), [0, 10, 3, 1], true);
        check(Purpose::Startup, serde_json::json!({"periodSeconds": 0, "failureThreshold": 0}), [0, 1, 1, 1], true);
        let all = serde_json::json!({
            "initialDelaySeconds": 5, "periodSeconds": 6, "failureThreshold": 7, "successThreshold": 8,
        });
        check(Purpose::Liveness, all, [5, 6, 7, 8], false);
    }

    #[test]
    fn a_probe_may_have_a_grace_period_of_its_own() {
        let check = |purpose, probe: serde_json::Value, pod: Option<i64>, expected| {
            let container =
                serde_json::json!({"name": "c", "livenessProbe": probe, "startupProbe": probe, "readinessProbe": {}});
            let container: Container = serde_json::from_value(container).expect("a container");
            let pod = PodSpec { termination_grace_period_seconds: pod, ..PodSpec::default() };
            assert_eq!(grace_seconds(purpose, &container, &pod), expected);
        };
        let own = serde_json::json!({"terminationGracePeriodSeconds": 3});
        check(Purpose::Liveness, own.clone(), Some(60), 3);
        check(Purpose::Startup, own.clone(), Some(60), 3);
        check(Purpose::Readiness, own, Some(60), 60);
        check(Purpose::Liveness, serde_json::json!({}), Some(60), 60);
        check(Purpose::Liveness, serde_json::json!({}), None, 30);
    }
}
