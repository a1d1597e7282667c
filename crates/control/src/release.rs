//! The Rollout controller: gathers what is known of a release, decides with `sluice-release`, applies, reports.
//!
//! Reading order: `controller` (the pass), `gather` (the situation), `gateways` (what they acknowledged), `memory` (what is
//! only known while we run), `probe` (http checks), `report`, `world` (what is watched).

mod controller;
mod gateways;
mod gather;
mod memory;
mod probe;
mod report;
mod world;

use std::sync::Arc;

use kube::Client;
use sluice_stats::VersionSnapshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::attach::Embedded;
use crate::queue::Queue;
use controller::Releases;
use memory::Memories;
use world::World;

/// Passes at a time; a pass mostly waits for its own write.
const CONCURRENCY: usize = 32;
/// The field manager of what the release controller writes.
const MANAGER: &str = "sluice-release";

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

/// Runs until it is told to stop. Everything that a restart must know stands in the Rollouts.
pub async fn run(client: Client, measure: Arc<dyn Measure>, options: ReleaseOptions, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let world = World::new(client, &mut tasks);
    let queue = Arc::new(Queue::default());
    world.listen(&queue);
    world.follow(&options, &mut tasks);
    let started = async {
        world.synced().await;
        let controller = Arc::new(Releases {
            attach: Box::new(Embedded {
                deployments: Arc::clone(&world.deployments),
                replica_sets: Arc::clone(&world.replica_sets),
                pods: Arc::clone(&world.pods),
            }),
            world: Arc::clone(&world),
            measure,
            queue: Arc::clone(&queue),
            memories: Memories::default(),
        });
        let passes = queue.run("release", CONCURRENCY, move |key| {
            let controller = Arc::clone(&controller);
            async move { controller.reconcile(key).await }
        });
        passes.await;
    };
    tokio::select! {
        () = started => {}
        () = stop.cancelled() => {}
    }
    tasks.shutdown().await;
}
