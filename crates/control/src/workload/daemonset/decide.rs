//! Which nodes need a pod of a DaemonSet, and which pods end: what stands on the wrong node, and then what is outdated.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::placing::{self, Place, TEMPLATE_GENERATION, TEMPLATE_GENERATION_LABEL, node_of};
use super::{is_deleted, pod};
use crate::workload::history::POD_REVISION;
use crate::workload::portion::{Rounding, portion};

/// A failed pod is replaced no sooner, so that one which fails at once does not keep the machine busy.
const FAILED_POD_AGE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Observed {
    pub(super) set: Arc<DaemonSet>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) nodes: Vec<Arc<Node>>,
    /// Of the present template.
    pub(super) hash: String,
    pub(super) collisions: i32,
    pub(super) now: Timestamp,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Act {
    Create { node: String },
    Delete { pod: Arc<Pod>, node: String, because: Because },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    Failed,
    Succeeded,
    /// The node is not for it, or has another.
    NotWanted,
    Outdated,
}

#[derive(Debug)]
pub(super) struct Decision {
    pub(super) acts: Vec<Act>,
    pub(super) status: DaemonSetStatus,
    pub(super) wake: Option<Duration>,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.acts.iter().map(|act| match act {
            Act::Create { node } => format!("create on {node}"),
            Act::Delete { pod, because, .. } => format!("delete {} ({because:?})", pod.name_any()),
        });
        let said: Vec<_> = said.collect();
        f.write_str(if said.is_empty() { "nothing to do" } else { "" })?;
        f.write_str(&said.join("; "))
    }
}

pub(super) fn decide(observed: &Observed) -> Decision {
    let situation = Situation::of(observed);
    let mut acts = Vec::new();
    if !is_deleted(&*observed.set) {
        acts = situation.place();
        // An update looks at nodes that have what they should have.
        if acts.is_empty() && !is_on_delete(&observed.set) {
            acts = situation.roll();
        }
    }
    Decision { acts, status: situation.status(), wake: situation.wake() }
}

fn is_on_delete(set: &DaemonSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("OnDelete"))
}

fn min_ready(set: &DaemonSet) -> Duration {
    let seconds = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    Duration::from_secs(seconds.max(0).unsigned_abs().into())
}

struct Situation<'a> {
    observed: &'a Observed,
    /// By node, the one that counts first: those that have arrived before those that have not, then the oldest.
    by_node: BTreeMap<String, Vec<Arc<Pod>>>,
    places: BTreeMap<String, Place>,
}

/// What an update finds on one node. Pods that end do not count.
#[derive(Default)]
struct Versions {
    new: Vec<Arc<Pod>>,
    old: Vec<Arc<Pod>>,
}

impl<'a> Situation<'a> {
    fn of(observed: &'a Observed) -> Self {
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in &observed.pods {
            by_node.entry(node_of(pod).unwrap_or_default()).or_default().push(Arc::clone(pod));
        }
        for pods in by_node.values_mut() {
            let has_arrived = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            pods.sort_by_key(|pod| (!has_arrived(pod), pod.creation_timestamp().map(|time| time.0), pod.name_any()));
        }
        let places = observed.nodes.iter().map(|node| (node.name_any(), placing::place(&observed.set, node)));
        Self { observed, by_node, places: places.collect() }
    }

    fn on(&self, node: &str) -> &[Arc<Pod>] {
        self.by_node.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    fn place(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        for (node, place) in &self.places {
            match place {
                Place::Wanted if self.on(node).is_empty() => acts.push(Act::Create { node: node.clone() }),
                Place::Wanted | Place::Tolerated => self.tidy(node, &mut acts),
                Place::Refused => self.delete_all(node, &mut acts),
            }
        }
        for (node, pods) in self.by_node.iter().filter(|(node, _)| !self.places.contains_key(*node)) {
            // Pods that have arrived on a node which is gone are its end's to end.
            let lost = pods.iter().filter(|pod| pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()));
            acts.extend(lost.filter_map(|pod| delete(pod, node, Because::NotWanted)));
        }
        acts
    }

    /// One pod for each node; while surging, one of each version until the new one can take over.
    fn tidy(&self, node: &str, acts: &mut Vec<Act>) {
        let mut running = Vec::new();
        for pod in self.on(node).iter().filter(|pod| !is_deleted(&***pod)) {
            match pod::phase(pod) {
                "Failed" if self.until_replaced(pod).is_zero() => acts.extend(delete(pod, node, Because::Failed)),
                "Failed" => {}
                "Succeeded" => acts.extend(delete(pod, node, Because::Succeeded)),
                _ => running.push(Arc::clone(pod)),
            }
        }
        if self.surge() == 0 {
            acts.extend(running.iter().skip(1).filter_map(|pod| delete(pod, node, Because::NotWanted)));
            return;
        }
        let Versions { new, old } = self.versions(&running);
        let surplus = new.iter().skip(1).chain(old.iter().skip(1));
        acts.extend(surplus.filter_map(|pod| delete(pod, node, Because::NotWanted)));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pod::is_ready(old) || self.is_available(new))
        {
            acts.extend(delete(old, node, Because::Outdated));
        }
    }

    fn delete_all(&self, node: &str, acts: &mut Vec<Act>) {
        acts.extend(self.on(node).iter().filter_map(|pod| delete(pod, node, Because::NotWanted)));
    }

    fn roll(&self) -> Vec<Act> {
        let surge = self.surge();
        if surge > 0 { self.roll_by_surge(surge) } else { self.roll_by_absence() }
    }

    /// Ends as many old pods as may be missing at once; those that are of no use anyway do not count.
    fn roll_by_absence(&self) -> Vec<Act> {
        let (mut missing, mut useless, mut candidates) = (0, Vec::new(), Vec::new());
        for (node, pods) in &self.by_node {
            let Versions { new, old } = self.versions(pods);
            match (&new[..], &old[..]) {
                ([new], []) => missing += usize::from(!self.is_available(new)),
                ([], [old]) if self.is_available(old) => candidates.extend(delete(old, node, Because::Outdated)),
                ([], [old]) => useless.extend(delete(old, node, Because::Outdated)),
                _ => missing += 1,
            }
        }
        candidates.truncate(self.unavailable().saturating_sub(missing));
        useless.extend(candidates);
        useless
    }

    /// Puts new pods beside as many old ones as allowed; `tidy` ends the old ones.
    fn roll_by_surge(&self, surge: usize) -> Vec<Act> {
        let (mut surging, mut replaced, mut candidates) = (0, Vec::new(), Vec::new());
        for (node, pods) in &self.by_node {
            let Versions { new, old } = self.versions(pods);
            match (&new[..], &old[..]) {
                (_, []) => {}
                ([], [old]) if self.is_available(old) => candidates.push(Act::Create { node: node.clone() }),
                ([], [_]) => replaced.push(Act::Create { node: node.clone() }),
                _ => surging += 1,
            }
        }
        candidates.truncate(surge.saturating_sub(surging));
        replaced.extend(candidates);
        replaced
    }

    fn versions(&self, pods: &[Arc<Pod>]) -> Versions {
        let living = pods.iter().filter(|pod| !is_deleted(&***pod)).cloned();
        let (new, old) = living.partition(|pod| self.is_updated(pod));
        Versions { new, old }
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        let generation = self.observed.set.annotations().get(TEMPLATE_GENERATION);
        let labels = pod.labels();
        labels.get(POD_REVISION) == Some(&self.observed.hash)
            || (generation.is_some() && labels.get(TEMPLATE_GENERATION_LABEL) == generation)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod::until_available(pod, min_ready(&self.observed.set), self.observed.now) == Some(Duration::ZERO)
    }

    fn until_replaced(&self, failed: &Pod) -> Duration {
        let made = failed.creation_timestamp().map_or(self.observed.now, |time| time.0);
        let age = Duration::try_from(self.observed.now.duration_since(made)).unwrap_or_default();
        FAILED_POD_AGE.saturating_sub(age)
    }

    fn desired(&self) -> usize {
        self.places.values().filter(|place| **place == Place::Wanted).count()
    }

    fn rolling(&self) -> RollingUpdateDaemonSet {
        let strategy = self.observed.set.spec.as_ref().and_then(|spec| spec.update_strategy.clone());
        strategy.and_then(|strategy| strategy.rolling_update).unwrap_or_default()
    }

    fn surge(&self) -> usize {
        if is_on_delete(&self.observed.set) { 0 } else { self.share_of_nodes(self.rolling().max_surge, 0) }
    }

    fn unavailable(&self) -> usize {
        // Without a surge something must give.
        self.share_of_nodes(self.rolling().max_unavailable, 1).max(1)
    }

    fn share_of_nodes(&self, told: Option<IntOrString>, otherwise: i32) -> usize {
        let nodes = i32::try_from(self.desired()).unwrap_or(i32::MAX);
        let share = told.map_or(otherwise, |told| portion(&told, nodes, Rounding::Up));
        usize::try_from(share).unwrap_or(0)
    }

    fn status(&self) -> DaemonSetStatus {
        let before = self.observed.set.status.clone().unwrap_or_default();
        let mut status = DaemonSetStatus {
            observed_generation: self.observed.set.metadata.generation,
            collision_count: (self.observed.collisions > 0).then_some(self.observed.collisions),
            conditions: before.conditions,
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for (node, place) in &self.places {
            let first = self.on(node).first();
            match (place, first) {
                (Place::Wanted, Some(pod)) => {
                    status.desired_number_scheduled += 1;
                    status.current_number_scheduled += 1;
                    status.number_ready += i32::from(pod::is_ready(pod));
                    available += i32::from(self.is_available(pod));
                    updated += i32::from(self.is_updated(pod));
                }
                (Place::Wanted, None) => status.desired_number_scheduled += 1,
                (_, Some(_)) => status.number_misscheduled += 1,
                (_, None) => {}
            }
        }
        let present = |count: i32| (count != 0).then_some(count);
        status.updated_number_scheduled = present(updated);
        status.number_available = present(available);
        status.number_unavailable = present(status.desired_number_scheduled - available);
        status
    }

    fn wake(&self) -> Option<Duration> {
        let min_ready = min_ready(&self.observed.set);
        let pods = self.observed.pods.iter();
        let available = pods.clone().filter_map(|pod| pod::until_available(pod, min_ready, self.observed.now));
        let failed = pods.filter(|pod| pod::phase(pod) == "Failed" && !is_deleted(&***pod));
        available.chain(failed.map(|pod| self.until_replaced(pod))).filter(|wait| !wait.is_zero()).min()
    }
}

/// None for a pod that is on its way out already.
fn delete(pod: &Arc<Pod>, node: &str, because: Because) -> Option<Act> {
    (!is_deleted(&**pod)).then(|| Act::Delete { pod: Arc::clone(pod), node: node.to_owned(), because })
}
