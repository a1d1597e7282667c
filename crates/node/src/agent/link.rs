//! The agent's end of a supervisor: starts one, connects to it, calls it, follows its state.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};

use crate::{
    pod_dir::{PodDir, SOCKET, append_private},
    wire::{Call, ExecOutcome, MAX_LINE_BYTES, Message, Outcome, PodState, Request},
};

/// Calls that wait to be sent.
const MAX_WAITING: usize = 64;
/// Calls sent since the last answer.
const MAX_UNANSWERED: usize = 256;
/// A supervisor does nothing slow before it answers, exec probes aside, and those bring their own limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("cannot start a supervisor: {0}")]
    Start(String),
    #[error("cannot reach the supervisor")]
    Connect(#[source] io::Error),
    #[error("the supervisor is gone")]
    Gone,
    #[error("the supervisor does not answer")]
    Silent,
    #[error("the supervisor refused: {0}")]
    Refused(String),
}

/// A connection to one supervisor; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    calls: mpsc::Sender<(Request, oneshot::Sender<Outcome>)>,
    /// The newest state; closed when the supervisor is gone.
    state: watch::Receiver<Arc<PodState>>,
}

impl Link {
    /// Starts a supervisor over the plan in `dir` and returns once it takes connections.
    pub(super) async fn start(exe: PathBuf, dir: PodDir) -> Result<Self, LinkError> {
        let started = tokio::task::spawn_blocking({
            let dir = dir.clone();
            move || launch(&exe, &dir)
        });
        started.await.map_err(|error| LinkError::Start(error.to_string()))??;
        Self::connect(&dir).await
    }

    /// Connects to the supervisor that runs over `dir`.
    pub(super) async fn connect(dir: &PodDir) -> Result<Self, LinkError> {
        // While a supervisor is being replaced its socket is there, and nobody answers yet.
        tokio::time::timeout(CALL_TIMEOUT, Self::greet(dir)).await.map_err(|_| LinkError::Silent)?
    }

    async fn greet(dir: &PodDir) -> Result<Self, LinkError> {
        let stream = open(dir).await.map_err(LinkError::Connect)?;
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read);
        next(&mut lines).await.ok_or(LinkError::Gone)?;
        send(&mut write, &Call { id: 0, request: Request::Watch }).await.map_err(LinkError::Connect)?;
        let first = loop {
            match next(&mut lines).await.ok_or(LinkError::Gone)? {
                Message::State { state } => break state,
                Message::Hello { .. } | Message::Reply { .. } => {}
            }
        };
        let (publish, state) = watch::channel(Arc::new(first));
        let (calls, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(converse(lines, write, waiting, publish));
        Ok(Self { calls, state })
    }

    pub(super) fn state(&self) -> Arc<PodState> {
        self.state.borrow().clone()
    }

    /// Waits for another state; `Gone` when there will be none.
    pub(super) async fn changed(&mut self) -> Result<(), LinkError> {
        self.state.changed().await.map_err(|_| LinkError::Gone)
    }

    pub(super) async fn call(&self, request: Request) -> Result<Outcome, LinkError> {
        let patience = match &request {
            Request::Exec { timeout_ms, .. } => CALL_TIMEOUT + Duration::from_millis(*timeout_ms),
            _ => CALL_TIMEOUT,
        };
        let (answer, outcome) = oneshot::channel();
        self.calls.send((request, answer)).await.map_err(|_| LinkError::Gone)?;
        match tokio::time::timeout(patience, outcome).await {
            Ok(Ok(Outcome::Refused(why))) => Err(LinkError::Refused(why)),
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(LinkError::Gone),
            Err(_) => Err(LinkError::Silent),
        }
    }

    pub(super) async fn exec(&self, container: &str, command: &[String], timeout: Duration) -> ExecOutcome {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Exec { container: container.to_owned(), command: command.to_vec(), timeout_ms };
        match self.call(request).await {
            Ok(Outcome::Exec(outcome)) => outcome,
            Ok(_) => ExecOutcome::Failed("an answer of the wrong kind".to_owned()),
            Err(error) => ExecOutcome::Failed(error.to_string()),
        }
    }
}

fn launch(exe: &Path, dir: &PodDir) -> Result<(), LinkError> {
    let start = |error: io::Error| LinkError::Start(error.to_string());
    let log = append_private(&dir.supervisor_log()).map_err(start)?;
    let status = Command::new(exe)
        .arg("pod-supervisor")
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .map_err(start)?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(dir.supervisor_log()).unwrap_or_default();
    Err(LinkError::Start(said.lines().last().unwrap_or("it says nothing").to_owned()))
}

/// Socket paths hold about a hundred bytes, data directories any number: goes by way of an open directory where needed.
pub(super) async fn open(dir: &PodDir) -> io::Result<UnixStream> {
    const MAX_SOCKET_PATH: usize = 100;
    let path = dir.socket();
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return UnixStream::connect(path).await;
    }
    let directory = fs::File::open(dir.path())?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    UnixStream::connect(format!("/proc/self/fd/{number}/{SOCKET}")).await
}

async fn converse(
    mut lines: BufReader<tokio::net::unix::OwnedReadHalf>,
    mut write: tokio::net::unix::OwnedWriteHalf,
    mut waiting: mpsc::Receiver<(Request, oneshot::Sender<Outcome>)>,
    publish: watch::Sender<Arc<PodState>>,
) {
    let (answers, mut sent) = mpsc::channel::<(u64, oneshot::Sender<Outcome>)>(MAX_UNANSWERED);
    let writer = async move {
        let mut id = 0;
        while let Some((request, answer)) = waiting.recv().await {
            id += 1;
            if answers.send((id, answer)).await.is_err() || send(&mut write, &Call { id, request }).await.is_err() {
                return;
            }
        }
    };
    let reader = async move {
        let mut open = std::collections::BTreeMap::new();
        while let Some(message) = next(&mut lines).await {
            match message {
                Message::Hello { .. } => {}
                Message::State { state } => drop(publish.send_replace(Arc::new(state))),
                Message::Reply { id, outcome } => {
                    while let Ok((id, answer)) = sent.try_recv() {
                        open.insert(id, answer);
                    }
                    // Whoever asked may have given up.
                    let _nobody = open.remove(&id).map(|answer| answer.send(outcome));
                }
            }
        }
    };
    // Either end of the connection is the end of both.
    tokio::select! {
        () = writer => {}
        () = reader => {}
    }
}

async fn send(write: &mut (impl tokio::io::AsyncWrite + Unpin), call: &Call) -> io::Result<()> {
    let mut line = serde_json::to_vec(call)?;
    line.push(b'\n');
    write.write_all(&line).await
}

async fn next(lines: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Message> {
    let mut line = Vec::new();
    let length =
        tokio::io::AsyncReadExt::take(&mut *lines, MAX_LINE_BYTES as u64).read_until(b'\n', &mut line).await.ok()?;
    if length == 0 {
        return None;
    }
    serde_json::from_slice(&line).ok()
}
