//! A small world around `decide`: pods that take time, gateways that acknowledge late, a clock that only ticks.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use sluice_model::rollout::{Exposure, Phase, Revision, RolloutCommandSpec, RolloutSpec, RolloutStatus, Verb};
use sluice_release::{Command, Decision, Desired, Fences, Measured, Observed, Probe, Version, decide, window_start};
use sluice_stats::Verdict;

/// How a version behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Its pods never become ready.
    pub(crate) never_ready: bool,
    /// Its checks fail.
    pub(crate) bad: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pod {
    Starting(u32),
    Ready,
    Stopping(u32),
}

#[derive(Debug, Clone, Default)]
struct Running {
    health: Health,
    number: i64,
    size: u32,
    pods: Vec<Pod>,
}

/// Ticks that things take; a tick is a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) start: u32,
    pub(crate) stop: u32,
    pub(crate) acknowledge: u32,
}

pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) status: RolloutStatus,
    pub(crate) replicas: u32,
    pub(crate) pace: Pace,
    pub(crate) log: Vec<String>,
    /// What the gateways really serve.
    pub(crate) served: Option<Exposure>,
    /// Verdicts of checks are withheld while true.
    pub(crate) no_traffic: bool,
    pub(crate) answers: Vec<String>,
    desired: Desired,
    current: String,
    versions: BTreeMap<String, Running>,
    commands: Vec<Command>,
    unacknowledged_for: u32,
    fences: Fences,
    second: u32,
}

impl World {
    pub(crate) fn new(spec: &str, replicas: u32) -> Self {
        let spec: RolloutSpec = serde_json::from_str(spec).expect("a spec");
        let desired = Desired::read(&spec).unwrap_or_else(|errors| panic!("{errors:?}"));
        Self {
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            status: RolloutStatus::default(),
            replicas,
            pace: Pace { start: 2, stop: 1, acknowledge: 1 },
            log: Vec::new(),
            served: None,
            no_traffic: false,
            answers: Vec::new(),
            desired,
            current: String::new(),
            versions: BTreeMap::new(),
            commands: Vec::new(),
            unacknowledged_for: 0,
            fences: Fences { surge: 1, unavailable: 0 },
            second: 0,
        }
    }

    /// A world in which `v1` serves already.
    pub(crate) fn serving_v1(spec: &str, replicas: u32) -> Self {
        let mut world = Self::new(spec, replicas);
        world.template("v1", Health::default());
        world.run(20);
        assert_eq!(world.status.phase, Some(Phase::Idle), "{:#?}", world.status);
        world.log.clear();
        world.second = 0;
        world
    }

    /// The workload's template changes; a version seen before comes back with its old name.
    pub(crate) fn template(&mut self, hash: &str, health: Health) {
        let number = i64::try_from(self.versions.len()).expect("few versions") + 1;
        self.current = hash.to_owned();
        self.versions.entry(hash.to_owned()).or_insert_with(|| Running { health, number, ..Running::default() });
    }

    pub(crate) fn heal(&mut self, hash: &str) {
        self.versions.get_mut(hash).expect("a version").health = Health::default();
    }

    pub(crate) fn ask(&mut self, verb: Verb) {
        self.ask_with(verb, None, None);
    }

    pub(crate) fn ask_with(&mut self, verb: Verb, revision: Option<&str>, step: Option<u32>) {
        let uid = format!("u{}-{}", self.second, self.answers.len() + self.commands.len());
        let spec = RolloutCommandSpec {
            rollout: "shop".to_owned(),
            verb,
            revision: revision.map(str::to_owned),
            step,
            by: None,
        };
        self.commands.push(Command { name: format!("{verb:?}"), uid, created: self.now, spec });
    }

    pub(crate) fn crash(&mut self, hash: &str, position: usize) {
        let start = self.pace.start;
        if let Some(pod) = self.versions.get_mut(hash).and_then(|version| version.pods.get_mut(position))
            && *pod == Pod::Ready
        {
            *pod = Pod::Starting(start);
        }
    }

    pub(crate) fn hashes(&self) -> Vec<String> {
        self.versions.keys().cloned().collect()
    }

    pub(crate) fn current(&self) -> &str {
        &self.current
    }

    pub(crate) fn health(&self, hash: &str) -> Health {
        self.versions[hash].health
    }

    pub(crate) fn ready(&self, hash: &str) -> u32 {
        let pods = self.versions.get(hash).map_or(&[][..], |version| &version.pods);
        u32::try_from(pods.iter().filter(|pod| **pod == Pod::Ready).count()).expect("few pods")
    }

    pub(crate) fn fences(&self) -> Fences {
        self.desired.fences(self.replicas, self.fences)
    }

    pub(crate) fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Ticks until nothing changes any more for a while, at most `ticks` times.
    pub(crate) fn run(&mut self, ticks: u32) -> bool {
        let mut quiet = 0;
        for _ in 0..ticks {
            let before = (self.status.clone(), self.pods());
            self.tick(true);
            quiet = if (self.status.clone(), self.pods()) == before { quiet + 1 } else { 0 };
            if quiet > 5 && self.commands.is_empty() && !self.waits_for_time() {
                return true;
            }
        }
        false
    }

    fn waits_for_time(&self) -> bool {
        decide(&self.desired, &self.observe(), &self.status, self.now).wake.is_some()
    }

    /// One second: the world moves, then a decision is made, and is lost if it cannot be written.
    pub(crate) fn tick(&mut self, written: bool) {
        self.second += 1;
        self.now += Duration::from_secs(1);
        self.gateways();
        self.pods_move();
        let decision = decide(&self.desired, &self.observe(), &self.status, self.now);
        if written {
            self.apply(decision);
        }
    }

    fn apply(&mut self, decision: Decision) {
        let Decision { status, outcomes, events: _, measure: _, wake: _ } = decision;
        for outcome in outcomes {
            let verdict = if outcome.done { "done" } else { "refused" };
            self.answers.push(format!("{}: {verdict}: {}", outcome.name, outcome.message));
            self.commands.retain(|command| command.uid != outcome.uid);
        }
        if status.message != self.status.message {
            let line = format!("{:>3} {} | {} | {}", self.second, self.split(&status), self.pods(), status.message);
            self.log.push(line);
        }
        if status.exposure != self.status.exposure {
            self.unacknowledged_for = 0;
        }
        self.status = status;
    }

    /// `stable 90 candidate 10`
    fn split(&self, status: &RolloutStatus) -> String {
        match &status.exposure {
            None => "even".to_owned(),
            Some(exposure) => {
                let part = exposure.candidate.as_ref().map_or(String::new(), |candidate| {
                    let matched = if exposure.matches.is_empty() { "" } else { "+match" };
                    format!(" {candidate} {}{matched}", exposure.candidate_weight / 100)
                });
                format!("{} {}{part}", exposure.stable, 100 - exposure.candidate_weight / 100)
            }
        }
    }

    /// `v1 4/4 v2 1/2`: ready of all.
    fn pods(&self) -> String {
        let existing = self.versions.iter().filter(|(_, version)| !version.pods.is_empty());
        let shown = existing.map(|(hash, version)| format!("{hash} {}/{}", self.ready(hash), version.pods.len()));
        shown.collect::<Vec<_>>().join(" ")
    }

    fn gateways(&mut self) {
        self.unacknowledged_for += 1;
        if self.unacknowledged_for >= self.pace.acknowledge {
            self.served = self.status.exposure.clone();
        }
    }

    fn pods_move(&mut self) {
        let Pace { start, stop, .. } = self.pace;
        let first = self.status.sizes.is_empty();
        for (hash, version) in &mut self.versions {
            let size = self.status.sizes.get(hash).map(|size| size.unsigned_abs());
            version.size = size.unwrap_or(if first && *hash == self.current { self.replicas } else { version.size });
            for pod in &mut version.pods {
                *pod = match *pod {
                    Pod::Starting(0 | 1) if !version.health.never_ready => Pod::Ready,
                    Pod::Starting(left) => Pod::Starting(left.saturating_sub(1)),
                    Pod::Ready => Pod::Ready,
                    Pod::Stopping(left) => Pod::Stopping(left.saturating_sub(1)),
                };
            }
            version.pods.retain(|pod| *pod != Pod::Stopping(0));
            let active = |pod: &Pod| !matches!(pod, Pod::Stopping(_));
            let mut have = version.pods.iter().filter(|pod| active(pod)).count();
            while have < version.size as usize {
                version.pods.push(Pod::Starting(start));
                have += 1;
            }
            while have > version.size as usize {
                let unready = version.pods.iter().position(|pod| matches!(pod, Pod::Starting(_)));
                let position = unready.or_else(|| version.pods.iter().position(active)).expect("an active pod");
                version.pods[position] = Pod::Stopping(stop);
                have -= 1;
            }
        }
    }

    pub(crate) fn observe(&self) -> Observed {
        let seen = |(hash, version): (&String, &Running)| {
            let pods = u32::try_from(version.pods.len()).expect("few pods");
            let seen = Version { number: Some(version.number), size: version.size, pods, ready: self.ready(hash) };
            (hash.clone(), seen)
        };
        let current = self.versions.get(&self.current);
        Observed {
            replicas: self.replicas,
            current: current.map(|version| Revision { hash: self.current.clone(), number: Some(version.number) }),
            versions: self.versions.iter().map(seen).collect(),
            acknowledged: self.served == self.status.exposure,
            fences: self.fences,
            progress_deadline: Duration::from_secs(60),
            commands: self.commands.clone(),
            measured: self.measure(),
        }
    }

    fn measure(&self) -> BTreeMap<String, Measured> {
        let Some(candidate) = self.status.candidate.as_ref().map(|candidate| self.health(&candidate.hash)) else {
            return BTreeMap::new();
        };
        let verdict = match (self.no_traffic, candidate.bad) {
            (true, _) => Verdict::NoData,
            (false, true) => Verdict::Fail,
            (false, false) => Verdict::Pass,
        };
        let mut measured = BTreeMap::new();
        for check in &self.desired.checks {
            let since = match check.probe {
                Probe::Http(_) => Some(self.now),
                Probe::Metric(_) => window_start(&self.desired, &self.status),
            };
            let evidence = format!("{verdict:?}");
            measured
                .extend(since.map(|since| (check.name.clone(), Measured { at: self.now, since, verdict, evidence })));
        }
        measured
    }
}
