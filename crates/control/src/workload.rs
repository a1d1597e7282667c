//! The controllers of a single machine, each of them one pass of gather, decide, apply, report over `kube::Client`.
//!
//! The controllers: `deployment`, `replicaset`, `statefulset`, `daemonset`, `job`, `cronjob`, `disruption`, `endpoints`,
//! `garbage`, `namespace`, `quota`, `scheduler`, `volumes`.

mod account;
mod aggregation;
mod apply;
mod claim;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod garbage;
mod history;
mod job;
mod namespace;
mod pods;
mod portion;
mod quota;
mod replicaset;
mod resources;
mod rollout;
mod scheduler;
mod statefulset;
mod strays;
mod token_secrets;
mod volumes;
mod world;

use std::pin::Pin;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{Error, error, events, informer, owner, pod, queue, time};
use account::Accounts;
use aggregation::Aggregations;
use cronjob::CronJobs;
use daemonset::DaemonSets;
use deployment::Deployments;
use disruption::Budgets;
use endpoints::ServiceEndpoints;
use garbage::Garbage;
use informer::Key;
use job::{Jobs, Untracked};
use namespace::Namespaces;
use queue::{CONCURRENCY, Queue, Wake};
use quota::Quotas;
use replicaset::Keepers;
use scheduler::Scheduler;
use statefulset::StatefulSets;
use strays::Strays;
use token_secrets::TokenSecrets;
use volumes::{Claims, Protection, Volumes};
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
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = work(client, options, &mut tasks) => {}
        () = stop.cancelled() => {}
    }
    tasks.shutdown().await;
}

/// Starts what `tasks` ends.
async fn work(client: Client, options: WorkloadOptions, tasks: &mut JoinSet<()>) {
    let world = World::new(client.clone(), tasks);
    let queues = Queues::default();
    // The listeners first, so that they miss nothing.
    deployment::listen(&world, &queues.deployments);
    replicaset::listen::<ReplicaSet>(&world, &queues.replica_sets);
    replicaset::listen::<ReplicationController>(&world, &queues.replication_controllers);
    statefulset::listen(&world, &queues.stateful_sets);
    daemonset::listen(&world, &queues.daemon_sets);
    disruption::listen(&world, &queues.budgets);
    aggregation::listen(&world, &queues.aggregations);
    cronjob::listen(&world, &queues.cron_jobs);
    job::listen(&world, &queues.jobs, &queues.untracked);
    scheduler::listen(&world, &queues.pods);
    volumes::listen(&world, &queues.claims, &queues.volumes);
    volumes::listen_for_protection(&world, &queues.protected);
    strays::listen(&world, &queues.ending);
    namespace::listen(&world, &queues.namespaces);
    let recount = quota::listen(&world, &queues.quotas);
    let gone = endpoints::listen(&world, &queues.services);
    account::listen(&world, &queues.accounts);
    token_secrets::listen(&world, &queues.token_secrets);
    world.follow(tasks);
    world.synced().await;

    let shared = || Arc::clone(&world);
    run_controller(tasks, "deployment", CONCURRENCY, queues.deployments, Deployments::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    let sets = Keepers::<ReplicaSet>::new(shared());
    run_controller(tasks, "replicaset", CONCURRENCY, queues.replica_sets, sets, |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    let elders = Keepers::<ReplicationController>::new(shared());
    run_controller(tasks, "replicationcontroller", CONCURRENCY, queues.replication_controllers, elders, |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "statefulset", CONCURRENCY, queues.stateful_sets, StatefulSets::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "daemonset", CONCURRENCY, queues.daemon_sets, DaemonSets::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "cronjob", CONCURRENCY, queues.cron_jobs, CronJobs::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "disruption", CONCURRENCY, queues.budgets, Budgets::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "aggregation", CONCURRENCY, queues.aggregations, Aggregations::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "job", CONCURRENCY, queues.jobs, Jobs::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "job-tracking", CONCURRENCY, queues.untracked, Untracked::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    // One by one: two claims may want one volume.
    run_controller(tasks, "claims", 1, queues.claims, Claims::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "volumes", CONCURRENCY, queues.volumes, Volumes::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "protection", CONCURRENCY, queues.protected, Protection::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    // One by one: each takes room that the next must not count on.
    run_controller(tasks, "scheduler", 1, queues.pods, Scheduler::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(tasks, "strays", CONCURRENCY, queues.ending, Strays::new(shared()), |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    run_controller(
        tasks,
        "endpoints",
        CONCURRENCY,
        queues.services,
        ServiceEndpoints::new(shared(), gone),
        |it, key| Box::pin(async move { it.reconcile(key).await }),
    );
    let secrets = TokenSecrets::new(shared(), options.ca_pem.clone());
    run_controller(tasks, "token-secrets", CONCURRENCY, queues.token_secrets, secrets, |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    let accounts = Accounts::new(shared(), options.ca_pem);
    run_controller(tasks, "account", CONCURRENCY, queues.accounts, accounts, |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });

    let (kinds, known_kinds) = watch::channel(Vec::new());
    tasks.spawn(resources::keep(client.clone(), kinds, world.definitions_changed()));
    let garbage = Garbage::new(client, &world.events, Arc::clone(&queues.garbage), known_kinds.clone(), recount);
    let garbage = Arc::new(garbage);
    tasks.spawn(Arc::clone(&garbage).follow());
    run_controller(tasks, "garbage", CONCURRENCY, queues.garbage, garbage, |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    let quotas = Quotas::new(shared(), known_kinds.clone());
    run_controller(tasks, "quota", CONCURRENCY, queues.quotas, quotas, |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    let namespaces = Namespaces::new(shared(), known_kinds);
    run_controller(tasks, "namespace", CONCURRENCY, queues.namespaces, namespaces, |it, key| {
        Box::pin(async move { it.reconcile(key).await })
    });
    while tasks.join_next().await.is_some() {}
}

#[derive(Default)]
struct Queues {
    deployments: Arc<Queue>,
    replica_sets: Arc<Queue>,
    replication_controllers: Arc<Queue>,
    stateful_sets: Arc<Queue>,
    daemon_sets: Arc<Queue>,
    cron_jobs: Arc<Queue>,
    jobs: Arc<Queue>,
    aggregations: Arc<Queue>,
    budgets: Arc<Queue>,
    untracked: Arc<Queue>,
    claims: Arc<Queue>,
    volumes: Arc<Queue>,
    protected: Arc<Queue>,
    pods: Arc<Queue>,
    ending: Arc<Queue>,
    services: Arc<Queue>,
    namespaces: Arc<Queue>,
    accounts: Arc<Queue>,
    quotas: Arc<Queue>,
    token_secrets: Arc<Queue>,
    garbage: Arc<Queue>,
}

type Pass = Pin<Box<dyn Future<Output = Result<Wake, Error>> + Send>>;

fn run_controller<C: Send + Sync + 'static>(
    tasks: &mut JoinSet<()>,
    name: &'static str,
    concurrency: usize,
    queue: Arc<Queue>,
    controller: C,
    reconcile: fn(Arc<C>, Key) -> Pass,
) {
    let controller = Arc::new(controller);
    tasks.spawn(queue.run(name, concurrency, move |key| reconcile(Arc::clone(&controller), key)));
}
