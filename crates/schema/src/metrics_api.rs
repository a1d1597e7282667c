//! Measurements to be read and nothing else: the resource metrics API, as `kubectl top` and autoscalers know it, and what our
//! gateway has found.

use serde_json::Value;

use crate::crd;
use crate::kinds::Kind;

const METRICS: &str = include_str!("../data/metrics-api.json");
const MEASURED: &str = include_str!("../data/measured-api.json");

/// `NodeMetrics` and `PodMetrics`.
pub fn metrics_api() -> Vec<Kind> {
    compiled(METRICS)
}

/// `Comparison`
pub fn measured_api() -> Vec<Kind> {
    compiled(MEASURED)
}

fn compiled(definitions: &str) -> Vec<Kind> {
    let definitions: Vec<Value> = serde_json::from_str(definitions).expect("the data is JSON: a test reads it");
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
        let kinds = super::metrics_api().into_iter().chain(super::measured_api());
        let served: Vec<String> =
            kinds.map(|kind| format!("{} {} {}", kind.api_version(), kind.plural, kind.verbs.join(","))).collect();
        let expected = [
            "metrics.k8s.io/v1beta1 nodes get,list",
            "metrics.k8s.io/v1beta1 pods get,list",
            "measured.sluice.dev/v1alpha1 comparisons get,list",
        ];
        assert_eq!(served, expected);
    }
}
