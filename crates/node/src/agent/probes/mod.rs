//! Probes: a task per probe of a running container, which tells its pod when the verdict changes.

mod attempt;
mod judge;
mod tls;

use std::{net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

pub(super) use self::attempt::port;
use self::{
    attempt::{Outcome, Target},
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
                    let judgement = judge.observe(at, outcome == Outcome::Good);
                    if let (Outcome::Bad(why), true) = (outcome, judgement.counted)
                        && !report(News::Failed(why)).await
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
