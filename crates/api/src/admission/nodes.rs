//! Pods stay for a while on nodes that do not answer.

use serde_json::{Value, json};

/// How long a pod tolerates that its node is not ready or unreachable.
const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// Adds the tolerations that the pod does not bring itself.
pub(super) fn tolerate_failures(pod: &mut Value) {
    let own = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    let tolerated = |taint: &str| {
        own.iter().any(|toleration| {
            let key = toleration["key"].as_str().unwrap_or_default();
            let effect = toleration["effect"].as_str().unwrap_or_default();
            (key == taint || key.is_empty()) && matches!(effect, "NoExecute" | "")
        })
    };
    let missing: Vec<Value> = TAINTS
        .into_iter()
        .filter(|taint| !tolerated(taint))
        .map(|taint| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}))
        .collect();
    if !missing.is_empty() {
        pod["spec"]["tolerations"] = json!([own, missing].concat());
    }
}
