//! The seam through which `pods/exec`, `pods/attach` and `pods/portforward` reach whoever runs the pods.

use std::pin::Pin;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

/// What a session is to be; names as in the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionOptions {
    pub container: String,
    /// What to run; without, the container's own process is meant.
    pub command: Option<Vec<String>>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u16,
    pub height: u16,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Exited(i32),
    /// There is no exit code to tell; the text says why.
    Failed(String),
}

pub type StreamReader = Box<dyn AsyncRead + Send + Unpin>;
pub type StreamWriter = Box<dyn AsyncWrite + Send + Unpin>;
pub type Resize = Box<dyn Fn(Size) + Send + Sync>;
pub type StreamFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Streams of something that runs. Dropping it is going away.
pub struct Session {
    pub stdin: Option<StreamWriter>,
    pub stdout: Option<StreamReader>,
    pub stderr: Option<StreamReader>,
    /// Where there is a terminal.
    pub resize: Option<Resize>,
    pub ended: StreamFuture<'static, Ending>,
}

/// A connection to a port of a pod.
pub type PortStream = Box<dyn Port>;

/// Bytes both ways.
pub trait Port: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Port for T {}

/// Why there is no session, or no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The container does not run now.
    #[error("container not found ({0:?})")]
    NotRunning(String),
    #[error("{0}")]
    Failed(String),
}

/// Talks to the pods of this machine. `pod` is always the pod as the API has it, the container one of its own.
pub trait PodStreams: Send + Sync {
    /// Runs a command beside a container, or takes hold of what the container itself says and hears.
    fn open<'a>(
        &'a self,
        pod: &'a Value,
        options: &'a SessionOptions,
    ) -> StreamFuture<'a, Result<Session, StreamError>>;

    /// Connects to a port.
    fn connect<'a>(&'a self, pod: &'a Value, port: u16) -> StreamFuture<'a, Result<PortStream, StreamError>>;
}
