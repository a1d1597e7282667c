//! How many pods to create, or which to delete.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::pod;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing to do"),
            Self::Create(count) => write!(f, "create {count}"),
            Self::Delete(pods) => {
                let names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
                write!(f, "delete {}", names.join(", "))
            }
        }
    }
}

/// `active` are the pods that count: neither finished nor on their way out.
pub(super) fn decide(wanted: usize, active: &[Arc<Pod>]) -> Decision {
    match active.len().cmp(&wanted) {
        Ordering::Equal => Decision::Nothing,
        Ordering::Less => Decision::Create(wanted - active.len()),
        Ordering::Greater => {
            let mut ranked = active.to_vec();
            ranked.sort_by(|a, b| {
                pod::dispensability(a).cmp(&pod::dispensability(b)).then_with(|| a.uid().cmp(&b.uid()))
            });
            ranked.truncate(active.len() - wanted);
            Decision::Delete(ranked)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pod::DELETION_COST;

    fn pod(name: &str, extra: Value) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n", "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}]},
        });
        merge(&mut pod, extra);
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn merge(into: &mut Value, extra: Value) {
        match (into, extra) {
            (Value::Object(into), Value::Object(extra)) => {
                for (name, value) in extra {
                    merge(into.entry(name).or_insert(Value::Null), value);
                }
            }
            (into, extra) => *into = extra,
        }
    }

    fn check(replicas: usize, pods: &[Arc<Pod>], expected: &str) {
        assert_eq!(decide(replicas, pods).to_string(), expected);
    }

    #[test]
    fn what_is_missing_is_created() {
        check(0, &[], "nothing to do");
        check(3, &[pod("a", json!({}))], "create 2");
        check(1, &[pod("a", json!({}))], "nothing to do");
    }

    #[test]
    fn the_most_dispensable_go_first() {
        let cost = |cost: &str| json!({"metadata": {"annotations": {DELETION_COST: cost}}});
        let pods = [
            pod("plain", json!({})),
            pod("dear", cost("100")),
            pod("cheap", cost("-10")),
            pod("unready", json!({"status": {"conditions": []}})),
            pod("pending", json!({"status": {"phase": "Pending", "conditions": []}})),
            pod("unassigned", json!({"spec": {"nodeName": null}})),
            pod(
                "newly-ready",
                json!({"status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:09:00Z"}]}}),
            ),
            pod(
                "restarted",
                json!({"status": {"containerStatuses": [
                {"name": "c", "restartCount": 3, "ready": true, "image": "", "imageID": ""}]}}),
            ),
            pod("newest", json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:03Z"}})),
        ];
        check(0, &pods, "delete unassigned, pending, unready, cheap, newly-ready, restarted, newest, plain, dear");
        check(7, &pods, "delete unassigned, pending");
    }
}
