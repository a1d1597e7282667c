//! The promises of the design, as one checker that every test of a decision runs, and every decision of a debug build.

use jiff::Timestamp;
use sluice_model::amount::Share;
use sluice_model::rollout::{Exposure, RolloutStatus, Verb};

use crate::decide::run;
use crate::{Decision, Desired, Observed, Shift};

/// Everything that `decision` breaks; empty when it keeps all promises.
pub fn check(
    desired: &Desired,
    observed: &Observed,
    before: &RolloutStatus,
    decision: &Decision,
    now: Timestamp,
) -> Vec<String> {
    let case = Case { desired, observed, before, after: &decision.status };
    let mut broken = Vec::new();
    case.routes_need_ready_pods(&mut broken);
    case.shares_keep_their_pods(&mut broken);
    case.routes_swap_one_at_a_time(&mut broken);
    case.abort_wins(&mut broken);
    case.verbs_are_answered(decision, &mut broken);
    case.second_pass_is_quiet(now, &mut broken);
    broken
}

struct Case<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    before: &'a RolloutStatus,
    after: &'a RolloutStatus,
}

impl Case<'_> {
    /// 1. No version gets more traffic than before without a ready pod.
    fn routes_need_ready_pods(&self, broken: &mut Vec<String>) {
        let Some(exposure) = &self.after.exposure else { return };
        for hash in std::iter::once(&exposure.stable).chain(&exposure.candidate) {
            let rises = share(Some(exposure), hash) > share(self.before.exposure.as_ref(), hash);
            if rises && self.ready(hash) == 0 {
                broken.push(format!("1: traffic is routed to {hash}, which has no ready pod"));
            }
        }
    }

    /// 2. No version shrinks below what its applied share needs, and none while a swap is not acknowledged.
    fn shares_keep_their_pods(&self, broken: &mut Vec<String>) {
        if self.observed.replicas == 0 {
            return;
        }
        let sizes = self.after.sizes.iter().map(|(hash, size)| (hash, size.unsigned_abs()));
        for (hash, size) in sizes.filter(|(hash, size)| *size < self.size_before(hash)) {
            let enough = match self.desired.shift {
                Shift::Routes => self.enough_for_routes(hash, size),
                Shift::Replicas | Shift::Recreate => self.enough_for_replicas(hash, size),
            };
            if let Err(why) = enough {
                broken.push(format!("2: {hash} shrinks from {} to {size}: {why}", self.size_before(hash)));
            }
        }
    }

    fn enough_for_routes(&self, hash: &str, size: u32) -> Result<(), String> {
        if self.after.exposure.is_none() {
            let never_served =
                self.ready(hash) == 0 || self.after.stable.as_ref().is_some_and(|stable| self.ready(&stable.hash) > 0);
            return if never_served { Ok(()) } else { Err("it serves without an exposure".to_owned()) };
        }
        let settled = self.before.applied_at.is_some() || self.observed.acknowledged;
        if self.after.applied_at.is_none() && !settled {
            return Err("the gateways may still serve another split".to_owned());
        }
        // Until the new split is acknowledged, some gateways serve the old one.
        let mut share = share(self.after.exposure.as_ref(), hash);
        if self.after.applied_at.is_none() {
            share = share.max(self::share(self.before.exposure.as_ref(), hash));
        }
        let asked = self.asked_by_step(hash).unwrap_or(u32::MAX);
        let reached = self.after.exposure.as_ref().is_some_and(|exposure| {
            exposure.candidate.as_deref() == Some(hash) && (!exposure.matches.is_empty() || exposure.copies.is_some())
        });
        let needed = share.of_rounded_up(self.observed.replicas).max(u32::from(reached)).min(asked);
        if size >= needed { Ok(()) } else { Err(format!("its share of {share} needs {needed}")) }
    }

    /// What the steps themselves ask for, where the user gave a number of pods below the share.
    fn asked_by_step(&self, hash: &str) -> Option<u32> {
        let index = (self.after.step?.max(1) as usize - 1).min(self.desired.steps.len() - 1);
        let fences = self.desired.fences(self.observed.replicas, self.observed.fences);
        let split = |index: usize| self.desired.split(&self.desired.steps[index], self.observed.replicas, fences);
        let (now, earlier) = (split(index), split(index.saturating_sub(1)));
        let is = |revision: &Option<sluice_model::rollout::Revision>| revision.as_ref().is_some_and(|r| r.hash == hash);
        match (is(&self.after.candidate), is(&self.after.stable)) {
            (true, _) => Some(now.candidate.min(earlier.candidate)),
            (_, true) => Some(now.stable.min(earlier.stable)),
            _ => None,
        }
    }

    /// The one that shrinks counts by its size, the others by what is ready. Pods that are not ready may always go.
    fn enough_for_replicas(&self, hash: &str, size: u32) -> Result<(), String> {
        if self.ready(hash) <= size {
            return Ok(());
        }
        let fences = self.desired.fences(self.observed.replicas, self.observed.fences);
        let least = self.observed.replicas.saturating_sub(fences.unavailable);
        let others = self.after.sizes.iter().filter(|(other, _)| *other != hash);
        let ready: u32 = others.map(|(other, size)| self.ready(other).min(size.unsigned_abs())).sum();
        let left = size + ready;
        if left >= least { Ok(()) } else { Err(format!("{left} pods are left where {least} must be available")) }
    }

    /// 3. One swap at a time: the candidate gains only after the last swap is served everywhere. Weights cannot exceed all.
    fn routes_swap_one_at_a_time(&self, broken: &mut Vec<String>) {
        let Some(exposure) = &self.after.exposure else { return };
        if exposure.candidate_weight > Share::ALL.hundredths() {
            broken.push(format!("3: a weight of {}", exposure.candidate_weight));
        }
        let gives = exposure.candidate_weight > 0 || !exposure.matches.is_empty() || exposure.copies.is_some();
        if exposure.candidate.is_none() && gives {
            broken.push("3: traffic for a candidate that is not there".to_owned());
        }
        let Some(candidate) = &exposure.candidate else { return };
        let gains = share(Some(exposure), candidate) > share(self.before.exposure.as_ref(), candidate);
        let pending = self.before.exposure.is_some() && self.before.applied_at.is_none() && !self.observed.acknowledged;
        if gains && pending {
            broken.push("3: the candidate gains before the last swap was acknowledged".to_owned());
        }
    }

    /// 4. After an abort the candidate is on its way out, whatever else was asked for.
    fn abort_wins(&self, broken: &mut Vec<String>) {
        let fresh = |uid: &String| !self.before.commands.contains(uid);
        let aborted =
            self.observed.commands.iter().find(|command| {
                command.spec.verb == Verb::Abort && command.spec.revision.is_none() && fresh(&command.uid)
            });
        let Some(command) = aborted else { return };
        let out = self.after.candidate.is_some() && self.after.rollback.is_none();
        if out && self.observed.current.is_some() {
            broken.push(format!("4: {} did not stop the release", command.name));
        }
        if self.after.promoting {
            broken.push(format!("4: {} was beaten by a promotion", command.name));
        }
    }

    /// 6. No verb is lost.
    fn verbs_are_answered(&self, decision: &Decision, broken: &mut Vec<String>) {
        for outcome in &decision.outcomes {
            if !self.after.commands.contains(&outcome.uid) {
                broken.push(format!("6: {} is answered but not remembered", outcome.name));
            }
        }
        if decision.outcomes.is_empty() && !self.observed.commands.is_empty() {
            broken.push("6: no command was answered".to_owned());
        }
    }

    /// 5. A second pass over the world as this decision leaves it decides nothing.
    fn second_pass_is_quiet(&self, now: Timestamp, broken: &mut Vec<String>) {
        let acknowledged = self.observed.acknowledged && self.after.exposure == self.before.exposure;
        let observed = Observed { acknowledged, ..self.observed.clone() };
        let again = run(self.desired, &observed, self.after, now);
        if again.status != *self.after {
            broken.push(format!("5: a second pass moves on\nfirst:  {:?}\nsecond: {:?}", self.after, again.status));
        }
    }

    fn ready(&self, hash: &str) -> u32 {
        self.observed.versions.get(hash).map_or(0, |version| version.ready)
    }

    fn size_before(&self, hash: &str) -> u32 {
        let asked = self.before.sizes.get(hash).map(|size| size.unsigned_abs());
        asked.or_else(|| self.observed.versions.get(hash).map(|version| version.size)).unwrap_or(0)
    }
}

/// The part of the weighted traffic that an exposure gives to a version.
fn share(exposure: Option<&Exposure>, hash: &str) -> Share {
    let Some(exposure) = exposure else { return Share::NONE };
    let candidate = Share::from_hundredths(exposure.candidate_weight);
    if exposure.candidate.as_deref() == Some(hash) {
        candidate
    } else if exposure.stable == hash {
        candidate.rest()
    } else {
        Share::NONE
    }
}
