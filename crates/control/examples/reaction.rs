//! How fast the controllers react: from the answer to a changed Deployment until its ReplicaSet has the new size, on disk
//! and over the API in process. `cargo run --release -p sluice-control --example reaction`

use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::json;
use sluice_api::{Identity, Options, Server};
use sluice_control::workload::{self, WorkloadOptions};
use sluice_store::Store;
use tokio_util::sync::CancellationToken;

const CHANGES: usize = 200;
const REST: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data = tempfile::tempdir_in(".")?;
    let store = Store::open(data.path())?;
    let server = Server::start(store.clone(), Options::default()).await?;
    let client =
        |part: &str| Client::new(server.in_process(Identity::system(format!("system:sluice:{part}"))), "default");
    let stop = CancellationToken::new();
    let controllers = tokio::spawn(workload::run(client("workload"), WorkloadOptions::default(), stop.clone()));
    let mut reactions = tokio::spawn(measure(client("bench"))).await??;
    reactions.sort();
    let at = |percent: usize| reactions[(reactions.len() - 1) * percent / 100];
    print(&json!({"name": "reaction", "p50_us": at(50).as_micros(), "p99_us": at(99).as_micros(), "changes": CHANGES}));
    stop.cancel();
    controllers.await?;
    server.stop();
    store.close().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the line is what this program is for")]
fn print(line: &serde_json::Value) {
    println!("{line}");
}

async fn measure(client: Client) -> anyhow::Result<Vec<Duration>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let sets: Api<ReplicaSet> = Api::namespaced(client, "default");
    // Pods that nobody schedules: they cost the machine nothing.
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "main", "image": "host"}]}});
    let deployment = json!({"metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    deployments.create(&PostParams::default(), &serde_json::from_value(deployment)?).await?;
    let mut events = sets.watch(&WatchParams::default(), "0").await?.boxed();
    let mut reactions = Vec::with_capacity(CHANGES);
    for change in 0..CHANGES {
        tokio::time::sleep(REST).await;
        let replicas = i32::try_from(change % 2 + 1)?;
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch("web", &PatchParams::default(), &patch).await?;
        let answered = Instant::now();
        loop {
            let event = events.next().await.context("the watch ended")??;
            let (WatchEvent::Added(set) | WatchEvent::Modified(set)) = event else { continue };
            if set.spec.and_then(|spec| spec.replicas) == Some(replicas) {
                break;
            }
        }
        reactions.push(answered.elapsed());
    }
    Ok(reactions)
}
