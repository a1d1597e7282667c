//! Decisions as lines of text: nodes and pods in, acts out.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::decide::{Decision, Observed, decide};
use super::placing::{self, node_of};

const NOW: &str = "2026-01-01T01:00:00Z";

fn set(spec: &Value) -> Arc<DaemonSet> {
    let mut set = json!({
        "metadata": {"name": "log", "namespace": "shop", "uid": "set", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "log"}},
            "template": {"metadata": {"labels": {"app": "log"}}, "spec": {"containers": [{"name": "main"}]}}},
    });
    set["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(set).unwrap())
}

fn rolling(rolling: &Value) -> Arc<DaemonSet> {
    set(&json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}))
}

/// `a`, or `a!NoSchedule` with a taint.
fn node(word: &str) -> Arc<Node> {
    let (name, effect) = word.split_once('!').unwrap_or((word, ""));
    let mut node = json!({"metadata": {"name": name, "labels": {"disk": "ssd"}}, "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    if !effect.is_empty() {
        node["spec"]["taints"] = json!([{"key": "k", "effect": effect}]);
    }
    Arc::new(serde_json::from_value(node).unwrap())
}

/// `a:old:ready`: the node, the revision, and a state; a fourth word names a second pod of that node.
fn pod(set: &DaemonSet, word: &str) -> Arc<Pod> {
    let words: Vec<_> = word.split(':').collect();
    let [node, hash, state] = words[..3] else { panic!("a pod: {word}") };
    let mut pod = placing::pod(set, hash, node);
    let suffix = words.get(3).map(|word| format!("-{word}")).unwrap_or_default();
    pod.metadata.name = Some(format!("log-{node}{suffix}"));
    pod.metadata.creation_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let (phase, ready) = match state {
        "ready" | "ending" => ("Running", "True"),
        "unready" => ("Running", "False"),
        "failed" => ("Failed", "False"),
        "succeeded" => ("Succeeded", "False"),
        other => panic!("a state: {other}"),
    };
    let condition = json!({"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    pod.status = Some(serde_json::from_value(json!({"phase": phase, "conditions": [condition]})).unwrap());
    if state == "ending" {
        pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!(NOW)).unwrap());
    }
    Arc::new(pod)
}

fn decision(set: &Arc<DaemonSet>, nodes: &str, pods: &str) -> Decision {
    decide(&Observed {
        set: Arc::clone(set),
        pods: pods.split_whitespace().map(|word| pod(set, word)).collect(),
        nodes: nodes.split_whitespace().map(node).collect(),
        hash: "new".to_owned(),
        collisions: 0,
        now: NOW.parse().unwrap(),
    })
}

fn check(set: &Arc<DaemonSet>, nodes: &str, pods: &str, expected: &str) {
    assert_eq!(decision(set, nodes, pods).to_string(), expected, "{nodes}; {pods}");
}

#[test]
fn each_node_that_is_for_it_gets_one_pod() {
    let everywhere = set(&json!({}));
    check(&everywhere, "a b", "", "create on a; create on b");
    check(&everywhere, "a b", "a:new:ready", "create on b");
    check(&everywhere, "a", "a:new:ending", "nothing to do");
    check(&everywhere, "a", "a:new:ready a:new:ready:2", "delete log-a-2 (NotWanted)");
    check(&everywhere, "a", "a:new:failed", "delete log-a (Failed)");
    check(&everywhere, "a", "a:new:succeeded", "delete log-a (Succeeded)");
    check(&everywhere, "a", "a:new:ready gone:new:unready", "delete log-gone (NotWanted)");
    let selecting = |label: &str| {
        let spec = json!({"nodeSelector": {"disk": label}, "containers": [{"name": "main"}]});
        set(&json!({"template": {"metadata": {"labels": {"app": "log"}}, "spec": spec}}))
    };
    check(&selecting("ssd"), "a", "", "create on a");
    check(&selecting("hdd"), "a", "a:new:ready", "delete log-a (NotWanted)");
}

#[test]
fn taints_keep_new_pods_away_or_drive_old_ones_out() {
    let set = set(&json!({}));
    check(&set, "a!NoSchedule", "", "nothing to do");
    check(&set, "a!NoSchedule", "a:new:ready", "nothing to do");
    check(&set, "a!NoExecute", "a:new:ready", "delete log-a (NotWanted)");
    assert_eq!(decision(&set, "a!NoSchedule", "a:new:ready").status.number_misscheduled, 1);
}

#[test]
fn an_update_ends_as_many_as_may_be_missing() {
    let one = rolling(&json!({"maxUnavailable": 1}));
    check(&one, "a b c", "a:old:ready b:old:ready c:old:ready", "delete log-a (Outdated)");
    check(&one, "a b c", "a:new:unready b:old:ready c:old:ready", "nothing to do");
    check(&one, "a b c", "a:new:ready b:old:ready c:old:ready", "delete log-b (Outdated)");
    check(&one, "a b c", "a:old:unready b:old:ready c:new:unready", "delete log-a (Outdated)");
    check(&one, "a b", "a:old:ending b:old:ready", "nothing to do");
    let half = rolling(&json!({"maxUnavailable": "50%"}));
    check(&half, "a b c", "a:old:ready b:old:ready c:old:ready", "delete log-a (Outdated); delete log-b (Outdated)");
    let by_hand = set(&json!({"updateStrategy": {"type": "OnDelete"}}));
    check(&by_hand, "a", "a:old:ready", "nothing to do");
}

#[test]
fn a_surge_puts_the_new_pod_beside_the_old_one() {
    let surging = rolling(&json!({"maxSurge": 1, "maxUnavailable": 0}));
    check(&surging, "a b", "a:old:ready b:old:ready", "create on a");
    check(&surging, "a b", "a:old:ready a:new:unready:2 b:old:ready", "nothing to do");
    check(&surging, "a b", "a:old:ready a:new:ready:2 b:old:ready", "delete log-a (Outdated)");
    check(&surging, "a b", "a:old:unready a:new:unready:2 b:old:ready", "delete log-a (Outdated)");
    check(&surging, "a b", "a:new:ready:2 b:old:ready", "create on b");
    check(&surging, "a b", "a:old:unready b:old:ready", "create on a; create on b");
}

#[test]
fn the_status_looks_at_the_first_pod_of_each_node() {
    let set = set(&json!({}));
    let status = decision(&set, "a b c", "a:new:ready b:old:unready").status;
    let counts = [status.desired_number_scheduled, status.current_number_scheduled, status.number_ready];
    assert_eq!(counts, [3, 2, 1]);
    let counts = [status.updated_number_scheduled, status.number_available, status.number_unavailable];
    assert_eq!(counts, [Some(1), Some(1), Some(2)]);
}

#[test]
fn a_pod_says_which_node_it_is_for() {
    let set = set(&json!({}));
    let pod = placing::pod(&set, "new", "a");
    assert_eq!(node_of(&pod), Some("a".to_owned()));
    assert_eq!(pod.spec.unwrap().tolerations.unwrap().len(), 6);
}
