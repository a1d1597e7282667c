//! What all controllers share: the client, what the API holds, and a place for their events. One watch per kind.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolumeClaim, Pod, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::account::ROOT_CA;
use super::events::Events;
use super::informer::Cache;
use super::rollout::{self, Rollout};

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) events: Events,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    pub(crate) claims: Arc<Cache<PersistentVolumeClaim>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
    pub(crate) endpoints: Arc<Cache<Endpoints>>,
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    pub(crate) accounts: Arc<Cache<ServiceAccount>>,
    /// Only the ConfigMaps of this one name.
    pub(crate) root_cas: Arc<Cache<ConfigMap>>,
    pub(crate) definitions: Arc<Cache<PartialObjectMeta<CustomResourceDefinition>>>,
    pub(crate) rollouts: Arc<Cache<Rollout>>,
}

impl World {
    /// With the tasks that keep it up to date; the listeners come first, so that they miss nothing.
    pub(crate) fn new(client: Client, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let (events, writer) = Events::new(client.clone());
        tasks.spawn(writer);
        Arc::new(Self {
            client,
            events,
            deployments: Cache::new(),
            replica_sets: Cache::new(),
            pods: Cache::new(),
            nodes: Cache::new(),
            claims: Cache::new(),
            services: Cache::new(),
            slices: Cache::new(),
            endpoints: Cache::new(),
            namespaces: Cache::new(),
            accounts: Cache::new(),
            root_cas: Cache::new(),
            definitions: Cache::new(),
            rollouts: Cache::new(),
        })
    }

    pub(crate) fn follow(&self, tasks: &mut JoinSet<()>) {
        self.follow_one(&self.deployments, tasks);
        self.follow_one(&self.replica_sets, tasks);
        self.follow_one(&self.pods, tasks);
        self.follow_one(&self.nodes, tasks);
        self.follow_one(&self.claims, tasks);
        self.follow_one(&self.services, tasks);
        self.follow_one(&self.slices, tasks);
        self.follow_one(&self.endpoints, tasks);
        self.follow_one(&self.namespaces, tasks);
        self.follow_one(&self.accounts, tasks);
        let root_cas = watcher::Config::default().fields(&format!("metadata.name={ROOT_CA}"));
        tasks.spawn(Arc::clone(&self.root_cas).follow(Api::all(self.client.clone()), root_cas));
        self.follow_one(&self.definitions, tasks);
        // Their kind comes with our definitions, which may be installed later than this.
        let rollouts = Api::all_with(self.client.clone(), &rollout::resource());
        tasks.spawn(Arc::clone(&self.rollouts).follow(rollouts, watcher::Config::default()));
    }

    fn follow_one<K>(&self, cache: &Arc<Cache<K>>, tasks: &mut JoinSet<()>)
    where
        K: Resource<DynamicType: Default> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let config = watcher::Config::default().streaming_lists();
        tasks.spawn(Arc::clone(cache).follow(Api::all(self.client.clone()), config));
    }

    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.deployments.synced(),
            self.replica_sets.synced(),
            self.pods.synced(),
            self.nodes.synced(),
            self.claims.synced(),
            self.services.synced(),
            self.slices.synced(),
            self.endpoints.synced(),
            self.namespaces.synced(),
            self.accounts.synced(),
            self.root_cas.synced(),
            self.rollouts.synced(),
        );
    }

    /// Changes when a definition of kinds does.
    pub(crate) fn definitions_changed(&self) -> watch::Receiver<u64> {
        let (changes, changed) = watch::channel(0);
        self.definitions.listen(move |_| changes.send_modify(|count| *count += 1));
        changed
    }
}
