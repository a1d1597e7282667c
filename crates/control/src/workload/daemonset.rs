//! One pod on each node that is for it.

mod decide;
mod placing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use kube::{Api, ResourceExt};
use sluice_model::selector::Selector;

use self::decide::{Act, Because, Observed, decide};
use super::apply::{self, Part};
use super::claim::{self, Claimant};
use super::events::Events;
use super::history::{self, Historian, POD_REVISION};
use super::informer::{Change, Key, is_deleted};
use super::pods::{Failure, Pods};
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, owner, pod};

const COMPONENT: &str = "daemonset-controller";
/// Pods created in one pass.
const BURST: usize = 250;

pub(super) struct DaemonSets {
    world: Arc<World>,
    events: Events,
}

/// Queues the DaemonSets that a change concerns.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.daemon_sets.listen(move |change| change.states().for_each(|set| to.add(Key::of(&**set))));
    claim::listen_pods(world, queue, &world.daemon_sets, DaemonSet::selector);
    let (to, sets) = (Arc::clone(queue), Arc::clone(&world.daemon_sets));
    world.nodes.listen(move |change: Change<'_, Node>| {
        // A node's heartbeat changes nothing.
        let matters = |node: &Node| (node.metadata.labels.clone(), super::scheduler::taints(node));
        if change.new.map(|node| matters(node)) != change.old.map(|node| matters(node)) {
            sets.all().iter().for_each(|set| to.add(Key::of(&**set)));
        }
    });
}

impl Historian for DaemonSet {
    const LABELS_FOR_PODS: bool = true;

    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
    }

    fn selector(&self) -> Selector {
        claim::selector(&self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default())
    }

    fn collisions(&self) -> i32 {
        self.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0)
    }

    fn history_limit(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10)
    }
}

impl DaemonSets {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(COMPONENT);
        Self { world, events }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(set) = self.world.daemon_sets.get(&key) else { return Ok(None) };
        let revisions = history::gather(&self.world, &*set).await?;
        let observed = self.gather(set, &revisions).await?;
        let decision = decide(&observed);
        tracing::debug!(%key, %decision, "DaemonSet decided");
        let failure = self.apply(&observed, &decision.acts).await;
        self.report(&observed, &decision).await?;
        if let Some(failure) = failure? {
            return Err(Error::Partial { message: failure.message });
        }
        if !is_deleted(&*observed.set) {
            let hashes: BTreeSet<_> = observed.pods.iter().filter_map(|pod| pod.labels().get(POD_REVISION)).collect();
            let is_live = |it: &ControllerRevision| {
                let hash = it.labels().get(POD_REVISION);
                hash == Some(&observed.hash) || hash.is_some_and(|hash| hashes.contains(hash))
            };
            let live = revisions.iter().filter(|it| is_live(it)).map(|it| it.name_any()).collect();
            let surplus = history::surplus(&revisions, &live, observed.set.history_limit());
            history::forget(&self.world, &surplus).await?;
        }
        Ok(decision.wake)
    }

    async fn gather(&self, set: Arc<DaemonSet>, revisions: &[Arc<ControllerRevision>]) -> Result<Observed, Error> {
        let (hash, collisions) = if is_deleted(&*set) {
            // It makes no pods any more, so no revision either.
            (String::new(), set.collisions())
        } else {
            let (revision, collisions) = history::present(&self.world, &*set, revisions).await?;
            (revision.labels().get(POD_REVISION).cloned().unwrap_or_default(), collisions)
        };
        let pods = self.pods(&set).await?;
        let nodes = self.world.nodes.all();
        Ok(Observed { set, pods, nodes, hash, collisions, now: Timestamp::now() })
    }

    /// The pods of the set, after adopting and releasing.
    async fn pods(&self, set: &Arc<DaemonSet>) -> Result<Vec<Arc<Pod>>, Error> {
        let namespace = set.namespace().unwrap_or_default();
        let pods = &self.world.pods;
        let mut candidates = pods.controlled_by(&set.uid().unwrap_or_default());
        candidates.extend(pods.orphans(&namespace));
        let (reference, selector) = (owner::controlled_by(&**set), set.selector());
        let claimant = Claimant { reference, selector: &selector, is_deleted: is_deleted(&**set) };
        let sets: Api<DaemonSet> = Api::namespaced(self.world.client.clone(), &namespace);
        let api = Api::namespaced(self.world.client.clone(), &namespace);
        claimant.claim(&api, pods, candidates, claim::is_there(&sets, &**set)).await
    }

    async fn apply(&self, observed: &Observed, acts: &[Act]) -> Result<Option<Failure>, Error> {
        let set = &*observed.set;
        let (mut made, mut doomed) = (Vec::new(), Vec::new());
        for act in acts {
            match act {
                Act::Create { node } => made.push(placing::pod(set, &observed.hash, node)),
                Act::Delete { pod, node, because } => {
                    self.explain(set, &pod.name_any(), node, *because);
                    doomed.push(Arc::clone(pod));
                }
            }
        }
        made.truncate(BURST);
        let pods = Pods { world: &self.world, events: &self.events, owner: set };
        let failure = pods.create(&made).await?;
        Ok(pods.delete(&doomed).await?.or(failure))
    }

    fn explain(&self, set: &DaemonSet, pod: &str, node: &str, because: Because) {
        match because {
            Because::Failed => {
                let message = format!("Found failed daemon pod {pod} on node {node}, will try to kill it");
                self.events.warning(set, "FailedDaemonPod", message);
            }
            Because::Succeeded => {
                let message = format!("Found succeeded daemon pod {pod} on node {node}, will try to delete it");
                self.events.normal(set, "SucceededDaemonPod", message);
            }
            Because::NotWanted | Because::Outdated => {}
        }
    }

    async fn report(&self, observed: &Observed, decision: &decide::Decision) -> Result<(), Error> {
        let mut reported = (*observed.set).clone();
        reported.status = Some(decision.status.clone());
        let namespace = observed.set.namespace().unwrap_or_default();
        let sets = Api::namespaced(self.world.client.clone(), &namespace);
        apply::update(&sets, &self.world.daemon_sets, Part::Status, &*observed.set, &reported).await.map(drop)
    }
}
