//! The controllers of a single machine, each of them one pass of gather, decide, apply, report over `kube::Client`.
//!
//! The controllers: `deployment`, `replicaset`, `endpoints`, `garbage`, `namespace`, `scheduler`.

mod apply;
mod claim;
mod deployment;
mod pod;
mod replicaset;
mod rollout;
mod scheduler;
mod world;

use std::sync::Arc;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Error, error, events, informer, owner, queue, time};
use deployment::Deployments;
use informer::Key;
use queue::{CONCURRENCY, Queue, Wake};
use replicaset::ReplicaSets;
use scheduler::Scheduler;
use world::World;

/// What the controllers are told from outside.
#[derive(Debug, Clone, Default)]
pub struct WorkloadOptions {
    /// The PEM bundle that every namespace gets as `kube-root-ca.crt`.
    pub ca_pem: String,
}

/// Runs until it is told to stop. Passes that are under way end where they are: whatever they
/// left half done is the next start's first work.
pub async fn run(client: Client, options: WorkloadOptions, stop: CancellationToken) {
    let _ = options;
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = work(client, &mut tasks) => {}
        () = stop.cancelled() => {}
    }
    tasks.shutdown().await;
}

/// Starts what `tasks` ends.
async fn work(client: Client, tasks: &mut JoinSet<()>) {
    let world = World::new(client, tasks);
    let queues = [(); 3].map(|()| Queue::new());
    let [deployments, replica_sets, pods] = &queues;
    // The listeners first, so that they miss nothing.
    deployment::listen(&world, deployments);
    replicaset::listen(&world, replica_sets);
    scheduler::listen(&world, pods);
    world.follow(tasks);
    world.synced().await;

    let [deployments, replica_sets, pods] = queues;
    let controller = Arc::new(Deployments::new(Arc::clone(&world)));
    spawn(tasks, "deployment", CONCURRENCY, deployments, controller, |it, key| async move { it.reconcile(key).await });
    let controller = Arc::new(ReplicaSets::new(Arc::clone(&world)));
    spawn(tasks, "replicaset", CONCURRENCY, replica_sets, controller, |it, key| async move { it.reconcile(key).await });
    let controller = Arc::new(Scheduler::new(Arc::clone(&world)));
    // One by one: each takes room that the next must not count on.
    spawn(tasks, "scheduler", 1, pods, controller, |it, key| async move { it.reconcile(key).await });
    while tasks.join_next().await.is_some() {}
}

fn spawn<C, F>(
    tasks: &mut JoinSet<()>,
    name: &'static str,
    concurrency: usize,
    queue: Arc<Queue>,
    controller: Arc<C>,
    reconcile: impl Fn(Arc<C>, Key) -> F + Send + 'static,
) where
    C: Send + Sync + 'static,
    F: Future<Output = Result<Wake, Error>> + Send + 'static,
{
    tasks.spawn(queue.run(name, concurrency, move |key| reconcile(Arc::clone(&controller), key)));
}
