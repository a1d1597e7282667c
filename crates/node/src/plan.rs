//! What a supervisor is told to run: the pod plan, a versioned JSON file in the pod's directory.
//!
//! The agent writes it, the supervisor reads it. A supervisor lives as long as its pod and so may be older than the agent:
//! fields are only ever added, with a default that means what the older side did.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The newest plan this binary writes and reads.
pub const PLAN_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodPlan {
    pub version: u32,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub restart_policy: RestartPolicy,
    /// `terminationGracePeriodSeconds`: for stops that the pod's own life asks for, such as that of a sidecar.
    pub grace_seconds: u64,
    /// Below it lies a directory per container with a log file per start.
    pub log_dir: PathBuf,
    /// Init containers and sidecars first, in their order, then the app containers.
    pub containers: Vec<ContainerPlan>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPlan {
    pub name: String,
    pub role: Role,
    /// The image as the manifest wrote it, for messages.
    pub image: String,
    pub launch: Launch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Hook>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Hook>,
    /// A signal number; SIGTERM when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// The agent reports when the startup probe has passed; without one a running container counts as started.
    #[serde(default)]
    pub startup_probe: bool,
    /// The file a process may leave its last words in.
    pub termination_file: PathBuf,
    /// `FallbackToLogsOnError`: without last words, a failed container's log tail stands in for them.
    #[serde(default)]
    pub termination_from_logs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Runs to success before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: must be started before the next one, and outlives the app containers.
    Sidecar,
    App,
}

/// How a container is started, or why it cannot be yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Launch {
    Ready(Command),
    Withheld { reason: String, message: String },
}

/// A process, with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: Vec<(String, String)>,
    pub dir: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Hook {
    /// Runs with the container's environment and directory.
    Exec {
        command: Vec<String>,
    },
    /// A plain HTTP GET; any status below 400 is success.
    Http {
        address: String,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    Sleep {
        seconds: u64,
    },
}
