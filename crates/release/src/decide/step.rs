//! One step of the plan, from its first pod to the moment it is left.

use sluice_model::amount::Share;
use sluice_model::duration;
use sluice_model::rollout::{Exposure, Phase, Revision, When};

use super::checks::Checked;
use super::{Pass, Turn, after, name, only};
use crate::{Hold, Shift, Split, Step, copies};

impl Pass<'_> {
    pub(super) fn walk_step(&mut self) -> Turn {
        let (Some(stable), Some(candidate)) = (self.status.stable.clone(), self.status.candidate.clone()) else {
            return Turn::Rest("waiting: there is no candidate".to_owned());
        };
        self.status.phase = Some(if self.status.paused.is_some() { Phase::Paused } else { Phase::Progressing });
        let index = self.index();
        self.status.step = u32::try_from(index + 1).ok();
        let release = Versions { stable, candidate, split: self.split_of(index), before: self.split_before(index) };
        let step = &self.desired.steps[index];
        match self.desired.shift {
            Shift::Routes => self.walk_by_routes(step, &release),
            Shift::Replicas | Shift::Recreate => self.walk_by_replicas(step, &release),
        }
    }

    /// The present step, counted from 0; the last one if the plan became shorter meanwhile.
    pub(super) fn index(&self) -> usize {
        let step = self.status.step.unwrap_or(1).max(1) as usize;
        step.min(self.desired.steps.len()) - 1
    }

    fn split_of(&self, index: usize) -> Split {
        self.desired.split(&self.desired.steps[index], self.observed.replicas, self.fences)
    }

    fn split_before(&self, index: usize) -> Split {
        match index.checked_sub(1) {
            Some(before) => self.split_of(before),
            None => Split { candidate: 0, stable: self.observed.replicas },
        }
    }

    fn walk_by_routes(&mut self, step: &Step, release: &Versions) -> Turn {
        let Versions { stable, candidate, split, .. } = release;
        let wanted = exposure(step, stable, candidate);
        if self.status.exposure.is_none() && self.ready(&stable.hash) > 0 {
            self.set_exposure(Some(only(stable)));
        }
        self.size_for_routes(&wanted, release);
        if self.status.exposed_at.is_none() {
            if let Some(wait) = self.pods_are_missing(candidate, split.candidate) {
                return wait;
            }
            if let Some(wait) = self.expose(step, wanted) {
                return wait;
            }
        }
        self.hold(step, release)
    }

    /// Both versions get what this step needs and keep what the one before needed, until it is left: going back must
    /// not have to wait for pods. Nothing shrinks while gateways may still serve another split.
    fn size_for_routes(&mut self, wanted: &Exposure, release: &Versions) {
        let Versions { stable, candidate, split, before } = release;
        let stable_size = split.stable.max(before.stable);
        let settled = self.status.applied_at.is_some();
        if !settled {
            self.grow(&stable.hash, stable_size);
            self.grow(&candidate.hash, split.candidate);
            return;
        }
        self.set_size(&stable.hash, stable_size);
        self.shrink_all_but(&[&stable.hash, &candidate.hash]);
        if self.status.exposure.as_ref() == Some(wanted) {
            self.set_size(&candidate.hash, split.candidate);
        } else {
            self.grow(&candidate.hash, split.candidate);
        }
    }

    /// Checks `before`, then the routes, then their acknowledgement. None: the step is exposed, its hold begins.
    fn expose(&mut self, step: &Step, wanted: Exposure) -> Option<Turn> {
        match self.run_checks(step, When::Before) {
            Checked::Good => {}
            Checked::Waiting(why) => return Some(self.rest(&why)),
            Checked::Bad(why) => return Some(self.begin_back(why, true)),
        }
        if let Some(why) = self.status.paused.clone() {
            return Some(self.rest(&format!("paused: {why}")));
        }
        if self.status.exposure.as_ref() != Some(&wanted) {
            if self.status.applied_at.is_none() {
                return Some(self.rest("waiting until every gateway serves the split before this one"));
            }
            self.event(false, "Exposed", exposed(&wanted));
            self.set_exposure(Some(wanted));
        }
        if self.status.applied_at.is_none() {
            return Some(self.rest("waiting until every gateway serves this split"));
        }
        self.status.exposed_at = Some(self.now);
        None
    }

    fn walk_by_replicas(&mut self, step: &Step, release: &Versions) -> Turn {
        let Versions { stable, candidate, split, .. } = release;
        self.set_exposure(None);
        if let Checked::Bad(why) = self.run_checks(step, When::During) {
            return self.begin_back(why, true);
        }
        if let Some(why) = self.status.paused.clone() {
            return self.rest(&format!("paused: {why}"));
        }
        let in_place = self.move_pods(Some(candidate), stable, *split);
        if self.status.exposed_at.is_none() {
            if let Some(wait) = self.pods_are_missing(candidate, split.candidate) {
                return wait;
            }
            if !in_place {
                return self.rest(&format!("waiting until {} pods of {} are left", split.stable, name(stable)));
            }
            self.status.exposed_at = Some(self.now);
        }
        self.hold(step, release)
    }

    /// The step is in place: hold and checks, then drain, then on.
    fn hold(&mut self, step: &Step, release: &Versions) -> Turn {
        let checked = self.run_checks(step, When::During);
        if let Checked::Bad(why) = checked {
            return self.begin_back(why, true);
        }
        if let Some(why) = self.status.paused.clone() {
            return self.rest(&format!("paused: {why}"));
        }
        if !self.status.promoting {
            if let Some(why) = self.holding(step) {
                return self.rest(&why);
            }
            if let Checked::Waiting(why) = checked {
                return self.rest(&why);
            }
        }
        if let Some(wait) = self.pods_are_missing(&release.candidate, release.split.candidate) {
            return wait;
        }
        self.leave(release)
    }

    fn holding(&mut self, step: &Step) -> Option<String> {
        match step.hold {
            _ if self.status.approved => None,
            Hold::Approval => Some("waiting for approval".to_owned()),
            Hold::For(hold) => {
                let until = after(self.status.exposed_at?, hold);
                (self.now < until).then(|| {
                    self.wake_at(until);
                    format!("holding until {until:.0}")
                })
            }
        }
    }

    fn leave(&mut self, release: &Versions) -> Turn {
        let Versions { stable, split, .. } = release;
        let index = self.index();
        let drained = self.status.applied_at.map(|applied| after(applied, self.desired.drain));
        if self.desired.shift == Shift::Routes
            && split.stable < self.size(&stable.hash)
            && let Some(until) = drained.filter(|until| self.now < *until)
        {
            self.wake_at(until);
            return self.rest(&format!("draining until {until:.0}"));
        }
        if index + 1 == self.desired.steps.len() {
            return self.complete();
        }
        self.enter(index + 1);
        Turn::Again
    }

    /// A candidate that makes no progress for too long is turned down.
    fn pods_are_missing(&mut self, candidate: &Revision, wanted: u32) -> Option<Turn> {
        let ready = self.ready(&candidate.hash);
        if ready >= wanted {
            return None;
        }
        if let Some(why) = self.status.paused.clone() {
            return Some(self.rest(&format!("paused: {why}")));
        }
        let deadline = self.observed.progress_deadline;
        if let Some(since) = self.status.progressed_at {
            let until = after(since, deadline);
            if until <= self.now {
                let why = format!("{ready} of {wanted} pods ready, and no progress for {}", duration::show(deadline));
                return Some(self.begin_back(why, true));
            }
            self.wake_at(until);
        }
        Some(self.rest(&format!("{ready} of {wanted} pods of {} ready", name(candidate))))
    }

    /// Rests, saying in which step.
    fn rest(&self, why: &str) -> Turn {
        let index = self.index();
        let step = &self.desired.steps[index];
        Turn::Rest(format!("step {}/{} ({}): {why}", index + 1, self.desired.steps.len(), step.name))
    }
}

/// The two versions of a step and their pods, in it and in the one before.
struct Versions {
    stable: Revision,
    candidate: Revision,
    split: Split,
    before: Split,
}

fn exposure(step: &Step, stable: &Revision, candidate: &Revision) -> Exposure {
    if step.traffic == Share::NONE && step.matches.is_empty() && step.copies.is_none() {
        return only(stable);
    }
    Exposure {
        stable: stable.hash.clone(),
        candidate: Some(candidate.hash.clone()),
        candidate_weight: step.traffic.hundredths(),
        matches: step.matches.clone(),
        sticky: step.sticky.clone(),
        copies: step.copies.clone(),
    }
}

fn exposed(wanted: &Exposure) -> String {
    let note = format!("{} of the traffic goes to the candidate", Share::from_hundredths(wanted.candidate_weight));
    match &wanted.copies {
        None => note,
        Some(copies) => format!("{note}, and copies of {}", copies::describe(copies)),
    }
}
