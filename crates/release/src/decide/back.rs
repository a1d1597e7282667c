//! The way back to the stable version: traffic first, acknowledged, then the pods.

use std::time::Duration;

use sluice_model::rollout::{Phase, Revision, Rollback};

use super::{Pass, Turn, after, name, only};
use crate::{Shift, Split};

/// How long the traffic stays where it is while the stable version gets back pods that it had given up.
const STABLE_PATIENCE: Duration = Duration::from_secs(30);

impl Pass<'_> {
    /// Always legal, in whatever state the release is.
    pub(super) fn begin_back(&mut self, reason: String, rejects: bool) -> Turn {
        if let Some(candidate) = self.status.candidate.clone() {
            self.event(rejects, "RollingBack", format!("{} is withdrawn: {reason}", name(&candidate)));
        }
        let complete =
            self.status.stable.as_ref().is_some_and(|stable| self.size(&stable.hash) >= self.observed.replicas);
        let patience = if complete { Duration::ZERO } else { STABLE_PATIENCE };
        self.status.rollback =
            Some(Rollback { reason, rejects, started_at: self.now, routes_by: after(self.now, patience) });
        self.status.paused = None;
        self.status.promoting = false;
        self.status.approved = false;
        Turn::Again
    }

    pub(super) fn go_back(&mut self) -> Turn {
        self.status.phase = Some(Phase::RollingBack);
        let (Some(stable), Some(candidate)) = (self.status.stable.clone(), self.status.candidate.clone()) else {
            self.status.rollback = None;
            self.status.phase = Some(Phase::Idle);
            return Turn::Again;
        };
        match self.desired.shift {
            Shift::Routes => self.go_back_by_routes(&stable, candidate),
            Shift::Replicas | Shift::Recreate => self.go_back_by_replicas(&stable, candidate),
        }
    }

    fn go_back_by_routes(&mut self, stable: &Revision, candidate: Revision) -> Turn {
        let replicas = self.observed.replicas;
        self.grow(&stable.hash, replicas);
        if self.status.exposure != Some(only(stable)) {
            if let Some(wait) = self.stable_cannot_take_over(stable) {
                return wait;
            }
            self.set_exposure(Some(only(stable)));
        }
        if self.status.applied_at.is_none() {
            return Turn::Rest(self.going_back(stable, "waiting until every gateway serves it alone"));
        }
        if let Some(wait) = self.draining(&[Some(stable)]) {
            return wait;
        }
        self.set_size(&stable.hash, replicas);
        self.shrink_all_but(&[&stable.hash]);
        self.back_again(candidate)
    }

    /// Traffic is never sent to a version without a ready pod, not even on the way back.
    fn stable_cannot_take_over(&mut self, stable: &Revision) -> Option<Turn> {
        let (ready, replicas) = (self.ready(&stable.hash), self.observed.replicas);
        let routes_by = self.status.rollback.as_ref().map(|rollback| rollback.routes_by)?;
        if ready == 0 {
            return Some(Turn::Rest(
                self.going_back(stable, "waiting: none of its pods is ready, traffic stays where it is"),
            ));
        }
        if ready >= replicas || routes_by <= self.now {
            return None;
        }
        self.wake_at(routes_by);
        Some(Turn::Rest(self.going_back(stable, &format!("waiting: {ready} of {replicas} of its pods are ready"))))
    }

    fn go_back_by_replicas(&mut self, stable: &Revision, candidate: Revision) -> Turn {
        self.set_exposure(None);
        let target = Split { candidate: 0, stable: self.observed.replicas };
        if self.move_pods(Some(&candidate), stable, target) {
            return self.back_again(candidate);
        }
        let left = self.size(&candidate.hash);
        Turn::Rest(self.going_back(stable, &format!("{left} pods of the withdrawn version are left")))
    }

    fn back_again(&mut self, candidate: Revision) -> Turn {
        if let Some(rollback) = self.status.rollback.take()
            && rollback.rejects
        {
            self.event(true, "Rejected", format!("{}: {}", name(&candidate), rollback.reason));
            // Only one revision is remembered: the one that would be released next, if that was turned down too.
            let next = self.current().filter(|current| current.hash != candidate.hash);
            if !next.is_some_and(|next| self.is_rejected(&next.hash)) {
                self.reject(candidate, rollback.reason);
            }
        }
        self.status.candidate = None;
        self.status.phase = Some(Phase::Idle);
        self.leave_steps();
        Turn::Again
    }

    fn going_back(&self, stable: &Revision, what: &str) -> String {
        let reason = self.status.rollback.as_ref().map_or("", |rollback| rollback.reason.as_str());
        format!("going back to {} ({reason}): {what}", name(stable))
    }
}
