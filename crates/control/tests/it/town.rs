//! An API, the workload controllers, the release controller, a pretended node and a pretended gateway.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Event;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sluice_api::{Identity, Server};
use sluice_control::release::{self, Measure, ReleaseOptions};
use sluice_control::workload::{self, WorkloadOptions};
use sluice_model::rollout::RolloutStatus;
use sluice_store::Store;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;
use crate::node;

/// A state that does not come within this time does not come.
const PATIENCE: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "default";

pub(crate) struct Town {
    pub(crate) gateway: Arc<Gateway>,
    server: Server,
    stop: CancellationToken,
    release: Option<(CancellationToken, JoinHandle<()>)>,
    tasks: Vec<JoinHandle<()>>,
    _data: TempDir,
}

impl Town {
    pub(crate) async fn new() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let store = Store::open(data.path()).expect("a store");
        let server = Server::start(store, sluice_api::Options::default()).await.expect("a server");
        let stop = CancellationToken::new();
        let mut town = Self { gateway: Arc::default(), server, stop, release: None, tasks: Vec::new(), _data: data };
        town.define().await;
        let workload = workload::run(town.client("workload"), WorkloadOptions::default(), town.stop.clone());
        let gateway = Arc::clone(&town.gateway).run(town.client("gateway"));
        town.tasks = vec![tokio::spawn(workload), tokio::spawn(node::run(town.client("node"))), tokio::spawn(gateway)];
        town.start_release();
        town
    }

    /// With a shop of two pods in version 1, its Service, and a Rollout of these fields beside target and route.
    pub(crate) async fn with_shop(rollout: Value) -> Self {
        let town = Self::new().await;
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"},
            "spec": {"selector": {"app": "shop"}, "ports": [{"port": 80}]}});
        town.apply(service).await;
        town.release_shop(rollout).await;
        town.deploy("v1").await;
        town.until(|status| status.phase == Some(sluice_model::rollout::Phase::Idle)).await;
        town
    }

    /// (Re)writes the Rollout.
    pub(crate) async fn release_shop(&self, fields: Value) {
        let mut spec = json!({"target": {"name": "shop"}, "routes": [{"name": "shop"}]});
        spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        self.apply(
            json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "shop"}, "spec": spec}),
        )
        .await;
    }

    /// What a user does: the same Deployment with another image.
    pub(crate) async fn deploy(&self, version: &str) {
        let template = json!({"metadata": {"labels": {"app": "shop"}},
            "spec": {"containers": [{"name": "shop", "image": format!("shop:{version}")}]}});
        self.apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "shop"}}, "template": template}}))
            .await;
    }

    pub(crate) fn start_release(&mut self) {
        let stop = CancellationToken::new();
        let measure: Arc<dyn Measure> = self.gateway.clone();
        let run = release::run(self.client("release"), measure, ReleaseOptions::default(), stop.clone());
        self.release = Some((stop, tokio::spawn(run)));
    }

    pub(crate) async fn stop_release(&mut self) {
        let (stop, task) = self.release.take().expect("it runs");
        stop.cancel();
        task.await.expect("it stops without a panic");
    }

    pub(crate) async fn command(&self, name: &str, verb: &str) {
        let command = json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "RolloutCommand", "metadata": {"name": name},
            "spec": {"rollout": "shop", "verb": verb}});
        self.apply(command).await;
    }

    /// `Done: ...` once the command is answered.
    pub(crate) async fn answer(&self, name: &str) -> String {
        let api = self.api("sluice.dev", "v1alpha1", "RolloutCommand");
        let answered =
            |command: Option<&DynamicObject>| command.is_some_and(|it| it.data["status"]["phase"].is_string());
        let command = wait(await_condition(api, name, answered), "an answer").await;
        let status = &command.data["status"];
        format!("{}: {}", status["phase"].as_str().unwrap_or_default(), status["message"].as_str().unwrap_or_default())
    }

    pub(crate) async fn status(&self) -> RolloutStatus {
        let rollout = self.rollouts().get("shop").await.expect("a Rollout");
        read(Some(&rollout)).unwrap_or_default()
    }

    /// Waits for a status.
    pub(crate) async fn until(&self, wanted: impl Fn(&RolloutStatus) -> bool) -> RolloutStatus {
        let condition = |rollout: Option<&DynamicObject>| read(rollout).is_some_and(|status| wanted(&status));
        let waiting = await_condition(self.rollouts(), "shop", condition);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(rollout)) => read(rollout.as_ref()).expect("it was readable just now"),
            Ok(Err(error)) => panic!("the watch ended: {error}"),
            Err(_) => panic!("does not come: {:#?}", self.status().await),
        }
    }

    /// Reasons of the events about the Rollout.
    pub(crate) async fn until_event(&self, reason: &str) {
        let events: Api<Event> = Api::namespaced(self.client("test"), NAMESPACE);
        let written = async {
            loop {
                let found = events.list(&ListParams::default()).await.expect("events");
                let about = |event: &Event| event.involved_object.kind.as_deref() == Some("Rollout");
                if found.iter().any(|event| about(event) && event.reason.as_deref() == Some(reason)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, written).await.unwrap_or_else(|_| panic!("no event {reason}"));
    }

    /// Pods by `pod-template-hash`.
    pub(crate) async fn pods(&self, hash: &str) -> usize {
        let selected = ListParams::default().labels(&format!("pod-template-hash={hash}"));
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.client("test"), NAMESPACE);
        pods.list(&selected).await.expect("pods").items.len()
    }

    fn rollouts(&self) -> Api<DynamicObject> {
        self.api("sluice.dev", "v1alpha1", "Rollout")
    }

    fn client(&self, part: &str) -> Client {
        Client::new(self.server.in_process(Identity::system(format!("system:sluice:{part}"))), NAMESPACE)
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client("test"), NAMESPACE, &resource)
    }

    async fn apply(&self, object: Value) {
        let (group, version) = object["apiVersion"].as_str().and_then(|it| it.split_once('/')).unwrap_or(("", "v1"));
        let api = self.api(group, version, object["kind"].as_str().expect("a kind"));
        let name = object["metadata"]["name"].as_str().expect("a name");
        api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.expect("an object");
    }

    async fn define(&self) {
        let resource =
            ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition"));
        let definitions: Api<DynamicObject> = Api::all_with(self.client("test"), &resource);
        for yaml in sluice_model::crds::ALL {
            let definition: DynamicObject = serde_saphyr::from_str(yaml).expect("a definition");
            let made = definitions.create(&PostParams::default(), &definition).await.expect("a definition");
            let served = |it: Option<&DynamicObject>| {
                let conditions =
                    it.and_then(|it| it.data["status"]["conditions"].as_array().cloned()).unwrap_or_default();
                conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
            };
            wait(await_condition(definitions.clone(), &made.name_any(), served), "a served kind").await;
        }
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.stop.cancel();
        self.release.iter().for_each(|(stop, _)| stop.cancel());
        self.tasks.iter().for_each(JoinHandle::abort);
        self.server.stop();
    }
}

fn read(rollout: Option<&DynamicObject>) -> Option<RolloutStatus> {
    RolloutStatus::deserialize(rollout?.data.get("status")?).ok()
}

async fn wait<T, E: Debug>(waiting: impl Future<Output = Result<Option<T>, E>>, what: &str) -> T {
    let waited = tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} does not come"));
    waited.expect("the watch goes on").expect("it is there")
}
