//! So many pods of one template: creates what is missing, deletes what is too many, counts what is there.

mod decide;
mod keeper;
mod status;

use std::marker::PhantomData;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

use self::decide::{Decision, decide};
pub(super) use self::keeper::Keeper;
use self::status::Counts;
use super::apply::{self, Part};
use super::claim::{self, Claimant};
use super::events::Events;
use super::informer::{Key, is_deleted};
use super::pods::{Failure, Pods};
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, owner, pod};
use crate::template;

/// Pods created in one pass.
const BURST: usize = 500;

/// The controller of one kind of keeper.
pub(super) struct Keepers<K> {
    world: Arc<World>,
    events: Events,
    kind: PhantomData<fn() -> K>,
}

/// Queues the keepers that a change concerns.
pub(super) fn listen<K: Keeper>(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    K::cache(world).listen(move |change| change.states().for_each(|set| to.add(Key::of(&**set))));
    claim::listen_pods(world, queue, K::cache(world), K::selector);
}

impl<K: Keeper> Keepers<K> {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(K::COMPONENT);
        Self { world, events, kind: PhantomData }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(set) = K::cache(&self.world).get(&key) else { return Ok(None) };
        let owned = self.gather(&set, &key.namespace).await?;
        let active: Vec<_> = owned.iter().filter(|pod| pod::is_active(pod)).cloned().collect();
        let wanted = set.wanted();
        let decision = if is_deleted(&*set) { Decision::Nothing } else { decide(wanted.replicas, &active) };
        tracing::debug!(%key, %decision, kind = K::KIND, "Size decided");
        let failure = self.apply(&set, &decision).await?;
        let now = Timestamp::now();
        let counts = Counts::of(&wanted, &owned, now);
        self.report(&set, &counts, failure.as_ref(), &key.namespace, now).await?;
        match failure {
            Some(failure) => Err(Error::Partial { message: failure.message }),
            None => Ok(counts.next_available),
        }
    }

    /// The pods of the set, after adopting and releasing.
    async fn gather(&self, set: &Arc<K>, namespace: &str) -> Result<Vec<Arc<Pod>>, Error> {
        let pods = &self.world.pods;
        let mut candidates = pods.controlled_by(&set.uid().unwrap_or_default());
        // Nobody adopts the dead: they would only be counted for nothing.
        candidates.extend(pods.orphans(namespace).into_iter().filter(|pod| pod::is_active(pod)));
        let selector = set.selector();
        let claimant =
            Claimant { reference: owner::controlled_by(&**set), selector: &selector, is_deleted: is_deleted(&**set) };
        let sets: Api<K> = Api::namespaced(self.world.client.clone(), namespace);
        let pod_api = Api::namespaced(self.world.client.clone(), namespace);
        claimant.claim(&pod_api, pods, candidates, claim::is_there(&sets, &**set)).await
    }

    /// Returns what went wrong in a way that users should know of.
    async fn apply(&self, set: &K, decision: &Decision) -> Result<Option<Failure>, Error> {
        let pods = Pods { world: &self.world, events: &self.events, owner: set };
        match decision {
            Decision::Nothing => Ok(None),
            Decision::Create(count) => {
                pods.create(&vec![template::pod(set, &set.wanted().template); (*count).min(BURST)]).await
            }
            Decision::Delete(doomed) => pods.delete(doomed).await,
        }
    }

    async fn report(
        &self,
        set: &Arc<K>,
        counts: &Counts,
        failure: Option<&Failure>,
        namespace: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut reported = (**set).clone();
        reported.report(status::next(&**set, counts, failure, now));
        let sets: Api<K> = Api::namespaced(self.world.client.clone(), namespace);
        apply::update(&sets, K::cache(&self.world), Part::Status, &**set, &reported).await.map(drop)
    }
}
