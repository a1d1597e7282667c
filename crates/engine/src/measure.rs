//! What the gateway has counted, for whoever decides on releases and for whoever reads `/metrics`.

use std::sync::OnceLock;

use sluice_api::Measures;
use sluice_control::release::Measure;
use sluice_gateway::Counters;
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
