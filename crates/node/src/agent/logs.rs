//! `kubectl logs`: reads the CRI log files that the supervisors write, across rotations.
//!
//! Works on files alone, so it needs neither the API nor a running agent.

mod reading;

use std::{
    io,
    path::{Path, PathBuf},
    pin::Pin,
};

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use sluice_pod::pod_dir::{PodDir, read_json};
use sluice_pod::wire::{Condition, PodState};

use super::options::pod_log_dir;
use reading::{Ahead, Reading};

/// Chunks that wait for a slow reader.
const MAX_CHUNKS: usize = 16;

/// Whose logs.
#[derive(Debug, Clone)]
pub struct LogTarget {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub container: String,
}

/// The query of `pods/log`.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub follow: bool,
    /// The container's run before the present one.
    pub previous: bool,
    pub timestamps: bool,
    pub since: Option<Timestamp>,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// `stdout` or `stderr` alone.
    pub only: Option<LogSource>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    Stdout,
    Stderr,
}

/// Why there is no log; the texts are those that `kubectl` users know.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious { container: String, pod: String },
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: {reason}")]
    NotStarted { container: String, pod: String, reason: String },
    #[error("cannot read the logs of container \"{container}\"")]
    Read { container: String, source: io::Error },
}

/// Text without CRI framing. When following, it goes on with the next start of a container that is started again, and ends with
/// its last.
pub type LogStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Reads the logs of the pods of one data directory.
#[derive(Debug, Clone)]
pub struct LogReader {
    pods_dir: PathBuf,
    logs_dir: PathBuf,
}

impl LogReader {
    /// `data_dir` is that of the agent's options; nothing has to be there yet.
    pub fn new(data_dir: impl AsRef<Path>) -> Self {
        let data_dir = data_dir.as_ref();
        Self { pods_dir: data_dir.join("pods"), logs_dir: data_dir.join("logs") }
    }

    /// Opens the log of the container's present run, or of the one before.
    pub async fn open(&self, target: &LogTarget, options: LogOptions) -> Result<LogStream, LogError> {
        let start = self.start(target, options.previous)?;
        let directory =
            pod_log_dir(&self.logs_dir, &target.namespace, &target.pod, &target.uid).join(&target.container);
        let (pods_dir, watched) = (self.pods_dir.clone(), target.clone());
        let ahead = move |start| ahead(saved(&pods_dir, &watched.uid).as_ref(), &watched.container, start);
        // Nobody waits for a container that does not run, though it may be started again some time.
        let state = saved(&self.pods_dir, &target.uid);
        let follow = options.follow && state.is_some_and(|state| runs(&state, &target.container, start));
        let mut reading = Reading::new(directory, start, &LogOptions { follow, ..options }, ahead);
        let (send, mut receive) = tokio::sync::mpsc::channel(MAX_CHUNKS);
        tokio::spawn(async move { reading.run(&send).await });
        Ok(Box::pin(futures::stream::poll_fn(move |context| receive.poll_recv(context))))
    }

    /// The number of the start that is asked for.
    fn start(&self, target: &LogTarget, previous: bool) -> Result<u32, LogError> {
        let (container, pod) = (target.container.clone(), target.pod.clone());
        let state = saved(&self.pods_dir, &target.uid);
        let never = |reason: &str| match previous {
            true => LogError::NoPrevious { container: container.clone(), pod: pod.clone() },
            false => LogError::NotStarted { container: container.clone(), pod: pod.clone(), reason: plainly(reason) },
        };
        let Some(state) = state.as_ref().and_then(|state| state.container(&target.container)) else {
            return Err(never("ContainerCreating"));
        };
        match &state.condition {
            Condition::Waiting { reason, .. } if state.last.is_none() => Err(never(reason)),
            // Between two starts the last one is the previous one and the present one alike.
            Condition::Waiting { .. } => Ok(state.restart_count),
            _ if !previous => Ok(state.restart_count),
            _ => state.restart_count.checked_sub(1).ok_or_else(|| never("")),
        }
    }
}

/// A kubelet has words for the reasons that are met most.
fn plainly(reason: &str) -> String {
    match reason {
        "ErrImagePull" => "image can't be pulled".to_owned(),
        "ImagePullBackOff" => "trying and failing to pull image".to_owned(),
        other => other.to_owned(),
    }
}

fn saved(pods_dir: &Path, uid: &str) -> Option<PodState> {
    read_json(&PodDir::new(pods_dir.join(uid)).state()).ok().flatten()
}

/// What comes after everything that the log of one start holds.
fn ahead(state: Option<&PodState>, container: &str, start: u32) -> Ahead {
    let Some(container) = state.and_then(|state| state.container(container)) else { return Ahead::Nothing };
    match container.condition {
        _ if container.restart_count > start => Ahead::Start(start + 1),
        Condition::Running { .. } | Condition::Waiting { .. } => Ahead::More,
        Condition::Terminated(_) => Ahead::Nothing,
    }
}

fn runs(state: &PodState, container: &str, start: u32) -> bool {
    let container = state.container(container);
    container.is_some_and(|container| container.restart_count == start && container.running().is_some())
}
