//! What all controllers share: the client, what the API holds, and a place for their events. One watch per kind.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::account::ROOT_CA;
use super::events::Events;
use super::informer::Cache;
use super::rollout::{self, Rollout};
use super::token_secrets;

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) events: Events,
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) replication_controllers: Arc<Cache<ReplicationController>>,
    pub(crate) daemon_sets: Arc<Cache<DaemonSet>>,
    pub(crate) stateful_sets: Arc<Cache<StatefulSet>>,
    pub(crate) revisions: Arc<Cache<ControllerRevision>>,
    pub(crate) cron_jobs: Arc<Cache<CronJob>>,
    pub(crate) jobs: Arc<Cache<Job>>,
    pub(crate) cluster_roles: Arc<Cache<ClusterRole>>,
    pub(crate) budgets: Arc<Cache<PodDisruptionBudget>>,
    pub(crate) pods: Arc<Cache<Pod>>,
    pub(crate) nodes: Arc<Cache<Node>>,
    pub(crate) quotas: Arc<Cache<ResourceQuota>>,
    pub(crate) claims: Arc<Cache<PersistentVolumeClaim>>,
    pub(crate) volumes: Arc<Cache<PersistentVolume>>,
    pub(crate) classes: Arc<Cache<StorageClass>>,
    pub(crate) services: Arc<Cache<Service>>,
    pub(crate) slices: Arc<Cache<EndpointSlice>>,
    pub(crate) endpoints: Arc<Cache<Endpoints>>,
    pub(crate) namespaces: Arc<Cache<Namespace>>,
    pub(crate) accounts: Arc<Cache<ServiceAccount>>,
    /// Only the ConfigMaps of this one name.
    pub(crate) root_cas: Arc<Cache<ConfigMap>>,
    /// Only the secrets of this one type.
    pub(crate) token_secrets: Arc<Cache<Secret>>,
    pub(crate) definitions: Arc<Cache<PartialObjectMeta<CustomResourceDefinition>>>,
    pub(crate) rollouts: Arc<Cache<Rollout>>,
}

impl World {
    /// With the tasks that keep it up to date; the listeners come first, so that they miss nothing.
    pub(crate) fn new(client: Client, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let (events, writer) = Events::new(&client);
        tasks.spawn(writer);
        Arc::new(Self {
            client,
            events,
            deployments: Cache::new(),
            replica_sets: Cache::new(),
            replication_controllers: Cache::new(),
            daemon_sets: Cache::new(),
            stateful_sets: Cache::new(),
            revisions: Cache::new(),
            cron_jobs: Cache::new(),
            jobs: Cache::new(),
            cluster_roles: Cache::new(),
            budgets: Cache::new(),
            pods: Cache::new(),
            nodes: Cache::new(),
            quotas: Cache::new(),
            claims: Cache::new(),
            volumes: Cache::new(),
            classes: Cache::new(),
            services: Cache::new(),
            slices: Cache::new(),
            endpoints: Cache::new(),
            namespaces: Cache::new(),
            accounts: Cache::new(),
            root_cas: Cache::new(),
            token_secrets: Cache::new(),
            definitions: Cache::new(),
            rollouts: Cache::new(),
        })
    }

    pub(crate) fn follow(&self, tasks: &mut JoinSet<()>) {
        let client = &self.client;
        self.deployments.follow_all(client, tasks);
        self.replica_sets.follow_all(client, tasks);
        self.replication_controllers.follow_all(client, tasks);
        self.daemon_sets.follow_all(client, tasks);
        self.stateful_sets.follow_all(client, tasks);
        self.revisions.follow_all(client, tasks);
        self.cron_jobs.follow_all(client, tasks);
        self.jobs.follow_all(client, tasks);
        self.cluster_roles.follow_all(client, tasks);
        self.budgets.follow_all(client, tasks);
        self.pods.follow_all(client, tasks);
        self.nodes.follow_all(client, tasks);
        self.quotas.follow_all(client, tasks);
        self.claims.follow_all(client, tasks);
        self.volumes.follow_all(client, tasks);
        self.classes.follow_all(client, tasks);
        self.services.follow_all(client, tasks);
        self.slices.follow_all(client, tasks);
        self.endpoints.follow_all(client, tasks);
        self.namespaces.follow_all(client, tasks);
        self.accounts.follow_all(client, tasks);
        let root_cas = watcher::Config::default().fields(&format!("metadata.name={ROOT_CA}"));
        tasks.spawn(Arc::clone(&self.root_cas).follow(Api::all(self.client.clone()), root_cas));
        let token_secrets = watcher::Config::default().fields(&format!("type={}", token_secrets::TYPE));
        tasks.spawn(Arc::clone(&self.token_secrets).follow(Api::all(self.client.clone()), token_secrets));
        self.definitions.follow_all(client, tasks);
        // Their kind comes with our definitions, which may be installed later than this.
        let rollouts = Api::all_with(self.client.clone(), &rollout::resource());
        tasks.spawn(Arc::clone(&self.rollouts).follow(rollouts, watcher::Config::default()));
    }

    pub(crate) async fn synced(&self) {
        tokio::join!(
            self.deployments.synced(),
            self.replica_sets.synced(),
            self.replication_controllers.synced(),
            self.daemon_sets.synced(),
            self.stateful_sets.synced(),
            self.revisions.synced(),
            self.cron_jobs.synced(),
            self.jobs.synced(),
            self.cluster_roles.synced(),
            self.budgets.synced(),
            self.pods.synced(),
            self.nodes.synced(),
            self.quotas.synced(),
            self.claims.synced(),
            self.volumes.synced(),
            self.classes.synced(),
            self.services.synced(),
            self.slices.synced(),
            self.endpoints.synced(),
            self.namespaces.synced(),
            self.accounts.synced(),
            self.root_cas.synced(),
            self.token_secrets.synced(),
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
