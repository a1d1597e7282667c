//! The resource metrics API, as `kubectl top` and autoscalers know it: measurements to be read and nothing else.

use serde_json::Value;

use crate::crd;
use crate::kinds::Kind;

const DEFINITIONS: &str = include_str!("../data/metrics-api.json");

/// `NodeMetrics` and `PodMetrics`.
pub fn metrics_api() -> Vec<Kind> {
    let definitions: Vec<Value> = serde_json::from_str(DEFINITIONS).expect("the data is JSON: a test reads it");
    let kinds = definitions.iter().flat_map(|one| crd::compile(one).expect("the data is valid: a test compiles it"));
    kinds
        .map(|mut kind| {
            kind.verbs.retain(|verb| verb == "get" || verb == "list");
            kind.singular.clear();
            kind.storage_version_hash.clear();
            kind
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn measurements_are_read_and_not_written() {
        let kinds = super::metrics_api();
        let served: Vec<String> = kinds
            .iter()
            .map(|kind| format!("{} {} {}", kind.api_version(), kind.plural, kind.verbs.join(",")))
            .collect();
        assert_eq!(served, ["metrics.k8s.io/v1beta1 nodes get,list", "metrics.k8s.io/v1beta1 pods get,list"]);
    }
}
