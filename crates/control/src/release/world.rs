//! What the release controller reads, kept in memory, and which Rollout a change concerns.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use sluice_model::rollout::{GROUP, VERSION};
use tokio::task::JoinSet;

use super::ReleaseOptions;
use super::gateways::COMPONENT_LABEL;
use crate::events::Events;
use crate::informer::{Cache, Key};
use crate::owner;
use crate::queue::Queue;

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) events: Events,
    pub(crate) rollouts: Arc<Cache<DynamicObject>>,
    pub(crate) commands: Arc<Cache<DynamicObject>>,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
    pub(crate) leases: Arc<Cache<Lease>>,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    /// Rollouts by the Deployment that they target.
    by_target: HashMap<Key, BTreeSet<Key>>,
    /// Rollouts that wait for gateways.
    waiting: HashSet<Key>,
}

impl World {
    pub(crate) fn new(client: Client, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let (events, writer) = Events::new(&client);
        tasks.spawn(writer);
        Arc::new(Self {
            client,
            events: events.of("sluice-release"),
            rollouts: Cache::new(),
            commands: Cache::new(),
            deployments: Cache::new(),
            replica_sets: Cache::new(),
            pods: Cache::new(),
            services: Cache::new(),
            slices: Cache::new(),
            leases: Cache::new(),
            index: Mutex::default(),
        })
    }

    /// Queues the Rollouts that a change concerns.
    pub(crate) fn listen(self: &Arc<Self>, queue: &Arc<Queue>) {
        listen(&self.rollouts, self, queue, |world, rollout| {
            world.index().by_target.entry(target(rollout)).or_default().insert(Key::of(rollout));
            vec![Key::of(rollout)]
        });
        listen(&self.commands, self, queue, |_, command| {
            let rollout = command.data["spec"]["rollout"].as_str().unwrap_or_default();
            vec![Key::new(command.namespace().unwrap_or_default(), rollout)]
        });
        listen(&self.deployments, self, queue, |world, deployment| world.targeting(&Key::of(deployment)));
        listen(&self.replica_sets, self, queue, Self::of_set);
        listen(&self.pods, self, queue, Self::of_pod);
        listen(&self.slices, self, queue, Self::of_slice);
        listen(&self.services, self, queue, |world, service| {
            let namespace = service.namespace().unwrap_or_default();
            world.rollouts.in_namespace(&namespace).iter().map(|rollout| Key::of(&**rollout)).collect()
        });
        listen(&self.leases, self, queue, |world, _| world.index().waiting.iter().cloned().collect());
    }

    pub(crate) fn follow(&self, options: &ReleaseOptions, tasks: &mut JoinSet<()>) {
        let client = &self.client;
        tasks.spawn(Arc::clone(&self.rollouts).follow(all(client, "Rollout", "rollouts"), watcher::Config::default()));
        let commands = all(client, "RolloutCommand", "rolloutcommands");
        tasks.spawn(Arc::clone(&self.commands).follow(commands, watcher::Config::default()));
        self.deployments.follow_all(client, tasks);
        self.replica_sets.follow_all(client, tasks);
        self.pods.follow_all(client, tasks);
        self.services.follow_all(client, tasks);
        self.slices.follow_all(client, tasks);
        let leases = Api::namespaced(client.clone(), &options.lease_namespace);
        tasks.spawn(Arc::clone(&self.leases).follow(leases, watcher::Config::default().labels(COMPONENT_LABEL)));
    }

    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.rollouts.synced(),
            self.commands.synced(),
            self.deployments.synced(),
            self.replica_sets.synced(),
            self.pods.synced(),
            self.services.synced(),
            self.slices.synced(),
            self.leases.synced(),
        );
    }

    /// Remembers whether a Rollout must be looked at when a gateway acknowledges something.
    pub(crate) fn waits_for_gateways(&self, key: &Key, waits: bool) {
        let waiting = &mut self.index().waiting;
        if waits {
            waiting.insert(key.clone());
        } else {
            waiting.remove(key);
        }
    }

    /// The Rollouts that target this Deployment.
    pub(crate) fn targeting(&self, deployment: &Key) -> Vec<Key> {
        let mut index = self.index();
        let Some(keys) = index.by_target.get_mut(deployment) else { return Vec::new() };
        keys.retain(|key| self.rollouts.get(key).is_some_and(|rollout| target(&rollout) == *deployment));
        keys.iter().cloned().collect()
    }

    fn of_set(&self, set: &ReplicaSet) -> Vec<Key> {
        let Some(owner) = owner::controller(set.meta()) else { return Vec::new() };
        self.targeting(&Key::new(set.namespace().unwrap_or_default(), &owner.name))
    }

    fn of_pod(&self, pod: &Pod) -> Vec<Key> {
        let Some(owner) = owner::controller(pod.meta()) else { return Vec::new() };
        let set = self.replica_sets.get(&Key::new(pod.namespace().unwrap_or_default(), &owner.name));
        set.map(|set| self.of_set(&set)).unwrap_or_default()
    }

    fn of_slice(&self, slice: &EndpointSlice) -> Vec<Key> {
        let namespace = slice.namespace().unwrap_or_default();
        let names = slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone());
        let pods = names.filter_map(|name| self.pods.get(&Key::new(&namespace, name)));
        let concerned: BTreeSet<Key> = pods.flat_map(|pod| self.of_pod(&pod)).collect();
        concerned.into_iter().collect()
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The listener holds the world weakly: the world holds the caches, and these their listeners.
fn listen<K>(
    cache: &Arc<Cache<K>>,
    world: &Arc<World>,
    queue: &Arc<Queue>,
    concerned: impl Fn(&World, &K) -> Vec<Key> + Send + Sync + 'static,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (world, queue) = (Arc::downgrade(world), Arc::clone(queue));
    cache.listen(move |change| {
        let Some(world) = world.upgrade() else { return };
        for state in change.states() {
            concerned(&world, state).into_iter().for_each(|key| queue.add(key));
        }
    });
}

fn target(rollout: &DynamicObject) -> Key {
    let name = rollout.data["spec"]["target"]["name"].as_str().unwrap_or_default();
    Key::new(rollout.namespace().unwrap_or_default(), name)
}

pub(crate) fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural)
}

fn all(client: &Client, kind: &str, plural: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(kind, plural))
}
