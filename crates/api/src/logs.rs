//! The seam through which `pods/log` reaches whoever keeps the logs.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use serde_json::Value;

/// What a reader of logs asks for; names as in the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub container: String,
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub since_seconds: Option<u64>,
    /// RFC 3339.
    pub since_time: Option<String>,
    /// `All`, `Stdout` or `Stderr`; empty means all.
    pub stream: String,
}

/// Lines of a log, in chunks of any size. Following ones end with the container or the server.
pub type LogStream = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// Why there is no log; the text is the message of the answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The request cannot be met: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The container has no such log: 404.
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Internal(String),
}

/// Reads the logs of the pods of this machine.
pub trait PodLogs: Send + Sync {
    /// `pod` is the pod as the API has it; the container in `options` is one of its own.
    fn open<'a>(
        &'a self,
        pod: &'a Value,
        options: LogOptions,
    ) -> Pin<Box<dyn Future<Output = Result<LogStream, LogError>> + Send + 'a>>;
}
