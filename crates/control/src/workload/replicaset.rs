//! So many pods of one template: creates what is missing, deletes what is too many, counts what is there.

mod decide;
mod keeper;
mod status;

use std::marker::PhantomData;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use self::decide::{Decision, decide};
pub(super) use self::keeper::Keeper;
use self::status::Counts;
use super::apply::{self, Part};
use super::claim::{self, Claimant};
use super::error::{has_cause, message, status_code};
use super::events::Events;
use super::informer::{Key, is_deleted};
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
        let failure = self.apply(&set, &decision, &key.namespace).await?;
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
    async fn apply(&self, set: &K, decision: &Decision, namespace: &str) -> Result<Option<Failure>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.world.client.clone(), namespace);
        match decision {
            Decision::Nothing => Ok(None),
            Decision::Create(count) => self.create(&pods, set, (*count).min(BURST)).await,
            Decision::Delete(doomed) => self.delete(&pods, set, doomed).await,
        }
    }

    /// One, then twice as many each time: a template that is refused is refused once, not five hundred times.
    async fn create(&self, pods: &Api<Pod>, set: &K, count: usize) -> Result<Option<Failure>, Error> {
        let pod = template::pod(set, &set.wanted().template);
        let (mut left, mut group) = (count, 1);
        while left > 0 {
            let size = group.min(left);
            let created = futures::future::join_all((0..size).map(|_| self.create_one(pods, set, &pod))).await;
            for result in created {
                if let Some(failure) = result? {
                    return Ok(Some(failure));
                }
            }
            left -= size;
            group *= 2;
        }
        Ok(None)
    }

    async fn create_one(&self, pods: &Api<Pod>, set: &K, pod: &Pod) -> Result<Option<Failure>, Error> {
        match pods.create(&PostParams::default(), pod).await {
            Ok(created) => {
                self.events.normal(set, "SuccessfulCreate", format!("Created pod: {}", created.name_any()));
                self.world.pods.has_seen(&created).await?;
                Ok(None)
            }
            // The set is about to go, too.
            Err(error) if has_cause(&error, "NamespaceTerminating") => Ok(None),
            Err(error) => {
                let message = message(&error);
                self.events.warning(set, "FailedCreate", format!("Error creating: {message}"));
                Ok(Some(Failure { reason: "FailedCreate", message }))
            }
        }
    }

    async fn delete(&self, pods: &Api<Pod>, set: &K, doomed: &[Arc<Pod>]) -> Result<Option<Failure>, Error> {
        let results = futures::future::join_all(doomed.iter().map(|pod| self.delete_one(pods, set, pod))).await;
        results.into_iter().find_map(Result::transpose).transpose()
    }

    async fn delete_one(&self, pods: &Api<Pod>, set: &K, doomed: &Pod) -> Result<Option<Failure>, Error> {
        let (name, uid) = (doomed.name_any(), doomed.uid().unwrap_or_default());
        match pods.delete(&name, &apply::only(doomed)).await {
            Ok(_) => self.events.normal(set, "SuccessfulDelete", format!("Deleted pod: {name}")),
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => {}
            Err(error) => {
                let message = message(&error);
                self.events.warning(set, "FailedDelete", format!("Error deleting: {message}"));
                return Ok(Some(Failure { reason: "FailedDelete", message }));
            }
        }
        self.world.pods.has_lost(&Key::of(doomed), &uid).await.map(|()| None)
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

/// Why pods could not be created or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    reason: &'static str,
    message: String,
}
