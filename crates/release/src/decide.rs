//! From what is wanted and what is observed to the next situation.
//!
//! The status is the whole memory: a pass reads it, changes it as far as the world allows, and stops at the first thing that
//! must be waited for. The order inside a step is fixed: scale up, ready, checks `before`, routes, acknowledged, hold and
//! checks, drain, scale down. A pass runs until nothing more follows, so a second pass over the same world changes nothing.

mod back;
mod checks;
mod paced;
mod step;
mod verbs;

use std::time::Duration;

use jiff::Timestamp;
use sluice_model::amount::Share;
use sluice_model::rollout::{Exposure, Phase, Rejection, Revision, RolloutStatus};

use crate::plan::{plan, share_of_pods};
use crate::{Decision, Desired, Event, Fences, Observed, Outcome, Shift, Version, invariants};

pub use checks::window_start;

/// Far more turns than a pass can need; more means that two rules contradict each other.
const MOST_TURNS: usize = 200;

/// Decides what to do next. Pure: the same arguments give the same decision.
pub fn decide(desired: &Desired, observed: &Observed, status: &RolloutStatus, now: Timestamp) -> Decision {
    let decision = run(desired, observed, status, now);
    if cfg!(debug_assertions) {
        let broken = invariants::check(desired, observed, status, &decision, now);
        assert!(
            broken.is_empty(),
            "{}\nbefore: {status:?}\nobserved: {observed:?}\nafter: {decision:?}",
            broken.join("\n")
        );
    }
    decision
}

pub(crate) fn run(desired: &Desired, observed: &Observed, status: &RolloutStatus, now: Timestamp) -> Decision {
    let mut pass = Pass::new(desired, observed, status, now);
    pass.carry_out_verbs();
    for _ in 0..MOST_TURNS {
        if let Turn::Rest(why) = pass.turn() {
            pass.status.message = why;
            break;
        }
    }
    pass.finish()
}

/// What one turn of a pass came to.
enum Turn {
    /// Something moved; look again.
    Again,
    /// Nothing more can be done now, and why.
    Rest(String),
}

struct Pass<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    now: Timestamp,
    fences: Fences,
    status: RolloutStatus,
    outcomes: Vec<Outcome>,
    events: Vec<Event>,
    measure: Vec<String>,
    wake: Option<Timestamp>,
}

impl<'a> Pass<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed, status: &RolloutStatus, now: Timestamp) -> Self {
        let fences = desired.fences(observed.replicas, observed.fences);
        let mut status = status.clone();
        if observed.acknowledged && status.applied_at.is_none() {
            status.applied_at = Some(now);
        }
        status.plan = plan(desired, observed.replicas, observed.fences).steps;
        status.sizes.retain(|hash, _| observed.versions.contains_key(hash));
        let nothing = Vec::new;
        let mut pass = Self {
            desired,
            observed,
            now,
            fences,
            status,
            outcomes: Vec::new(),
            events: Vec::new(),
            measure: nothing(),
            wake: None,
        };
        pass.note_progress();
        pass.note_first_service();
        pass
    }

    fn turn(&mut self) -> Turn {
        let Some(current) = self.current() else {
            return Turn::Rest("waiting: the workload has no ReplicaSet for its template yet".to_owned());
        };
        let Some(stable) = self.status.stable.clone() else { return self.adopt(&current) };
        if self.observed.replicas == 0 {
            return self.nothing_to_run(current, stable);
        }
        if self.status.rollback.is_some() {
            return self.go_back();
        }
        if self.status.phase == Some(Phase::Starting) {
            return self.start(current, &stable);
        }
        match &self.status.candidate {
            Some(candidate) if candidate.hash == current.hash => self.walk_step(),
            Some(_) if current.hash == stable.hash => {
                self.begin_back(format!("the template is back at {}", name(&stable)), false)
            }
            Some(_) => self.begin_back(format!("{} replaces it", name(&current)), false),
            None if current.hash == stable.hash => self.serve_stable(&stable),
            None if self.is_rejected(&current.hash) => self.serve_stable(&stable),
            None => self.begin(current),
        }
    }

    /// The version that the template names. While its ReplicaSet is not there yet, everything stays as it is.
    fn current(&self) -> Option<Revision> {
        self.observed.current.clone().or_else(|| self.status.candidate.clone()).or_else(|| self.status.stable.clone())
    }

    /// The first look at a workload: what serves now is the stable version.
    fn adopt(&mut self, current: &Revision) -> Turn {
        let serving =
            self.observed.versions.iter().max_by_key(|(hash, version)| (version.ready, **hash == current.hash));
        let stable = match serving {
            Some((hash, version)) if version.ready > 0 => Revision { hash: hash.clone(), number: version.number },
            _ => current.clone(),
        };
        self.status.phase = Some(if self.ready(&stable.hash) > 0 { Phase::Idle } else { Phase::Starting });
        self.status.stable = Some(stable);
        Turn::Again
    }

    /// Scaled to zero: no pods, no traffic, nothing that a step could protect.
    fn nothing_to_run(&mut self, current: Revision, stable: Revision) -> Turn {
        let next = if self.is_rejected(&current.hash) { stable } else { current };
        self.status.stable = Some(next);
        self.status.candidate = None;
        self.status.rollback = None;
        self.status.kept_until = None;
        self.status.phase = Some(Phase::Starting);
        self.leave_steps();
        self.set_exposure(None);
        self.shrink_all_but(&[]);
        Turn::Rest("the workload is scaled to 0".to_owned())
    }

    /// The first version goes straight to everything; one that never served is replaced without steps.
    fn start(&mut self, current: Revision, stable: &Revision) -> Turn {
        if stable.hash != current.hash && !self.is_rejected(&current.hash) {
            self.status.stable = Some(current);
            self.note_first_service();
            return Turn::Again;
        }
        self.leave_steps();
        self.set_size(&stable.hash, self.observed.replicas);
        self.shrink_all_but(&[&stable.hash]);
        Turn::Rest(format!("{} is coming up: 0 of {} pods ready", name(stable), self.observed.replicas))
    }

    /// No release is under way.
    fn serve_stable(&mut self, stable: &Revision) -> Turn {
        self.leave_steps();
        self.status.phase = Some(match &self.status.rejected {
            Some(rejected) if self.current().is_some_and(|current| current.hash == rejected.hash) => Phase::Rejected,
            _ if self.status.kept_until.is_some() => Phase::Promoted,
            _ => Phase::Idle,
        });
        if self.desired.shift != Shift::Routes {
            self.status.kept_until = None;
            self.set_exposure(None);
            if !self.move_pods(None, stable, crate::Split { candidate: 0, stable: self.observed.replicas }) {
                return Turn::Rest(format!("{} takes over the pods of older versions", name(stable)));
            }
            return Turn::Rest(self.serving(stable));
        }
        self.grow(&stable.hash, self.observed.replicas);
        if self.status.exposure != Some(only(stable)) {
            if self.ready(&stable.hash) == 0 {
                return Turn::Rest(format!("waiting: no pod of {} is ready", name(stable)));
            }
            self.set_exposure(Some(only(stable)));
        }
        if self.status.applied_at.is_none() {
            return Turn::Rest(format!("waiting until every gateway serves {}", name(stable)));
        }
        self.set_size(&stable.hash, self.observed.replicas);
        self.let_old_versions_go(stable)
    }

    /// The kept version stays until its time is up, everything else goes when it has drained.
    fn let_old_versions_go(&mut self, stable: &Revision) -> Turn {
        if self.status.kept_until.is_some_and(|until| until <= self.now) {
            self.status.kept_until = None;
            return Turn::Again;
        }
        let kept = self.status.kept_until.and(self.status.previous.clone());
        if let Some(wait) = self.draining(&[Some(stable), kept.as_ref()]) {
            return wait;
        }
        let mut keep = vec![stable.hash.as_str()];
        if let Some((kept, until)) = kept.as_ref().zip(self.status.kept_until) {
            keep.push(&kept.hash);
            self.set_size(&kept.hash, self.observed.replicas);
            self.wake_at(until);
        }
        self.shrink_all_but(&keep);
        Turn::Rest(self.serving(stable))
    }

    fn serving(&self, stable: &Revision) -> String {
        let (ready, replicas) = (self.ready(&stable.hash).min(self.observed.replicas), self.observed.replicas);
        let pods = if ready == replicas { String::new() } else { format!(" with {ready} of {replicas} pods ready") };
        if self.observed.current.is_none() {
            return format!("waiting for the ReplicaSet of the template; {} serves all traffic{pods}", name(stable));
        }
        match (&self.status.rejected, self.status.kept_until) {
            (Some(rejected), _) if self.status.phase == Some(Phase::Rejected) => format!(
                "{} was turned down: {}; {} serves all traffic{pods}",
                short(&rejected.hash, rejected.number),
                rejected.reason,
                name(stable),
            ),
            (_, Some(until)) => {
                format!("{} serves all traffic{pods}; the version before it is kept until {until:.0}", name(stable))
            }
            _ => format!("{} serves all traffic{pods}", name(stable)),
        }
    }

    /// A new version: it starts at the first step, or at the last one if it is the kept version on its way back.
    fn begin(&mut self, current: Revision) -> Turn {
        let kept = self.status.kept_until.is_some_and(|until| self.now < until)
            && self.status.previous.as_ref().is_some_and(|previous| previous.hash == current.hash);
        self.event(false, "Started", format!("releasing {}", name(&current)));
        self.status.candidate = Some(current);
        self.status.rejected = None;
        self.status.kept_until = None;
        self.enter(if kept { self.desired.steps.len() - 1 } else { 0 });
        self.status.promoting = false;
        Turn::Again
    }

    /// The candidate becomes the stable version.
    fn complete(&mut self) -> Turn {
        let candidate = self.status.candidate.take();
        let stable = std::mem::replace(&mut self.status.stable, candidate);
        if let Some(stable) = &self.status.stable {
            let note = format!("{} is released", name(stable));
            self.event(false, "Released", note);
        }
        self.status.previous = stable;
        let keeps = self.desired.shift == Shift::Routes && !self.desired.keep_old.is_zero();
        self.status.kept_until = keeps.then(|| after(self.now, self.desired.keep_old));
        self.status.phase = Some(Phase::Idle);
        self.leave_steps();
        Turn::Again
    }

    /// Forgets everything that belongs to a step. Checks stay to be read until the next release.
    fn leave_steps(&mut self) {
        self.status.step = None;
        self.status.step_started_at = None;
        self.status.progressed_at = None;
        self.status.exposed_at = None;
        self.status.approved = false;
        self.status.promoting = false;
    }

    /// Goes to a step, counted from 0.
    fn enter(&mut self, index: usize) {
        self.status.step = u32::try_from(index + 1).ok();
        self.status.step_started_at = Some(self.now);
        self.status.progressed_at = Some(self.now);
        self.status.exposed_at = None;
        self.status.approved = false;
        self.status.checks.clear();
    }

    fn finish(mut self) -> Decision {
        self.describe();
        let Self { status, outcomes, events, mut measure, wake, .. } = self;
        measure.sort_unstable();
        measure.dedup();
        Decision { status, outcomes, events, measure, wake }
    }

    /// The parts of the status that are for people.
    fn describe(&mut self) {
        let progress = self.status.step.and_then(|step| {
            let found = self.desired.steps.get(step as usize - 1)?;
            Some(format!("{step}/{} {}", self.desired.steps.len(), found.name))
        });
        self.status.progress = progress.unwrap_or_default();
        let weight = match (&self.status.candidate, &self.status.stable, self.desired.shift) {
            (None, _, _) | (_, None, _) => None,
            (Some(_), Some(_), Shift::Routes) => {
                self.status.exposure.as_ref().map(|exposure| Share::from_hundredths(exposure.candidate_weight))
            }
            (Some(candidate), Some(stable), _) => {
                Some(share_of_pods(self.ready(&candidate.hash), self.ready(&stable.hash)))
            }
        };
        self.status.weight = weight.map(|weight| weight.to_string()).unwrap_or_default();
    }

    /// The first version has begun to serve: from now on it is what a release protects.
    fn note_first_service(&mut self) {
        let serves = self.status.stable.as_ref().is_some_and(|stable| self.ready(&stable.hash) > 0);
        if serves && self.status.phase == Some(Phase::Starting) && self.observed.replicas > 0 {
            self.status.phase = Some(Phase::Idle);
        }
    }

    /// Remembers the ready pods, and when the candidate got more of them.
    fn note_progress(&mut self) {
        let ready = |hash: &String, version: &Version| (hash.clone(), signed(version.ready));
        let ready: std::collections::BTreeMap<_, _> =
            self.observed.versions.iter().map(|(hash, version)| ready(hash, version)).collect();
        if let Some(candidate) = &self.status.candidate {
            let count = |of: &std::collections::BTreeMap<String, i32>| of.get(&candidate.hash).copied().unwrap_or(0);
            if count(&ready) > count(&self.status.ready) {
                self.status.progressed_at = Some(self.now);
            }
        }
        self.status.ready = ready;
    }

    fn is_rejected(&self, hash: &str) -> bool {
        self.status.rejected.as_ref().is_some_and(|rejected| rejected.hash == hash)
    }

    fn reject(&mut self, revision: Revision, reason: String) {
        self.status.rejected = Some(Rejection { hash: revision.hash, number: revision.number, reason });
    }

    fn ready(&self, hash: &str) -> u32 {
        self.observed.versions.get(hash).map_or(0, |version| version.ready)
    }

    /// What a version was last asked to have; what its ReplicaSet asks for if nobody said yet.
    fn size(&self, hash: &str) -> u32 {
        let asked = self.status.sizes.get(hash).map(|size| size.unsigned_abs());
        asked.or_else(|| self.observed.versions.get(hash).map(|version| version.size)).unwrap_or(0)
    }

    fn set_size(&mut self, hash: &str, size: u32) {
        if self.observed.versions.contains_key(hash) {
            self.status.sizes.insert(hash.to_owned(), signed(size));
        }
    }

    /// Never below what it already has.
    fn grow(&mut self, hash: &str, size: u32) {
        self.set_size(hash, size.max(self.size(hash)));
    }

    fn shrink_all_but(&mut self, keep: &[&str]) {
        let gone: Vec<String> =
            self.observed.versions.keys().filter(|hash| !keep.contains(&hash.as_str())).cloned().collect();
        for hash in gone {
            self.set_size(&hash, 0);
        }
    }

    /// Waits until versions other than these had time to finish their requests. Only if there is something to shrink.
    fn draining(&mut self, keep: &[Option<&Revision>]) -> Option<Turn> {
        let kept = |hash: &str| keep.iter().flatten().any(|revision| revision.hash == hash);
        let shrinks = self.observed.versions.keys().any(|hash| !kept(hash) && self.size(hash) > 0);
        let until = after(self.status.applied_at?, self.desired.drain);
        if !shrinks || until <= self.now {
            return None;
        }
        self.wake_at(until);
        Some(Turn::Rest(format!("draining until {until:.0}: requests of the withdrawn version may finish")))
    }

    /// Nothing is shrunk from here until every gateway has acknowledged.
    fn set_exposure(&mut self, exposure: Option<Exposure>) {
        if self.status.exposure != exposure {
            self.status.exposure = exposure;
            self.status.applied_at = None;
        }
    }

    fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }

    fn event(&mut self, warning: bool, reason: &'static str, note: String) {
        self.events.push(Event { warning, reason, note });
    }
}

/// Everything to one version.
fn only(stable: &Revision) -> Exposure {
    Exposure { stable: stable.hash.clone(), ..Exposure::default() }
}

/// `revision 3 (7d9fc6b5)`
fn name(revision: &Revision) -> String {
    short(&revision.hash, revision.number)
}

fn short(hash: &str, number: Option<i64>) -> String {
    match number {
        Some(number) => format!("revision {number} ({hash})"),
        None => format!("revision {hash}"),
    }
}

/// A moment that no clock reaches stands for one beyond the calendar.
fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn signed(pods: u32) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}
