//! `metrics.k8s.io`: the API's seam for objects that nobody stores, joined with the node that measures.

use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_api::{LiveAnswer, LiveObjects};
use sluice_node::{NodeUsage, PodUsage, Usage, UsageReader};

const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// The API starts before the node: until the node is there, nobody measures.
#[derive(Default)]
pub(crate) struct NodeMetrics {
    reader: OnceLock<UsageReader>,
}

impl NodeMetrics {
    pub(crate) fn connect(&self, reader: UsageReader) {
        let _ = self.reader.set(reader);
    }
}

impl LiveObjects for NodeMetrics {
    fn read<'a>(&'a self, plural: &'a str, namespace: &'a str, name: Option<&'a str>) -> LiveAnswer<'a> {
        Box::pin(async move {
            let reader = self.reader.get().ok_or("no node runs here")?;
            let read = async {
                Ok(match plural {
                    "nodes" => {
                        let nodes = reader.node().await?.into_iter();
                        nodes
                            .filter(|node| name.is_none_or(|name| name == node.name))
                            .map(|node| node_metrics(&node))
                            .collect()
                    }
                    _ => reader.pods(namespace, name).await?.iter().map(pod_metrics).collect(),
                })
            };
            read.await.map_err(|error: kube::Error| error.to_string())
        })
    }
}

fn node_metrics(node: &NodeUsage) -> Value {
    let at = whole_seconds(node.at);
    json!({
        "kind": "NodeMetrics", "apiVersion": API_VERSION,
        "metadata": {"name": node.name, "creationTimestamp": at, "labels": node.labels},
        "timestamp": at, "window": seconds(node.window), "usage": usage(node.usage),
    })
}

fn pod_metrics(pod: &PodUsage) -> Value {
    let at = whole_seconds(pod.at);
    let containers = pod.containers.iter();
    let containers: Vec<Value> =
        containers.map(|container| json!({"name": container.name, "usage": usage(container.usage)})).collect();
    json!({
        "kind": "PodMetrics", "apiVersion": API_VERSION,
        "metadata": {"name": pod.name, "namespace": pod.namespace, "creationTimestamp": at, "labels": pod.labels},
        "timestamp": at, "window": seconds(pod.window), "containers": containers,
    })
}

fn usage(usage: Usage) -> Value {
    json!({"cpu": format!("{}n", usage.cpu_nanocores), "memory": format!("{}Ki", usage.memory_bytes / 1024)})
}

fn whole_seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As Go writes durations of seconds.
fn seconds(window: std::time::Duration) -> String {
    format!("{}s", window.as_millis() as f64 / 1000.0)
}
