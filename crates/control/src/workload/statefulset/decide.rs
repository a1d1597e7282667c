//! Which pods of a StatefulSet are made, and which end: in the order of their places, unless all may at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::identity::{self, Revision, ordinal, ordinals, pod_name, revision_of};
use super::status::{self, is_available, is_running_and_ready, min_ready};
use super::{claims, is_deleted, pod};

#[derive(Debug)]
pub(super) struct Observed {
    pub(super) set: Arc<StatefulSet>,
    pub(super) pods: Vec<Arc<Pod>>,
    /// Of the set's places, by name.
    pub(super) claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// What all pods had when the last update was complete.
    pub(super) current: Revision,
    /// What the template is now.
    pub(super) update: Revision,
    pub(super) collisions: i32,
    pub(super) now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    /// The claims that are missing, then the pod.
    Create {
        claims: Vec<PersistentVolumeClaim>,
        pod: Box<Pod>,
    },
    /// Claims that somebody deleted under a pod that waits for them.
    Restore {
        claims: Vec<PersistentVolumeClaim>,
        pod: Arc<Pod>,
    },
    /// The pod cannot be made for now.
    Refuse {
        pod: String,
        message: String,
    },
    Relabel {
        before: Arc<Pod>,
        after: Box<Pod>,
    },
    Settle {
        before: Arc<PersistentVolumeClaim>,
        after: Box<PersistentVolumeClaim>,
    },
    Delete(Arc<Pod>),
}

#[derive(Debug)]
pub(super) struct Decision {
    pub(super) acts: Vec<Act>,
    /// What the pods wait for; empty when for nothing.
    pub(super) waiting: String,
    pub(super) status: StatefulSetStatus,
    pub(super) wake: Option<Duration>,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<_> = self.acts.iter().map(ToString::to_string).collect();
        if !self.waiting.is_empty() {
            said.push(format!("waiting: {}", self.waiting));
        }
        f.write_str(if said.is_empty() { "nothing to do" } else { "" })?;
        f.write_str(&said.join("; "))
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |claims: &[PersistentVolumeClaim]| {
            claims.iter().map(|claim| format!("{} and ", claim.name_any())).collect::<String>()
        };
        match self {
            Self::Create { claims, pod } => {
                write!(f, "create {}{} of {}", names(claims), pod.name_any(), revision_of(pod))
            }
            Self::Restore { claims, pod } => write!(f, "restore {}{} goes on", names(claims), pod.name_any()),
            Self::Refuse { pod, message } => write!(f, "cannot create {pod}: {message}"),
            Self::Relabel { after, .. } => write!(f, "relabel {}", after.name_any()),
            Self::Settle { after, .. } => {
                let owners = after.owner_references().iter().map(|it| format!("{} {}", it.kind, it.name));
                write!(f, "{} goes with [{}]", after.name_any(), owners.collect::<Vec<_>>().join(", "))
            }
            Self::Delete(pod) => write!(f, "delete {}", pod.name_any()),
        }
    }
}

pub(super) fn is_on_delete(set: &StatefulSet) -> bool {
    strategy(set).is_some_and(|(kind, _)| kind == "OnDelete")
}

fn strategy(set: &StatefulSet) -> Option<(&str, usize)> {
    let strategy = set.spec.as_ref()?.update_strategy.as_ref()?;
    let partition = strategy.rolling_update.as_ref().and_then(|it| it.partition).unwrap_or(0);
    Some((strategy.type_.as_deref().unwrap_or_default(), usize::try_from(partition).unwrap_or(0)))
}

fn partition(set: &StatefulSet) -> usize {
    strategy(set).map_or(0, |(_, partition)| partition)
}

pub(super) fn decide(observed: &Observed) -> Decision {
    let mut plan = Plan::new(observed);
    let ended = if is_deleted(&*observed.set) { Err("the set to go".to_owned()) } else { plan.run() };
    Decision {
        acts: plan.acts,
        waiting: ended.err().unwrap_or_default(),
        status: status::next(observed),
        wake: status::next_available(observed),
    }
}

/// One place.
enum Place {
    Held(Arc<Pod>),
    /// Nobody holds it; the next one is of this revision.
    Free {
        ordinal: i32,
        is_current: bool,
    },
}

/// Go on, or what the rest waits for.
type Step = Result<(), String>;

struct Plan<'a> {
    observed: &'a Observed,
    is_ordered: bool,
    places: Vec<Place>,
    /// Pods outside the places, the highest ordinal first.
    condemned: Vec<Arc<Pod>>,
    acts: Vec<Act>,
}

impl<'a> Plan<'a> {
    fn new(observed: &'a Observed) -> Self {
        let set = &*observed.set;
        let range = ordinals(set);
        let mut by_ordinal: BTreeMap<i32, Arc<Pod>> =
            observed.pods.iter().filter_map(|pod| Some((ordinal(set, pod)?, Arc::clone(pod)))).collect();
        let below = range.start.saturating_add(i32::try_from(partition(set)).unwrap_or(i32::MAX));
        let places = range.map(|ordinal| match by_ordinal.remove(&ordinal) {
            Some(pod) => Place::Held(pod),
            None => Place::Free { ordinal, is_current: !is_on_delete(set) && ordinal < below },
        });
        let places = places.collect();
        let management = set.spec.as_ref().and_then(|spec| spec.pod_management_policy.as_deref());
        Self {
            observed,
            is_ordered: management != Some("Parallel"),
            places,
            condemned: by_ordinal.into_values().rev().collect(),
            acts: Vec::new(),
        }
    }

    /// Fills the places, then takes away what is too much, then what is of another revision.
    fn run(&mut self) -> Step {
        for place in std::mem::take(&mut self.places) {
            let step = self.tend(&place);
            self.places.push(place);
            if self.is_ordered {
                step?;
            }
        }
        for pod in self.condemned.clone() {
            self.settle(&pod);
        }
        let first_unavailable = self.first_unavailable();
        for pod in self.condemned.clone() {
            let step = self.condemn(&pod, first_unavailable.as_deref());
            if self.is_ordered {
                step?;
            }
        }
        if is_on_delete(&self.observed.set) { Ok(()) } else { self.roll() }
    }

    fn tend(&mut self, place: &Place) -> Step {
        let pod = match place {
            Place::Held(pod) => pod,
            Place::Free { ordinal, is_current } => return self.fill(*ordinal, *is_current),
        };
        let name = pod.name_any();
        if pod::is_finished(pod) {
            if !is_deleted(&**pod) {
                self.acts.push(Act::Delete(Arc::clone(pod)));
            }
            return Err(format!("{name} to be replaced"));
        }
        if pod::phase(pod) == "Pending" {
            let claims = self.missing_claims(ordinal(&self.observed.set, pod).unwrap_or(0));
            if !claims.is_empty() {
                self.acts.push(Act::Restore { claims, pod: Arc::clone(pod) });
            }
        }
        if self.is_ordered && is_deleted(&**pod) {
            return Err(format!("{name} to end"));
        }
        if self.is_ordered && !is_running_and_ready(pod) {
            return Err(format!("{name} to be running and ready"));
        }
        if self.is_ordered && !self.is_available(pod) {
            return Err(format!("{name} to be available"));
        }
        if let Some(after) = identity::relabelled(&self.observed.set, pod) {
            self.acts.push(Act::Relabel { before: Arc::clone(pod), after: Box::new(after) });
        }
        self.settle(pod);
        Ok(())
    }

    fn fill(&mut self, ordinal: i32, is_current: bool) -> Step {
        let set = &*self.observed.set;
        let name = pod_name(set, ordinal);
        let existing: Vec<_> = claims::names(set, ordinal).filter_map(|name| self.observed.claims.get(&name)).collect();
        if existing.iter().any(|claim| claims::is_of_former_pod(set, &name, claim)) {
            return Err(format!("the claims of the former {name} to go"));
        }
        if let Some(going) = existing.iter().find(|claim| is_deleted(&****claim)) {
            let message = format!("pvc {} is being deleted", going.name_any());
            self.acts.push(Act::Refuse { pod: name.clone(), message });
            return Err(format!("the claims of {name}"));
        }
        let revision = if is_current { &self.observed.current } else { &self.observed.update };
        let pod = identity::pod(set, revision, ordinal);
        let settling: Vec<_> = existing.iter().filter_map(|claim| settle(set, &pod, claim)).collect();
        let claims = self.missing_claims(ordinal);
        self.acts.push(Act::Create { claims, pod: Box::new(pod) });
        self.acts.extend(settling);
        Err(format!("{name} to be running and ready"))
    }

    fn missing_claims(&self, ordinal: i32) -> Vec<PersistentVolumeClaim> {
        let mut claims = claims::of_place(&self.observed.set, ordinal);
        claims.retain(|claim| !self.observed.claims.contains_key(&claim.name_any()));
        claims
    }

    /// Brings the owners of a pod's claims in line with the retention policy.
    fn settle(&mut self, pod: &Arc<Pod>) {
        let set = &*self.observed.set;
        let Some(ordinal) = ordinal(set, pod) else { return };
        let claims = claims::names(set, ordinal).filter_map(|name| self.observed.claims.get(&name));
        let settling: Vec<_> = claims.filter_map(|claim| settle(set, pod, claim)).collect();
        self.acts.extend(settling);
    }

    fn condemn(&mut self, pod: &Arc<Pod>, first_unavailable: Option<&str>) -> Step {
        let name = pod.name_any();
        if is_deleted(&**pod) {
            return Err(format!("{name} to end"));
        }
        // The lowest pod in trouble may go; all others wait for it.
        if self.is_ordered && !self.is_available(pod) && first_unavailable != Some(&name) {
            return Err(format!("{} to be available", first_unavailable.unwrap_or_default()));
        }
        self.acts.push(Act::Delete(Arc::clone(pod)));
        Err(format!("{name} to end"))
    }

    /// Ends the highest pod of another revision; each waits for the one above it.
    fn roll(&mut self) -> Step {
        let update = &self.observed.update.name;
        for place in self.places.iter().skip(partition(&self.observed.set)).rev() {
            let Place::Held(pod) = place else { return Err("a new pod to be available".to_owned()) };
            if revision_of(pod) != update && !is_deleted(&**pod) {
                self.acts.push(Act::Delete(Arc::clone(pod)));
                return Err(format!("{} to end", pod.name_any()));
            }
            if !self.is_available(pod) {
                return Err(format!("{} to be available", pod.name_any()));
            }
        }
        Ok(())
    }

    fn first_unavailable(&self) -> Option<String> {
        let held = self.places.iter().map(|place| match place {
            Place::Held(pod) => (self.is_available(pod), pod.name_any()),
            Place::Free { ordinal, .. } => (false, pod_name(&self.observed.set, *ordinal)),
        });
        let condemned = self.condemned.iter().rev().map(|pod| (self.is_available(pod), pod.name_any()));
        held.chain(condemned).find(|(is_available, _)| !is_available).map(|(_, name)| name)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        !is_deleted(pod) && is_available(pod, min_ready(&self.observed.set), self.observed.now)
    }
}

fn settle(set: &StatefulSet, pod: &Pod, claim: &Arc<PersistentVolumeClaim>) -> Option<Act> {
    let after = claims::settled(set, pod, claim)?;
    Some(Act::Settle { before: Arc::clone(claim), after: Box::new(after) })
}
