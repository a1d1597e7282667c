//! What pods cost: the way of one from its creation to Ready, the supervisor beside each, and the engine with many.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::engine::{Engine, PATIENCE, built, resident_kilobytes};
use crate::report::{GOAL, Pair, print};

const ROUNDS: usize = 15;
const MANY: usize = 100;
const READY_MS: f64 = 100.0;
const SUPERVISOR_MB: f64 = 3.0;
const ENGINE_MB: f64 = 120.0;

pub(crate) fn run() -> anyhow::Result<()> {
    let engine = Engine::start(&built()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(measure(&engine));
    engine.stop()?;
    measured
}

async fn measure(engine: &Engine) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client(engine).await?, "default");
    let mut ready = Vec::new();
    for round in 0..ROUNDS {
        let took = until_ready(&pods, &format!("one-{round}")).await?;
        ready.push(Pair { ours: took.as_secs_f64() * 1000.0, peer: READY_MS });
        pods.delete(&format!("one-{round}"), &DeleteParams::default().grace_period(0)).await?;
    }
    print("pods/ready/process", GOAL, "ms", &ready)?;
    for pod in 0..MANY {
        until_ready(&pods, &format!("idle-{pod}")).await?;
    }
    let supervisors = supervisors()?;
    let sizes: anyhow::Result<Vec<f64>> =
        supervisors.iter().map(|pid| Ok(resident_kilobytes(*pid)? as f64 / 1024.0)).collect();
    let sizes: Vec<Pair> = sizes?.into_iter().map(|ours| Pair { ours, peer: SUPERVISOR_MB }).collect();
    print("pods/supervisor/resident", GOAL, "MB", &sizes)?;
    let idle = engine.idle_megabytes()?;
    print("pods/engine with 100 idle pods/resident", GOAL, "MB", &[Pair { ours: idle, peer: ENGINE_MB }])
}

async fn client(engine: &Engine) -> anyhow::Result<Client> {
    let file = Kubeconfig::read_from(&engine.ready.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Creates a pod that answers its readiness probe as soon as it listens, and waits until it is Ready.
async fn until_ready(pods: &Api<Pod>, name: &str) -> anyhow::Result<Duration> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{
        "name": "main", "image": "sluice.dev/demo:v1",
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}}]}});
    let only = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(PATIENCE.as_secs() as u32);
    let mut events = pods.watch(&only, "0").await?.boxed();
    let started = Instant::now();
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    loop {
        let event = events.next().await.context("the pod did not get ready")??;
        if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event
            && is_ready(&pod)
        {
            return Ok(started.elapsed());
        }
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The processes that call themselves supervisors.
fn supervisors() -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.trim() == "sluice-pod" {
            found.push(pid);
        }
    }
    anyhow::ensure!(!found.is_empty(), "no supervisor runs");
    Ok(found)
}
