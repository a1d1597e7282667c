//! One pass over a Deployment, without touching the world: which ReplicaSets to make, resize or forget, and what to say.
//!
//! A pass moves one thing: the new set up, or the old ones down. The counts that come back decide on the next.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use kube::ResourceExt;

use super::super::informer::is_deleted;
use super::revision;
use super::sizes::{Share, Sizes, is_rolling, share_out};
use super::status::{self, Progress, available, lasting, replicas};
use crate::template;

/// What a pass begins with.
pub(super) struct Observed {
    pub(super) deployment: Arc<Deployment>,
    /// Its ReplicaSets, oldest first.
    pub(super) sets: Vec<Arc<ReplicaSet>>,
    /// How many pods of each of them, by uid, may still be at work.
    pub(super) living_pods: BTreeMap<String, usize>,
    /// The size of each revision by hash, when a Rollout decides on them.
    pub(super) directed: Option<BTreeMap<String, i32>>,
    pub(super) now: Timestamp,
}

/// What it ends with. Leaves nothing to choose.
#[derive(Debug, Default)]
pub(super) struct Decision {
    pub(super) create: Option<ReplicaSet>,
    /// Before and after.
    pub(super) update: Vec<(Arc<ReplicaSet>, ReplicaSet)>,
    pub(super) delete: Vec<Arc<ReplicaSet>>,
    /// The Deployment's own revision annotation.
    pub(super) revision: Option<String>,
    pub(super) status: DeploymentStatus,
    /// Messages of ScalingReplicaSet.
    pub(super) scalings: Vec<String>,
    pub(super) wake: Option<Duration>,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.scalings.clone();
        parts.extend(self.delete.iter().map(|set| format!("Forget replica set {}", set.name_any())));
        if parts.is_empty() { f.write_str("nothing to scale") } else { f.write_str(&parts.join(", ")) }
    }
}

pub(super) fn decide(observed: &Observed) -> Decision {
    let mut pass = Pass::new(observed);
    let deployment = &*observed.deployment;
    if is_deleted(deployment) {
        return pass.finish_counted();
    }
    pass.judge_pause();
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    if let Some(directed) = &observed.directed {
        pass.find_new(!is_paused);
        pass.follow(directed);
        return pass.finish_judged();
    }
    if is_paused {
        pass.find_new(false);
        pass.scale();
        pass.forget_history();
        return pass.finish_counted();
    }
    if pass.is_scaling() {
        pass.find_new(false);
        pass.scale();
        return pass.finish_counted();
    }
    if is_rolling(deployment) {
        pass.roll();
    } else {
        pass.recreate();
    }
    pass.finish_judged()
}

struct Pass<'a> {
    observed: &'a Observed,
    deployment: &'a Deployment,
    sizes: Sizes,
    /// As they shall be; as long as `observed.sets`, and one longer when one is created.
    sets: Vec<ReplicaSet>,
    new: Option<usize>,
    before: DeploymentStatus,
    decision: Decision,
}

impl<'a> Pass<'a> {
    fn new(observed: &'a Observed) -> Self {
        Self {
            observed,
            deployment: &observed.deployment,
            sizes: Sizes::of(&observed.deployment),
            sets: observed.sets.iter().map(|set| (**set).clone()).collect(),
            new: None,
            before: observed.deployment.status.clone().unwrap_or_default(),
            decision: Decision::default(),
        }
    }

    /// Keeps the deadline from running while nothing can progress.
    fn judge_pause(&mut self) {
        if status::progress_deadline(self.deployment).is_none() {
            return;
        }
        let is_paused = self.deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
        let reason = status::condition(&self.before, status::PROGRESSING).and_then(|it| it.reason.as_deref());
        if reason == Some(status::TIMED_OUT) {
            return;
        }
        let (reason, message) = match (is_paused, reason == Some("DeploymentPaused")) {
            (true, false) => ("DeploymentPaused", "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        let condition = status::make(status::PROGRESSING, "Unknown", reason, message.to_owned(), self.observed.now);
        status::set(&mut self.before, condition);
    }

    /// The set with the present template; makes it where it is missing and may be made.
    fn find_new(&mut self, may_create: bool) {
        let found = revision::find_new(self.deployment, &self.sets);
        let olds = self.sets.iter().enumerate().filter(|(at, _)| Some(*at) != found);
        let number = olds.map(|(_, set)| revision::number(set)).max().unwrap_or(0) + 1;
        let now = self.observed.now;
        let (name, verb, reason) = match found {
            Some(at) => {
                let set = &mut self.sets[at];
                revision::annotate_new(self.deployment, set, number);
                let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
                if let Some(spec) = &mut set.spec {
                    spec.min_ready_seconds = min_ready;
                }
                self.new = Some(at);
                let has_condition = status::condition(&self.before, status::PROGRESSING).is_some();
                if has_condition { (None, "", "") } else { (Some(set.name_any()), "Found", "FoundNewReplicaSet") }
            }
            None if may_create => {
                let set = self.create(number);
                (Some(set), "Created", "NewReplicaSetCreated")
            }
            None => return,
        };
        let numbered = self.new.map(|at| self.sets[at].annotations().get(template::REVISION).cloned());
        self.decision.revision = numbered.flatten();
        if let Some(name) = name.filter(|_| status::progress_deadline(self.deployment).is_some()) {
            let message = format!("{verb} new replica set \"{name}\"");
            status::set(&mut self.before, status::make(status::PROGRESSING, "True", reason, message, now));
        }
    }

    fn create(&mut self, number: i64) -> String {
        let set = revision::make_new(self.deployment, number);
        let name = set.name_any();
        self.sets.push(set);
        let at = self.sets.len() - 1;
        self.new = Some(at);
        let size = if self.observed.directed.is_some() { self.first_size() } else { self.grown() };
        if size > 0 {
            self.resize(at, size);
        }
        name
    }

    /// A Rollout sizes what follows the first revision; the first one has nothing to be released against.
    fn first_size(&self) -> i32 {
        if self.sets.len() == 1 { self.sizes.wanted } else { 0 }
    }

    /// How large the new set may be now.
    fn grown(&self) -> i32 {
        let Some(at) = self.new else { return 0 };
        let now = replicas(&self.sets[at]);
        if !is_rolling(self.deployment) || now > self.sizes.wanted {
            return self.sizes.wanted;
        }
        let room = self.sizes.most() - self.total();
        if room <= 0 { now } else { now + room.min(self.sizes.wanted - now) }
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(replicas).sum()
    }

    fn olds(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|at| Some(*at) != self.new).collect()
    }

    fn active_olds(&self) -> Vec<usize> {
        self.olds().into_iter().filter(|at| replicas(&self.sets[*at]) > 0).collect()
    }

    /// Whether that changed anything.
    fn resize(&mut self, at: usize, size: i32) -> bool {
        let set = &mut self.sets[at];
        let before = replicas(set);
        if before == size {
            return false;
        }
        if let Some(spec) = &mut set.spec {
            spec.replicas = Some(size);
        }
        revision::annotate_sizes(set, self.sizes);
        let direction = if size > before { "up" } else { "down" };
        let name = set.name_any();
        self.decision.scalings.push(format!("Scaled {direction} replica set {name} from {before} to {size}"));
        true
    }

    // Scaling, apart from a rollout.

    fn is_scaling(&self) -> bool {
        let active = self.sets.iter().filter(|set| replicas(set) > 0);
        active.filter_map(revision::desired).any(|desired| desired != self.sizes.wanted)
    }

    fn scale(&mut self) {
        if let Some(at) = self.only_active_or_latest() {
            self.resize(at, self.sizes.wanted);
            return;
        }
        if self.is_saturated() {
            for at in self.active_olds() {
                self.resize(at, 0);
            }
            return;
        }
        if is_rolling(self.deployment) {
            self.scale_in_proportion();
        }
    }

    fn only_active_or_latest(&self) -> Option<usize> {
        let mut active = (0..self.sets.len()).filter(|at| replicas(&self.sets[*at]) > 0);
        match (active.next(), active.next()) {
            (Some(only), None) => Some(only),
            (Some(_), Some(_)) => None,
            (None, _) => self.new.or_else(|| self.sets.len().checked_sub(1)),
        }
    }

    fn is_saturated(&self) -> bool {
        let wanted = self.sizes.wanted;
        self.new.map(|at| &self.sets[at]).is_some_and(|new| {
            replicas(new) == wanted && revision::desired(new) == Some(wanted) && available(new) == wanted
        })
    }

    fn scale_in_proportion(&mut self) {
        let mut active: Vec<usize> = (0..self.sets.len()).filter(|at| replicas(&self.sets[*at]) > 0).collect();
        // Sets are in the order of their age. Of two equal ones the newer grows first, and the older shrinks first.
        if self.sizes.most() > self.total() {
            active.reverse();
        }
        active.sort_by_key(|at| -replicas(&self.sets[*at]));
        let then = self.before.replicas.unwrap_or(0);
        let share = |at: &usize| {
            let set = &self.sets[*at];
            Share { replicas: replicas(set), most_then: revision::most(set).unwrap_or(then) }
        };
        let shares: Vec<_> = active.iter().map(share).collect();
        let sizes = share_out(&shares, self.sizes.wanted, self.sizes.most());
        for (at, size) in active.into_iter().zip(sizes) {
            self.resize(at, size);
            revision::annotate_sizes(&mut self.sets[at], self.sizes);
        }
    }

    // Strategies.

    fn roll(&mut self) {
        self.find_new(true);
        if let Some(at) = self.new
            && self.resize(at, self.grown())
        {
            return;
        }
        if self.shrink_olds() {
            return;
        }
        self.forget_history_when_complete();
    }

    /// First what is not available anyway, then as much as may be missing.
    fn shrink_olds(&mut self) -> bool {
        let olds = self.active_olds();
        let new_unavailable = self.new.map_or(0, |at| replicas(&self.sets[at]) - lasting(&self.sets[at]));
        let most = self.total() - self.sizes.least_available() - new_unavailable;
        if olds.is_empty() || most <= 0 {
            return false;
        }
        let mut removed = 0;
        for at in &olds {
            let set = &self.sets[*at];
            let unhealthy = (replicas(set) - lasting(set)).min(most - removed);
            let size = replicas(set) - unhealthy;
            removed += unhealthy;
            self.resize(*at, size);
        }
        let spare = self.sets.iter().map(lasting).sum::<i32>() - self.sizes.least_available();
        let mut left = spare.max(0);
        for at in olds {
            let part = replicas(&self.sets[at]).min(left);
            left -= part;
            removed += part;
            self.resize(at, replicas(&self.sets[at]) - part);
        }
        removed > 0
    }

    fn recreate(&mut self) {
        self.find_new(false);
        let mut shrunk = false;
        for at in self.active_olds() {
            shrunk |= self.resize(at, 0);
        }
        if shrunk || self.old_pods_live() {
            return;
        }
        if self.new.is_none() {
            self.find_new(true);
        }
        if let Some(at) = self.new {
            self.resize(at, self.sizes.wanted);
        }
        self.forget_history_when_complete();
    }

    fn old_pods_live(&self) -> bool {
        self.olds().into_iter().map(|at| &self.sets[at]).any(|set| {
            let counted = set.status.as_ref().map_or(0, |status| status.replicas);
            let living = set.uid().and_then(|uid| self.observed.living_pods.get(&uid).copied());
            counted > 0 || living.unwrap_or(0) > 0
        })
    }

    /// The sizes are the Rollout's to say.
    fn follow(&mut self, directed: &BTreeMap<String, i32>) {
        for at in 0..self.sets.len() {
            let told = template::hash(&self.sets[at]).and_then(|hash| directed.get(hash)).copied();
            let alone = self.sets.len() == 1;
            if let Some(size) = told.or(alone.then_some(self.sizes.wanted)) {
                self.resize(at, size.max(0));
            }
        }
        self.forget_history_when_complete();
    }

    // History.

    fn forget_history_when_complete(&mut self) {
        if status::is_complete(self.deployment, &self.before) {
            self.forget_history();
        }
    }

    fn forget_history(&mut self) {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(i32::MAX);
        let mut olds: Vec<_> = self.olds().into_iter().filter(|at| !is_deleted(&self.sets[*at])).collect();
        let excess = olds.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        olds.sort_by_key(|at| revision::number(&self.sets[*at]));
        for at in olds.into_iter().take(excess) {
            let set = &self.sets[at];
            let status = set.status.as_ref();
            let is_seen = set.metadata.generation <= status.and_then(|status| status.observed_generation);
            if replicas(set) == 0 && status.is_none_or(|status| status.replicas == 0) && is_seen {
                self.decision.delete.extend(self.observed.sets.get(at).cloned());
            }
        }
    }

    // Reporting.

    fn finish_counted(mut self) -> Decision {
        self.decision.status = self.count();
        self.finish()
    }

    fn finish_judged(mut self) -> Decision {
        let mut status = self.count();
        let now = self.observed.now;
        let new = self.new.map(|at| &self.sets[at]);
        let is_directed = self.observed.directed.is_some();
        Progress { deployment: self.deployment, new, before: &self.before, is_directed, now }.judge(&mut status);
        status::judge_failures(&mut status, &self.sets, new, now);
        self.decision.wake = status::wake(self.deployment, &status, now);
        self.decision.status = status;
        self.finish()
    }

    fn count(&self) -> DeploymentStatus {
        let new = self.new.map(|at| &self.sets[at]);
        status::count(self.deployment, &self.sets, new, &self.before, self.observed.now)
    }

    fn finish(mut self) -> Decision {
        if self.sets.len() > self.observed.sets.len() {
            self.decision.create = self.sets.pop();
        }
        let pairs = self.observed.sets.iter().cloned().zip(self.sets);
        self.decision.update = pairs.filter(|(before, after)| **before != *after).collect();
        self.decision
    }
}
