//! `kubectl logs`: reads the CRI log files that the supervisors write, across restarts and rotations.

use std::{io, path::PathBuf, pin::Pin};

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;

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
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("previous terminated container \"{container}\" in pod \"{pod}\" not found")]
    NoPrevious { container: String, pod: String },
    #[error("container \"{container}\" in pod \"{pod}\" is waiting to start: no log has been written yet")]
    NotStarted { container: String, pod: String },
    #[error("cannot read the logs of container \"{container}\"")]
    Read { container: String, source: io::Error },
}

/// Text without CRI framing; ends when the log does, or never before the container is gone when following.
pub type LogStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

#[derive(Debug, Clone)]
pub struct LogReader {
    logs_dir: PathBuf,
}

impl LogReader {
    pub(crate) fn new(logs_dir: PathBuf) -> Self {
        Self { logs_dir }
    }
}
