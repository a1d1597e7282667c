//! From a Deployment and a Service to endpoints, through an update, to nothing.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_api::{Identity, Options, Server};
use sluice_control::workload::{self, WorkloadOptions};
use sluice_store::Store;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::node;

/// Nothing here takes so long on a machine that is not broken.
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct Cluster {
    pub(crate) client: Client,
    _stop: DropGuard,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let server = Server::start(Store::in_memory(), Options::default()).await.unwrap();
        let client =
            |part: &str| Client::new(server.in_process(Identity::system(format!("system:sluice:{part}"))), "default");
        let stop = CancellationToken::new();
        let options = WorkloadOptions { ca_pem: "-----BEGIN CERTIFICATE-----".to_owned() };
        tokio::spawn(workload::run(client("workload"), options, stop.clone()));
        tokio::spawn(node::run(client("node")));
        let cluster = Self { client: client("test"), _stop: stop.drop_guard() };
        cluster.found_shop().await;
        cluster
    }

    /// The namespace of the tests, with what pods in it need.
    async fn found_shop(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": "shop"}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let is_there = |all: &[ServiceAccount]| all.iter().any(|it| it.name_any() == "default");
        self.expect("a service account", is_there).await;
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "shop")
    }

    pub(crate) async fn create<K>(&self, object: Value)
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Waits until the objects of a kind look like this.
    pub(crate) async fn expect<K>(&self, what: &str, holds: impl Fn(&[K]) -> bool)
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        let mut last = Vec::new();
        let seen = async {
            loop {
                last = api.list(&ListParams::default()).await.unwrap().items;
                if holds(&last) {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let in_time = tokio::time::timeout(DEADLINE, seen).await.is_ok();
        assert!(in_time, "{what}; instead: {last:#?}");
    }
}

fn deployment(image: &str) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": image}]},
            },
        },
    })
}

fn is_rolled_out(deployments: &[Deployment]) -> bool {
    let [deployment] = deployments else { return false };
    let status = deployment.status.clone().unwrap_or_default();
    let all = |count: Option<i32>| count == Some(3);
    status.observed_generation == deployment.metadata.generation
        && all(status.replicas)
        && all(status.updated_replicas)
        && all(status.available_replicas)
        && status.conditions.iter().flatten().any(|it| it.reason.as_deref() == Some("NewReplicaSetAvailable"))
}

/// The ready addresses, sorted.
fn addresses(slices: &[EndpointSlice]) -> Vec<String> {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let ready = endpoints.filter(|it| it.conditions.as_ref().and_then(|it| it.ready) == Some(true));
    let mut addresses: Vec<_> = ready.flat_map(|endpoint| endpoint.addresses.clone()).collect();
    addresses.sort();
    addresses
}

fn pod_addresses(pods: &[Pod]) -> Vec<String> {
    let living = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut addresses: Vec<_> = living.filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    addresses.sort();
    addresses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_lives_and_dies() {
    let cluster = Cluster::start().await;
    cluster
        .expect::<ConfigMap>("the API's certificate", |all| all.iter().any(|it| it.name_any() == "kube-root-ca.crt"))
        .await;

    cluster.create::<Deployment>(deployment("demo:v1")).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}}});
    cluster.create::<Service>(service).await;
    cluster.expect("the first revision is rolled out", is_rolled_out).await;
    cluster.expect::<EndpointSlice>("three endpoints", |slices| addresses(slices).len() == 3).await;

    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "demo:v2"}]}}}});
    let deployments = cluster.api::<Deployment>();
    deployments.patch("web", &PatchParams::default(), &Patch::Strategic(image)).await.unwrap();
    let sizes = |sets: &[ReplicaSet]| {
        let mut sizes: Vec<_> = sets.iter().filter_map(|set| set.spec.as_ref()?.replicas).collect();
        sizes.sort_unstable();
        sizes
    };
    cluster.expect::<ReplicaSet>("the second revision takes over", |sets| sizes(sets) == [0, 3]).await;
    cluster.expect("the second revision is rolled out", is_rolled_out).await;
    let pods = pod_addresses(&cluster.api::<Pod>().list(&ListParams::default()).await.unwrap().items);
    cluster.expect::<EndpointSlice>("the endpoints of the new pods", |slices| addresses(slices) == pods).await;

    deployments.delete("web", &DeleteParams::background()).await.unwrap();
    cluster.expect::<ReplicaSet>("no ReplicaSet is left", <[_]>::is_empty).await;
    cluster.expect::<Pod>("no pod is left", <[_]>::is_empty).await;
    cluster.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    cluster.expect::<EndpointSlice>("no slice is left", <[_]>::is_empty).await;
    cluster.expect::<Endpoints>("no Endpoints are left", <[_]>::is_empty).await;
}
