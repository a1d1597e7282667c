//! Claims and the volumes that they get: prepared ones, or new ones that a provisioner is asked for.

mod decide;
mod matching;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::decide::{ForClaim, Observed, Saying, for_claim};
pub(super) use self::decide::{SELECTED_NODE, waits_for_consumer};
pub(super) use self::matching::class_of;
use super::Error;
use super::apply::{self, Part};
use super::events::{Events, Severity};
use super::informer::{Cache, Change, Key, is_deleted};
use super::queue::{Queue, Wake};
use super::world::World;

const COMPONENT: &str = "persistentvolume-controller";

pub(super) struct Claims {
    world: Arc<World>,
    events: Events,
}

pub(super) struct Volumes {
    world: Arc<World>,
}

/// Queues the claims and volumes that a change concerns.
pub(super) fn listen(world: &World, claims: &Arc<Queue>, volumes: &Arc<Queue>) {
    let (to_claims, to_volumes) = (Arc::clone(claims), Arc::clone(volumes));
    world.claims.listen(move |change: Change<'_, PersistentVolumeClaim>| {
        for claim in change.states() {
            to_claims.add(Key::of(&**claim));
            if let Some(volume) = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()) {
                to_volumes.add(Key::new("", volume));
            }
        }
    });
    let (to_claims, to_volumes, all) = (Arc::clone(claims), Arc::clone(volumes), Arc::clone(&world.claims));
    world.volumes.listen(move |change: Change<'_, PersistentVolume>| {
        for volume in change.states() {
            to_volumes.add(Key::of(&**volume));
        }
        // It may be what others wait for, or have been what they had.
        all.all().iter().filter(|claim| concerns(&change, claim)).for_each(|claim| to_claims.add(Key::of(&**claim)));
    });
    let (to, all) = (Arc::clone(claims), Arc::clone(&world.claims));
    world.classes.listen(move |change: Change<'_, StorageClass>| {
        for class in change.states() {
            let waiting = all.all().into_iter().filter(|claim| class_of(claim) == class.name_any() && !is_bound(claim));
            waiting.for_each(|claim| to.add(Key::of(&*claim)));
        }
    });
    let to = Arc::clone(claims);
    world.pods.listen(move |change: Change<'_, Pod>| {
        // The first consumer is news to a claim that waits for it.
        if let Some(pod) = change.new.filter(|_| change.old.is_none()) {
            let namespace = pod.namespace().unwrap_or_default();
            claims_of(pod).for_each(|name| to.add(Key::new(namespace.clone(), name)));
        }
    });
}

fn concerns(change: &Change<'_, PersistentVolume>, claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    (named.is_empty() && !is_bound(claim)) || change.states().any(|volume| volume.name_any() == named)
}

pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// The names of the claims that a pod uses.
pub(super) fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.as_str()))
}

impl Claims {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(COMPONENT);
        Self { world, events }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(claim) = self.world.claims.get(&key) else { return Ok(None) };
        let observed = self.gather(claim, &key);
        let decision = for_claim(&observed);
        tracing::debug!(%key, ?decision, "Claim decided");
        self.apply(&observed.claim, &decision).await?;
        Ok(None)
    }

    fn gather(&self, claim: Arc<PersistentVolumeClaim>, key: &Key) -> Observed {
        let class = self.world.classes.get(&Key::new("", class_of(&claim)));
        let pods = if is_bound(&claim) { Vec::new() } else { self.world.pods.in_namespace(&key.namespace) };
        let waits = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none());
        let consumer = pods.iter().find(|pod| waits(pod) && claims_of(pod).any(|name| name == key.name));
        let waiting_pod = consumer.map(|pod| pod.name_any());
        Observed { claim, volumes: self.world.volumes.all(), class, waiting_pod }
    }

    async fn apply(&self, claim: &Arc<PersistentVolumeClaim>, decision: &ForClaim) -> Result<(), Error> {
        match decision {
            ForClaim::Bind(volume) => {
                // The volume first: it can be bound to one claim only.
                let after = decide::bound_volume(volume, claim);
                write(&Api::all(self.world.client.clone()), &self.world.volumes, &**volume, &after, without_status)
                    .await?;
                self.write(claim, &decide::bound_claim(claim, &after)).await
            }
            ForClaim::Wait(saying) => {
                saying.iter().for_each(|saying| self.say(claim, saying));
                self.write(claim, &decide::pending_claim(claim, None)).await
            }
            ForClaim::Ask(provisioner, saying) => {
                self.say(claim, saying);
                self.write(claim, &decide::pending_claim(claim, Some(provisioner))).await
            }
            ForClaim::Lose(saying) => {
                if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Lost") {
                    self.say(claim, saying);
                }
                self.write(claim, &decide::lost_claim(claim)).await
            }
        }
    }

    fn say(&self, claim: &PersistentVolumeClaim, saying: &Saying) {
        match saying.severity {
            Severity::Normal => self.events.normal(claim, saying.reason, &saying.message),
            Severity::Warning => self.events.warning(claim, saying.reason, &saying.message),
        }
    }

    async fn write(&self, claim: &PersistentVolumeClaim, after: &PersistentVolumeClaim) -> Result<(), Error> {
        let api = Api::namespaced(self.world.client.clone(), &claim.namespace().unwrap_or_default());
        write(&api, &self.world.claims, claim, after, |claim, status_of| claim.status.clone_from(&status_of.status))
            .await
    }
}

impl Volumes {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(volume) = self.world.volumes.get(&key) else { return Ok(None) };
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
        let claim_key = Key::new(reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
        let claim = self.world.claims.get(&claim_key);
        let after = decide::for_volume(&volume, claim.as_deref());
        let api = Api::all(self.world.client.clone());
        write(&api, &self.world.volumes, &*volume, &after, without_status).await?;
        Ok(None)
    }
}

fn without_status(volume: &mut PersistentVolume, status_of: &PersistentVolume) {
    volume.status.clone_from(&status_of.status);
}

/// Writes the object and then its status, each only where it differs.
async fn write<K>(
    api: &Api<K>,
    cache: &Cache<K>,
    before: &K,
    after: &K,
    take_status: fn(&mut K, &K),
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let mut main = after.clone();
    take_status(&mut main, before);
    let written = apply::update(api, cache, Part::Main, before, &main).await?;
    let written = written.unwrap_or_else(|| before.clone());
    let mut reported = written.clone();
    take_status(&mut reported, after);
    apply::update(api, cache, Part::Status, &written, &reported).await.map(drop)
}

/// Takes the finalizers away that protect what is in use, once it is not.
pub(super) struct Protection {
    world: Arc<World>,
}

const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";

/// Queues what is to go, and what its users leave.
pub(super) fn listen_for_protection(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.claims.listen(move |change: Change<'_, PersistentVolumeClaim>| {
        change.new.iter().filter(|claim| is_deleted(&****claim)).for_each(|claim| to.add(Key::of(&***claim)));
    });
    let to = Arc::clone(queue);
    world.volumes.listen(move |change: Change<'_, PersistentVolume>| {
        change.new.iter().filter(|volume| is_deleted(&****volume)).for_each(|volume| to.add(Key::of(&***volume)));
    });
    let to = Arc::clone(queue);
    world.pods.listen(move |change: Change<'_, Pod>| {
        if let Some(pod) = change.old.filter(|_| change.new.is_none()) {
            let namespace = pod.namespace().unwrap_or_default();
            claims_of(pod).for_each(|name| to.add(Key::new(namespace.clone(), name)));
        }
    });
}

impl Protection {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    /// Claims have a namespace, volumes have none.
    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let client = self.world.client.clone();
        if key.namespace.is_empty() {
            let Some(volume) = self.world.volumes.get(&key).filter(|it| is_deleted(&**it)) else { return Ok(None) };
            if volume.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
                free(&Api::all(client), &self.world.volumes, &*volume, VOLUME_PROTECTION).await?;
            }
            return Ok(None);
        }
        let Some(claim) = self.world.claims.get(&key).filter(|it| is_deleted(&**it)) else { return Ok(None) };
        // Only a pod that has a node can have the volume, and no other gets one now.
        let has_node = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let pods = self.world.pods.in_namespace(&key.namespace);
        if !pods.iter().any(|pod| has_node(pod) && claims_of(pod).any(|name| name == key.name)) {
            let api = Api::namespaced(client, &key.namespace);
            free(&api, &self.world.claims, &*claim, CLAIM_PROTECTION).await?;
        }
        Ok(None)
    }
}

async fn free<K>(api: &Api<K>, cache: &Cache<K>, object: &K, finalizer: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let mut freed = object.clone();
    freed.meta_mut().finalizers.get_or_insert_default().retain(|it| it != finalizer);
    apply::update(api, cache, Part::Main, object, &freed).await.map(drop)
}
