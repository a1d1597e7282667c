//! A node that only says that its pods run.

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

/// A pod may change while it is written.
const ATTEMPTS: usize = 3;
const NAME: &str = "pretended";

pub(crate) async fn run(client: Client) {
    if let Err(error) = register(&client).await {
        tracing::error!(%error, "The node cannot register");
        return;
    }
    let config = watcher::Config::default().fields(&format!("spec.nodeName={NAME}"));
    let mut pods = std::pin::pin!(watcher(Api::<Pod>::all(client.clone()), config));
    let mut last_address = 1_u32;
    while let Some(event) = pods.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => {
                last_address += 1;
                for _ in 0..ATTEMPTS {
                    match tend(&client, &pod, last_address).await {
                        Ok(()) => break,
                        Err(error) => tracing::warn!(%error, pod = pod.name_any(), "The pod is not tended"),
                    }
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "The node's watch was interrupted"),
        }
    }
}

async fn register(client: &Client) -> kube::Result<()> {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}},
        "status": {
            "allocatable": {"cpu": "800", "memory": "1600Gi", "pods": "2000"},
            "capacity": {"cpu": "800", "memory": "1600Gi", "pods": "2000"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }))
    .expect("a node");
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &node).await?;
    let status = Patch::Merge(json!({"status": node.status}));
    nodes.patch_status(NAME, &PatchParams::default(), &status).await?;
    Ok(())
}

async fn tend(client: &Client, pod: &Pod, address: u32) -> kube::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    if pod.metadata.deletion_timestamp.is_some() {
        pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        return Ok(());
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Pending") {
        return Ok(());
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}));
    let ip = format!("10.77.{}.{}", address / 256 % 256, address % 256);
    let containers: Vec<_> = pod.spec.iter().flat_map(|spec| &spec.containers).collect();
    let containers: Vec<_> = containers
        .iter()
        .map(|container| {
            json!({"name": container.name, "ready": true, "started": true, "restartCount": 0, "imageID": "",
                   "image": container.image, "state": {"running": {"startedAt": now}}})
        })
        .collect();
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "10.0.0.1",
                        "startTime": now, "conditions": conditions, "containerStatuses": containers}});
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}
