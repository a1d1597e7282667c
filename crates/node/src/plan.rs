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
pub(crate) const PLAN_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodPlan {
    pub(crate) version: u32,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) restart_policy: RestartPolicy,
    /// `terminationGracePeriodSeconds`: for stops that the pod's own life asks for, such as that of a sidecar.
    pub(crate) grace_seconds: u64,
    /// Below it lies a directory per container with a log file per start.
    pub(crate) log_dir: PathBuf,
    /// Init containers and sidecars first, in their order, then the app containers.
    pub(crate) containers: Vec<ContainerPlan>,
    /// Present when the pod's containers are confined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<Sandbox>,
    /// What all processes of a pod without a sandbox may use; `None`: they are in no control group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<Resources>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerPlan {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The image as the manifest wrote it, for messages.
    pub(crate) image: String,
    pub(crate) launch: Launch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) post_start: Option<Hook>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pre_stop: Option<Hook>,
    /// A signal number; that of the image when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<i32>,
    /// The agent reports when the startup probe has passed; without one a running container counts as started.
    #[serde(default)]
    pub(crate) startup_probe: bool,
    /// Its own restart policy, over that of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restart_policy: Option<RestartPolicy>,
    /// Exit codes that it is started again after, whatever its policy says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) restart_after: Vec<ExitCodes>,
    /// The file a process may leave its last words in.
    pub(crate) termination_file: PathBuf,
    /// `FallbackToLogsOnError`: without last words, a failed container's log tail stands in for them.
    #[serde(default)]
    pub(crate) termination_from_logs: bool,
    /// Its stdin stays open for whoever attaches, instead of being empty.
    #[serde(default)]
    pub(crate) stdin: bool,
    /// Its stdin ends with the first who attaches.
    #[serde(default)]
    pub(crate) stdin_once: bool,
    /// Its streams are a terminal.
    #[serde(default)]
    pub(crate) tty: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Runs to success before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: must be started before the next one, and outlives the app containers.
    Sidecar,
    App,
}

/// Some exit codes, or all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ExitCodes {
    In(Vec<i32>),
    NotIn(Vec<i32>),
}

impl ExitCodes {
    pub(crate) fn contains(&self, code: i32) -> bool {
        match self {
            Self::In(codes) => codes.contains(&code),
            Self::NotIn(codes) => !codes.contains(&code),
        }
    }
}

/// How a container is started, or why it cannot be yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Launch {
    Ready(Command),
    Withheld { reason: String, message: String },
}

/// A process, with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Command {
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) dir: PathBuf,
    /// Its image was pulled for it, which whoever pulled it has told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) pulled: bool,
    /// The signal that its image wants to be stopped by; SIGTERM when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) confinement: Option<Box<Confinement>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bounds: Option<Box<Bounds>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Hook {
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
