//! Pods through the API, as any client makes them.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::engine::{Engine, PATIENCE};

pub(super) struct Cluster {
    pods: Api<Pod>,
}

impl Cluster {
    pub(super) async fn of(engine: &Engine) -> anyhow::Result<Self> {
        let file = Kubeconfig::read_from(&engine.ready.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Self { pods: Api::namespaced(Client::try_from(config)?, "default") })
    }

    pub(super) async fn until_ready(&self, name: &str, pod: Value) -> anyhow::Result<Duration> {
        Ok(self.until(name, pod, is_ready).await?.0)
    }

    /// Creates a pod and waits until it has ended: its uid.
    pub(super) async fn until_ended(&self, name: &str, pod: Value) -> anyhow::Result<String> {
        let (_, pod) = self
            .until(name, pod, |pod| phase(pod).is_some_and(|phase| phase != "Running" && phase != "Pending"))
            .await?;
        anyhow::ensure!(phase(&pod) == Some("Succeeded"), "pod `{name}` failed: {:?}", pod.status);
        pod.metadata.uid.context("a pod has a uid")
    }

    pub(super) async fn uid(&self, name: &str) -> anyhow::Result<String> {
        self.pods.get(name).await?.metadata.uid.context("a pod has a uid")
    }

    pub(super) async fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Creates a pod and waits for what it becomes.
    async fn until(&self, name: &str, pod: Value, enough: fn(&Pod) -> bool) -> anyhow::Result<(Duration, Pod)> {
        let only = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(PATIENCE.as_secs() as u32);
        let mut events = self.pods.watch(&only, "0").await?.boxed();
        let started = Instant::now();
        self.pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        loop {
            let event = events.next().await.with_context(|| format!("pod `{name}` did not get there"))??;
            if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
                && enough(&pod)
            {
                return Ok((started.elapsed(), pod));
            }
        }
    }
}

/// Answers its readiness probe as soon as it listens.
pub(super) fn web(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{
        "name": "main", "image": "sluice.dev/demo:v1",
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}}]}})
}

/// Does nothing, and is ready as soon as it runs.
pub(super) fn quiet(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
        {"name": "main", "image": "host", "command": ["sleep", "infinity"]}]}})
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
