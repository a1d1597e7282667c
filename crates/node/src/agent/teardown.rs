//! Ends pods that the API no longer knows, and takes away what pods leave behind.

use std::{fs, io, time::Duration};

use sluice_pod::{
    plan::PodPlan,
    pod_dir::{PodDir, read_json},
    wire::{PodState, Request},
};
use tracing::{info, warn};

use super::{holding::Holding, link::Link, memory::Memory, options::NodeOptions, remains, volumes};

/// What a stop may take beyond its grace: the floor between signal and SIGKILL for app containers and sidecars in turn.
const SLACK: Duration = Duration::from_secs(10);

/// How much time the processes get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grace {
    /// The pod's own `terminationGracePeriodSeconds`.
    Own,
    /// SIGTERM, and SIGKILL two seconds later.
    None,
}

/// Stops whatever runs in `dir` and removes the directory and the logs. Returns the address that the pod had.
pub(super) async fn tear_down(dir: &PodDir, options: &NodeOptions, grace: Grace) -> Option<std::net::Ipv4Addr> {
    let plan: Option<PodPlan> = read_json(&dir.plan()).ok().flatten();
    let grace_seconds = match grace {
        Grace::Own => plan.as_ref().map_or(0, |plan| plan.grace_seconds),
        Grace::None => 0,
    };
    stop(dir, grace_seconds).await;
    let memory: Memory = read_json(&dir.memory()).ok().flatten().unwrap_or_default();
    remove(dir, options, plan.as_ref());
    memory.address
}

async fn stop(dir: &PodDir, grace_seconds: u64) {
    if let Ok(mut link) = Link::connect(dir).await
        && link.call(Request::Stop { grace_seconds }).await.is_ok()
    {
        let gone = async { while link.changed().await.is_ok() {} };
        if tokio::time::timeout(Duration::from_secs(grace_seconds) + SLACK, gone).await.is_ok() {
            return;
        }
        warn!(dir = %dir.path().display(), "Supervisor does not end");
    }
    let state: PodState = read_json(&dir.state()).ok().flatten().unwrap_or_default();
    if !state.finished {
        remains::kill(dir, &state);
    }
}

/// Takes away a pod's directory and its logs.
pub(super) fn remove(dir: &PodDir, options: &NodeOptions, plan: Option<&PodPlan>) {
    if let Err(error) = volumes::forget(dir) {
        warn!(pod = %dir.path().display(), %error, "Secrets not removed");
    }
    let logs = plan.map(|plan| plan.log_dir.clone()).filter(|logs| logs.starts_with(options.logs_dir()));
    for path in logs.iter().map(std::path::PathBuf::as_path).chain([dir.path()]) {
        match fs::remove_dir_all(path) {
            Ok(()) => info!(path = %path.display(), "Removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && foreign_ids_removed(options, path) => {
                info!(path = %path.display(), "Removed");
            }
            Err(error) => warn!(path = %path.display(), %error, "Not removed"),
        }
    }
}

/// Without root, what other users of containers have left belongs to ids that only the pods' user namespace knows.
fn foreign_ids_removed(options: &NodeOptions, path: &std::path::Path) -> bool {
    !rustix::process::geteuid().is_root() && Holding::new(&options.data_dir, &options.exe).remove(path).is_ok()
}
