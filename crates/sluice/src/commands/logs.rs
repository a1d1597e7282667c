//! `sluice logs`.

use anyhow::Context as _;
use futures::AsyncReadExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, LogParams};

use crate::connect::{Connection, connect};
use crate::exit::Exit;
use crate::flags::Logs;
use crate::printer;

pub(crate) async fn run(flags: Logs) -> anyhow::Result<Exit> {
    let connection = connect(&flags.connect).await?;
    let pod = pod_of(&connection, &flags.pod).await?;
    // The API counts in whole seconds, from one on.
    let since_seconds = flags.since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX).max(1));
    let params = LogParams {
        container: flags.container,
        follow: flags.follow,
        previous: flags.previous,
        tail_lines: flags.tail,
        since_seconds,
        timestamps: flags.timestamps,
        ..LogParams::default()
    };
    let pods: Api<Pod> = Api::namespaced(connection.client, &connection.namespace);
    let mut stream = pods.log_stream(&pod, &params).await?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut buffer).await.context("the log stream broke")?;
        if n == 0 {
            return Ok(Exit::Ok);
        }
        printer::text(&String::from_utf8_lossy(&buffer[..n]));
    }
}

/// A pod by its own name, or one of a Deployment's.
async fn pod_of(connection: &Connection, typed: &str) -> anyhow::Result<String> {
    let Some((kind, name)) = typed.split_once('/') else { return Ok(typed.to_owned()) };
    match kind {
        "pod" | "pods" | "po" => return Ok(name.to_owned()),
        "deployment" | "deployments" | "deploy" => {}
        other => anyhow::bail!("logs of a `{other}` are not known: name a pod or `deployment/NAME`"),
    }
    let deployments: Api<Deployment> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let labels = deployments.get(name).await?.spec.and_then(|s| s.selector.match_labels).unwrap_or_default();
    let selector: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let list = pods.list(&ListParams::default().labels(&selector.join(","))).await?;
    let pod = list.items.first().with_context(|| format!("deployment `{name}` has no pods"))?;
    Ok(pod.name_any())
}
