//! What a supervisor is told to run: the pod plan, a versioned JSON file in the pod's directory.
//!
//! The agent writes it, the supervisor reads it. A supervisor lives as long as its pod and so may be older than the agent:
//! fields are only ever added, with a default that means what the older side did.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    bounds::Bounds,
    confinement::{Confinement, Resources, Sandbox},
};

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
    /// Present when the pod's containers are confined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
    /// What all processes of a pod without a sandbox may use; `None`: they are in no control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
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
    /// A signal number; that of the image when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// The agent reports when the startup probe has passed; without one a running container counts as started.
    #[serde(default)]
    pub startup_probe: bool,
    /// Its own restart policy, over that of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Exit codes that it is started again after, whatever its policy says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_after: Vec<ExitCodes>,
    /// The file a process may leave its last words in.
    pub termination_file: PathBuf,
    /// `FallbackToLogsOnError`: without last words, a failed container's log tail stands in for them.
    #[serde(default)]
    pub termination_from_logs: bool,
    /// Its stdin stays open for whoever attaches, instead of being empty.
    #[serde(default)]
    pub stdin: bool,
    /// Its stdin ends with the first who attaches.
    #[serde(default)]
    pub stdin_once: bool,
    /// Its streams are a terminal.
    #[serde(default)]
    pub tty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Runs to success before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: must be started before the next one, and outlives the app containers.
    Sidecar,
    App,
}

/// Some exit codes, or all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitCodes {
    In(Vec<i32>),
    NotIn(Vec<i32>),
}

impl ExitCodes {
    pub fn contains(&self, code: i32) -> bool {
        match self {
            Self::In(codes) => codes.contains(&code),
            Self::NotIn(codes) => !codes.contains(&code),
        }
    }
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
    /// Its image was pulled for it, which whoever pulled it has told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pulled: bool,
    /// The signal that its image wants to be stopped by; SIGTERM when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Box<Confinement>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Box<Bounds>>,
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
    /// One that cannot be run, and why.
    Invalid {
        problem: String,
    },
}
