//! Moving pods from one version to the other where every pod takes an equal part of the traffic: never more than
//! `replicas + surge` pods, never fewer than `replicas - unavailable` available ones.

use sluice_model::rollout::Revision;

use super::Pass;
use crate::{Shift, Split};

impl Pass<'_> {
    /// Takes the next bite towards `target`; true when every size is what it should be. Older versions go to zero.
    pub(super) fn move_pods(&mut self, candidate: Option<&Revision>, stable: &Revision, target: Split) -> bool {
        let mut targets = vec![(stable.hash.clone(), target.stable)];
        targets.extend(candidate.map(|candidate| (candidate.hash.clone(), target.candidate)));
        while self.move_some_pods(&targets) {}
        let older = self.older_than(&targets);
        targets.extend(older);
        targets.iter().all(|(hash, target)| self.size(hash) == *target && !self.still_stopping(hash, *target))
    }

    /// True when a size changed. A size only ever moves towards its target, so this comes to an end.
    fn move_some_pods(&mut self, targets: &[(String, u32)]) -> bool {
        let before = self.status.sizes.clone();
        self.add_pods(targets);
        let mut shrinking = self.older_than(targets);
        if shrinking.iter().all(|(hash, _)| self.size(hash) == 0) {
            shrinking.extend(targets.iter().rev().cloned());
        }
        self.remove_pods(&shrinking);
        self.status.sizes != before
    }

    /// Versions that are neither the stable one nor the candidate; they go first.
    fn older_than(&self, targets: &[(String, u32)]) -> Vec<(String, u32)> {
        let named = |hash: &String| targets.iter().any(|(other, _)| other == hash);
        self.observed.versions.keys().filter(|hash| !named(hash)).map(|hash| (hash.clone(), 0)).collect()
    }

    /// The stable version first: it is the one that is known to work.
    fn add_pods(&mut self, targets: &[(String, u32)]) {
        let most = self.observed.replicas + self.fences.surge;
        let taken: u32 = self.observed.versions.keys().map(|hash| self.taken(hash)).sum();
        let mut budget = most.saturating_sub(taken);
        for (hash, target) in targets {
            let size = self.size(hash);
            let more = target.saturating_sub(size).min(budget);
            budget -= more;
            self.set_size(hash, size + more);
        }
    }

    fn remove_pods(&mut self, targets: &[(String, u32)]) {
        for (hash, target) in targets {
            let size = self.size(hash);
            let fewer = size.saturating_sub(*target).min(self.spare(hash));
            self.set_size(hash, size - fewer);
        }
    }

    /// Pods that this version can lose. It is counted by what it was asked to have, so that its own crashing pods cannot
    /// stop it from shrinking; the others by what is available.
    fn spare(&self, hash: &str) -> u32 {
        let least = self.observed.replicas - self.fences.unavailable.min(self.observed.replicas);
        let others = self.observed.versions.keys().filter(|other| *other != hash);
        let available: u32 = others.map(|other| self.ready(other).min(self.size(other))).sum();
        (self.size(hash) + available).saturating_sub(least)
    }

    /// The room that a version takes up; where versions must not overlap, also pods that are still stopping.
    fn taken(&self, hash: &str) -> u32 {
        let version = self.observed.versions.get(hash);
        let existing = version.map_or(0, |version| version.size);
        let stopping = match self.desired.shift {
            Shift::Recreate => version.map_or(0, |version| version.pods),
            Shift::Replicas | Shift::Routes => 0,
        };
        self.size(hash).max(existing).max(stopping)
    }

    fn still_stopping(&self, hash: &str, target: u32) -> bool {
        let pods = self.observed.versions.get(hash).map_or(0, |version| version.pods);
        self.desired.shift == Shift::Recreate && pods > target
    }
}
