//! The controllers of a single machine, each of them one pass of gather, decide, apply, report over `kube::Client`.
//!
//! The controllers: `deployment`, `replicaset`, `endpoints`, `garbage`, `namespace`, `scheduler`.

mod apply;
mod claim;
mod deployment;
mod pod;
mod replicaset;
mod rollout;
mod world;

use crate::{Error, error, events, informer, owner, queue, time};
use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use deployment::Deployments;
use queue::Queue;
use replicaset::ReplicaSets;
use world::World;

/// What the controllers are told from outside.
#[derive(Debug, Clone, Default)]
pub struct WorkloadOptions {
    /// The PEM bundle that every namespace gets as `kube-root-ca.crt`.
    pub ca_pem: String,
}

/// Runs until `stop` becomes true or its sender is gone. Passes that are under way end where they are: whatever they
/// left half done is the next start's first work.
pub async fn run(client: Client, options: WorkloadOptions, mut stop: watch::Receiver<bool>) {
    let _ = options;
    let mut tasks = JoinSet::new();
    let world = World::new(client, &mut tasks);
    let (deployments, replica_sets) = (Queue::new(), Queue::new());
    deployment::listen(&world, &deployments);
    replicaset::listen(&world, &replica_sets);
    world.follow(&mut tasks);
    let started = async {
        world.synced().await;
        let controller = Arc::new(Deployments::new(Arc::clone(&world)));
        tasks.spawn(deployments.run("deployment", move |key| {
            let controller = Arc::clone(&controller);
            async move { controller.reconcile(key).await }
        }));
        let controller = Arc::new(ReplicaSets::new(Arc::clone(&world)));
        tasks.spawn(replica_sets.run("replicaset", move |key| {
            let controller = Arc::clone(&controller);
            async move { controller.reconcile(key).await }
        }));
        while tasks.join_next().await.is_some() {}
    };
    tokio::select! {
        () = started => {}
        // An error means that whoever could stop us is gone.
        _ = stop.wait_for(|stop| *stop) => {}
    }
    tasks.shutdown().await;
}
