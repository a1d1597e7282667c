//! What agent and supervisor say to each other: one JSON object per line over the unix socket in the pod's directory.
//!
//! The supervisor greets with [`Message::Hello`]. Each [`Call`] gets one [`Message::Reply`] with its id. After
//! [`Request::Watch`] the whole [`PodState`] follows at once and on every change; states that the reader is too slow for are
//! skipped, the newest is always sent. [`Request::Run`] and [`Request::Attach`] open a session, which has the connection to
//! itself and ends with it. [`PodState`] is also what the supervisor keeps on disk, so that nothing is lost with it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plan::Launch;

/// The newest protocol this binary speaks. Two added what becomes of hooks to the state.
pub const WIRE_VERSION: u32 = 2;
/// Supervisors live as long as their pods: agents speak to those of three versions before.
pub const OLDEST_WIRE_VERSION: u32 = if WIRE_VERSION > 4 { WIRE_VERSION - 3 } else { 1 };
/// The longest line either side accepts.
pub const MAX_LINE_BYTES: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    pub id: u64,
    pub request: Request,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    Status,
    Watch,
    /// Ends the pod. A second one can only shorten the grace.
    Stop {
        grace_seconds: u64,
    },
    /// Ends one container, which its restart policy may then start again. Ignored if `id` is no longer what runs.
    End {
        container: String,
        id: String,
        grace_seconds: u64,
        /// The text of the `Killing` event.
        message: String,
    },
    /// The startup probe of this container has passed.
    Started {
        container: String,
        id: String,
    },
    /// How to start a container from now on.
    Provide {
        container: String,
        launch: Box<Launch>,
        /// The image behind it, when it is another one than before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    },
    /// Runs a command beside a running container, as an exec probe does.
    Exec {
        container: String,
        command: Vec<String>,
        timeout_ms: u64,
    },
    /// Runs a command beside a running container, with streams that are handed over.
    Run {
        container: String,
        command: Vec<String>,
        streams: Streams,
    },
    /// Hands over streams of a running container itself.
    Attach {
        container: String,
        streams: Streams,
    },
    /// Hands over a TCP socket of the pod's own network, to be connected; nothing where the pod is on the machine's.
    Socket {
        family: Family,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Family {
    V4,
    V6,
}

/// Which streams a session wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Streams {
    #[serde(default)]
    pub stdin: bool,
    #[serde(default)]
    pub stdout: bool,
    #[serde(default)]
    pub stderr: bool,
    /// For commands; whether a container has a terminal says its plan.
    #[serde(default)]
    pub tty: bool,
}

/// What a handed descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    Stdin,
    Stdout,
    Stderr,
    /// Takes input and sizes; gives output where no `Stdout` comes with it.
    Terminal,
    Socket,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Message {
    Hello { version: u32, pid: u32 },
    Reply { id: u64, outcome: Outcome },
    State { state: PodState },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Done,
    State(PodState),
    Exec(ExecOutcome),
    /// The descriptors come with this line, in this order. [`Outcome::Exec`] follows under the same id at the end.
    Opened {
        ends: Vec<End>,
    },
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExecOutcome {
    Exited {
        code: i32,
        output: String,
    },
    TimedOut,
    /// The command could not be run at all.
    Failed(String),
}

/// Everything that is known about the processes of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodState {
    /// Monotonic times and process ids mean something only under the same boot id.
    pub boot_id: String,
    /// Rises with every change.
    pub sequence: u64,
    /// Init containers are through; they are not run again.
    pub initialized: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopState>,
    /// Nothing runs and nothing will: the supervisor is gone or about to go.
    pub finished: bool,
    pub containers: Vec<ContainerState>,
    /// The newest things worth an event, oldest first, bounded.
    #[serde(default)]
    pub notices: Vec<Notice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopState {
    /// Milliseconds of the boot's monotonic clock.
    pub since_ms: u64,
    pub deadline_ms: u64,
    /// False when the pod ends by itself, because its app containers are done or its init containers failed.
    pub requested: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    pub name: String,
    /// Starts after the first one.
    pub restart_count: u32,
    /// Fast failures in a row, which the next back-off grows from.
    #[serde(default)]
    pub streak: u32,
    pub condition: Condition,
    /// What another supervisor needs beside the condition to go on where this one stopped.
    #[serde(default)]
    pub progress: Progress,
    /// How it ended the time before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Exit>,
}

/// What a container is in the middle of. Times are milliseconds of the boot's monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Since when it is being started: its process may be there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_since_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_since_ms: Option<u64>,
    /// Its postStart hook has not returned.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub post_start_pending: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// The hook that is at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookRun>,
}

/// A hook at work, which another supervisor goes on with instead of running it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookRun {
    pub since_ms: u64,
    /// Absent before it is known, and for hooks that are no command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Identity>,
}

/// What tells a process from all others of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub ticks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    pub until_ms: u64,
    pub delay_ms: u64,
}

/// A container on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    pub phase: Phase,
    pub deadline_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    PreStop,
    Signalled,
    Killed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Condition {
    Waiting {
        reason: String,
        message: String,
    },
    Running {
        id: String,
        pid: i32,
        /// The process's start time in clock ticks since boot, which tells it from a later one with the same id.
        #[serde(default)]
        ticks: u64,
        started_at: Timestamp,
        /// The startup probe passed, or there is none.
        started: bool,
    },
    Terminated(Exit),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    pub id: String,
    pub restart_count: u32,
    pub code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

/// Something worth an event on the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Rises by one, so that the agent tells what it has already published.
    pub number: u64,
    pub container: String,
    pub reason: String,
    pub message: String,
    pub warning: bool,
    pub at: Timestamp,
}

impl PodState {
    pub fn container(&self, name: &str) -> Option<&ContainerState> {
        self.containers.iter().find(|state| state.name == name)
    }
}

impl ContainerState {
    /// The id and start of the process that runs now.
    pub fn running(&self) -> Option<(&str, Timestamp)> {
        match &self.condition {
            Condition::Running { id, started_at, .. } => Some((id, *started_at)),
            Condition::Waiting { .. } | Condition::Terminated(_) => None,
        }
    }
}
