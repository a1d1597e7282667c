//! What the gateway has counted, for whoever decides on releases, for whoever reads `/metrics`, and as objects that nobody stores.

use std::sync::OnceLock;

use serde_json::{Value, json};
use sluice_api::{LiveAnswer, LiveObjects, Measures};
use sluice_compare::Report;
use sluice_control::release::Measure;
use sluice_gateway::{BookKey, Counters};
use sluice_stats::VersionSnapshot;

pub(crate) struct GatewayCounters(pub(crate) Counters);

impl Measure for GatewayCounters {
    fn snapshot(&self, namespace: &str, hash: &str) -> VersionSnapshot {
        self.0.of(namespace, hash)
    }
}

/// The API starts before the gateway: until that is there, nothing is counted.
#[derive(Default)]
pub(crate) struct GatewayMeasures {
    counters: OnceLock<Counters>,
}

impl GatewayMeasures {
    pub(crate) fn connect(&self, counters: Counters) {
        let _ = self.counters.set(counters);
    }
}

impl Measures for GatewayMeasures {
    fn text(&self) -> String {
        self.counters.get().map(Counters::exposition).unwrap_or_default()
    }
}

impl LiveObjects for GatewayMeasures {
    fn read<'a>(&'a self, _plural: &'a str, namespace: &'a str, name: Option<&'a str>) -> LiveAnswer<'a> {
        let known = self.counters.get().map(Counters::comparisons).unwrap_or_default();
        let wanted = known.into_iter().filter(move |(key, _)| {
            (namespace.is_empty() || key.namespace == namespace) && name.is_none_or(|name| name == name_of(key))
        });
        let objects: Vec<Value> = wanted.map(|(key, report)| comparison(&key, &report)).collect();
        Box::pin(std::future::ready(Ok(objects)))
    }
}

/// One for each pair of versions: a candidate may have been compared with more than one stable version.
fn name_of(key: &BookKey) -> String {
    let BookKey { rollout, stable, candidate, .. } = key;
    format!("{rollout}-{candidate}-{stable}")
}

fn comparison(key: &BookKey, report: &Report) -> Value {
    let BookKey { namespace, rollout, stable, candidate } = key;
    json!({
        "kind": "Comparison", "apiVersion": "measured.sluice.dev/v1alpha1",
        "metadata": {"name": name_of(key), "namespace": namespace, "labels": {"sluice.dev/rollout": rollout}},
        "rollout": rollout, "stable": stable, "candidate": candidate, "report": report,
    })
}
