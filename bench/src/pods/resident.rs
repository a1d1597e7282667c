//! Memory: of the two processes beside each pod, and of the engine with a hundred pods.

use std::path::Path;

use super::cluster::{self, Cluster};
use crate::engine::{Engine, pause, proportional_kilobytes, resident_kilobytes};
use crate::report::{GOAL, Pair, print};

const MANY: usize = 100;
const FEW: usize = 5;
const SUPERVISOR_MB: f64 = 3.0;
const ENGINE_MB: f64 = 120.0;
/// A supervisor rests after a quiet second.
const REST: std::time::Duration = std::time::Duration::from_millis(2500);

pub(super) async fn measure(sluice: &Path) -> anyhow::Result<()> {
    for (driver, kind, pods) in [("container", "containers", FEW), ("process", "processes", MANY)] {
        let engine = Engine::start_with(sluice, &["--driver", driver])?;
        let cluster = Cluster::of(&engine).await?;
        for pod in 0..pods {
            let name = format!("idle-{pod}");
            cluster.until_ready(&name, cluster::quiet(&name)).await?;
        }
        pause(REST);
        for (process, called) in [("supervisor", "sluice-pod"), ("keeper", "sluice-keeper")] {
            let found = processes(&engine.data(), called)?;
            anyhow::ensure!(found.len() == pods, "{} processes `{called}` for {pods} pods", found.len());
            print(&format!("pods/{process} of {kind}/resident"), GOAL, "MB", &sizes(&found, resident_kilobytes)?)?;
            print(&format!("pods/{process} of {kind}/share"), GOAL, "MB", &sizes(&found, proportional_kilobytes)?)?;
        }
        if pods == MANY {
            let ours = engine.idle_megabytes()?;
            print("pods/engine with 100 idle pods/resident", GOAL, "MB", &[Pair { ours, peer: ENGINE_MB }])?;
        }
        engine.stop()?;
    }
    Ok(())
}

fn sizes(pids: &[u32], kilobytes: fn(u32) -> anyhow::Result<u64>) -> anyhow::Result<Vec<Pair>> {
    pids.iter().map(|pid| Ok(Pair { ours: kilobytes(*pid)? as f64 / 1024.0, peer: SUPERVISOR_MB })).collect()
}

/// Processes of one engine by the name that they give themselves: they work in their pods' directories.
fn processes(data: &Path, called: &str) -> anyhow::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let ours = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|place| place.starts_with(data));
        if name.trim() == called && ours {
            found.push(pid);
        }
    }
    Ok(found)
}
