//! The gateway of this process as the release controller's source of measurements.

use sluice_control::release::Measure;
use sluice_gateway::Counters;
use sluice_stats::VersionSnapshot;

pub(crate) struct GatewayCounters(pub(crate) Counters);

impl Measure for GatewayCounters {
    fn snapshot(&self, namespace: &str, hash: &str) -> VersionSnapshot {
        self.0.of(namespace, hash)
    }
}
