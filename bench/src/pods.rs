//! What pods cost: the start of a container and a probe in it beside crun and runc, a pull beside containerd and podman, the
//! way from a pod's creation to Ready, the supervisor beside each pod, and the engine with many. Needs root and Debian: the
//! peers are installed from its packages.

mod cluster;
mod peers;
mod pull;
mod resident;
mod run;
mod timer;

pub(crate) use timer::serve as time_commands;

use crate::engine::{Engine, built};
use crate::report::{GOAL, Pair, print};
use cluster::Cluster;

const ROUNDS: usize = 15;
const PROCESS_READY_MS: f64 = 100.0;
const CONTAINER_READY_MS: f64 = 250.0;

pub(crate) fn run() -> anyhow::Result<()> {
    peers::install()?;
    let sluice = built()?;
    let wanted = |part: &str| std::env::args().nth(2).is_none_or(|only| only == part);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if wanted("run") {
        runtime.block_on(run::measure(&sluice))?;
    }
    if wanted("pull") {
        pull::measure(&sluice)?;
    }
    if wanted("ready") {
        runtime.block_on(ready(&sluice))?;
    }
    if wanted("resident") {
        runtime.block_on(resident::measure(&sluice))?;
    }
    Ok(())
}

/// From the request that creates a pod to its condition `Ready`. Both answer a readiness probe over HTTP.
async fn ready(sluice: &std::path::Path) -> anyhow::Result<()> {
    for (name, driver, goal_ms) in
        [("process", "process", PROCESS_READY_MS), ("container", "container", CONTAINER_READY_MS)]
    {
        let engine = Engine::start_with(sluice, &["--driver", driver])?;
        let cluster = Cluster::of(&engine).await?;
        let mut took = Vec::new();
        for round in 0..ROUNDS {
            let pod = format!("one-{round}");
            let elapsed = cluster.until_ready(&pod, cluster::web(&pod)).await?;
            took.push(Pair { ours: elapsed.as_secs_f64() * 1000.0, peer: goal_ms });
            cluster.remove(&pod).await?;
        }
        print(&format!("pods/ready/{name}"), GOAL, "ms", &took)?;
        engine.stop()?;
    }
    Ok(())
}
