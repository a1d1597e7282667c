//! The agent's end of a supervisor: starts one, connects to it, calls it, follows its state.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use sluice_pod::{
    pod_dir::{PodDir, SOCKET, append_private},
    wire::{Call, ExecOutcome, MAX_LINE_BYTES, Message, OLDEST_WIRE_VERSION, Outcome, PodState, Request, WIRE_VERSION},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};

use super::pulse;

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
    #[error(
        "the pod's supervisor speaks protocol {theirs}, this engine {OLDEST_WIRE_VERSION} to {WIRE_VERSION}: start an engine of \
         the supervisor's version, or delete the pod"
    )]
    Foreign { theirs: u32 },
}

/// A connection to one supervisor; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    calls: mpsc::Sender<(Request, oneshot::Sender<Outcome>)>,
    /// The newest state; closed when the supervisor is gone.
    state: watch::Receiver<Arc<PodState>>,
    dir: PodDir,
}

impl Link {
    /// Starts a supervisor over the plan in `dir`, with a network made ahead, and returns once it takes connections.
    pub(super) async fn start(exe: PathBuf, dir: PodDir, network: Option<fs::File>) -> Result<Self, LinkError> {
        let started = tokio::task::spawn_blocking({
            let dir = dir.clone();
            move || launch(&exe, &dir, network)
        });
        started.await.map_err(|error| LinkError::Start(error.to_string()))??;
        Self::connect(&dir).await
    }

    /// Connects to the supervisor that runs over `dir`.
    pub(super) async fn connect(dir: &PodDir) -> Result<Self, LinkError> {
        // While a supervisor is being replaced its socket is there, and nobody answers yet.
        pulse::answered(dir, CALL_TIMEOUT, Self::greet(dir)).await.map_err(|pulse::Silent| LinkError::Silent)?
    }

    async fn greet(dir: &PodDir) -> Result<Self, LinkError> {
        let stream = open(dir).await.map_err(LinkError::Connect)?;
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read);
        match next(&mut lines).await.ok_or(LinkError::Gone)? {
            Message::Hello { version: OLDEST_WIRE_VERSION..=WIRE_VERSION, .. } => {}
            Message::Hello { version: theirs, .. } => return Err(LinkError::Foreign { theirs }),
            Message::Reply { .. } | Message::State { .. } => return Err(LinkError::Gone),
        }
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
        Ok(Self { calls, state, dir: dir.clone() })
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
        match pulse::answered(&self.dir, patience, outcome).await {
            Ok(Ok(Outcome::Refused(why))) => Err(LinkError::Refused(why)),
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) => Err(LinkError::Gone),
            Err(pulse::Silent) => Err(LinkError::Silent),
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

fn launch(exe: &Path, dir: &PodDir, network: Option<fs::File>) -> Result<(), LinkError> {
    let start = |error: io::Error| LinkError::Start(error.to_string());
    let log = append_private(&dir.supervisor_log())
        .map_err(|error| LinkError::Start(format!("cannot write `{}`: {error}", dir.supervisor_log().display())))?;
    let status = Command::new(exe)
        .arg("pod-supervisor")
        .arg(dir.path())
        .stdin(network.map_or_else(Stdio::null, Stdio::from))
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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, Write as _},
        os::unix::net::UnixListener,
        thread,
    };

    use serde_json::{Value, json};

    use super::*;
    use sluice_pod::wire::{Condition, Streams};

    /// As the supervisors of all versions that we speak to have talked.
    const CONVERSATIONS: [(u32, &str); (WIRE_VERSION - OLDEST_WIRE_VERSION + 1) as usize] = [
        (1, include_str!("../../../pod/tests/golden/wire-1.jsonl")),
        (2, include_str!("../../../pod/tests/golden/wire-2.jsonl")),
    ];

    /// A supervisor that answers as a recorded one did, each call by what was asked.
    fn replay(dir: &PodDir, conversation: &'static str, version: Option<u32>) {
        let listener = UnixListener::bind(dir.socket()).expect("a socket");
        thread::spawn(move || {
            let lines: Vec<Value> =
                conversation.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let (stream, _) = listener.accept().expect("an agent");
            let mut heard = std::io::BufReader::new(stream.try_clone().expect("a socket")).lines();
            let say = |message: &Value| writeln!(&stream, "{message}").expect("an agent that listens");
            let mut hello = lines[0]["supervisor"].clone();
            hello["version"] = version.map_or(hello["version"].take(), Value::from);
            say(&hello);
            while let Some(Ok(line)) = heard.next() {
                let call: Value = serde_json::from_str(&line).expect("JSON");
                let recorded = lines.iter().position(|line| line["agent"]["request"] == call["request"]);
                let at = recorded.unwrap_or_else(|| panic!("nobody has ever said `{call}`"));
                let id = &lines[at]["agent"]["id"];
                let answer = lines[at..].iter().find(|line| line["supervisor"]["id"] == *id).expect("an answer");
                say(&json!({"message": "reply", "id": call["id"], "outcome": answer["supervisor"]["outcome"]}));
                let state = lines[at..].iter().find(|line| line["supervisor"]["message"] == "state").expect("a state");
                say(&state["supervisor"]);
            }
        });
    }

    fn directory() -> (tempfile::TempDir, PodDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let dir = PodDir::new(directory.path());
        (directory, dir)
    }

    #[tokio::test]
    async fn supervisors_of_earlier_versions_are_driven() {
        for (version, conversation) in CONVERSATIONS {
            let (_directory, dir) = directory();
            replay(&dir, conversation, None);
            let mut link = Link::connect(&dir).await.unwrap_or_else(|error| panic!("protocol {version}: {error}"));
            let main = link.state().container("main").cloned().expect("a container");
            assert!(matches!(main.condition, Condition::Running { started: true, .. }), "protocol {version}: {main:?}");
            let outcome = link.exec("main", &["echo".to_owned(), "hi".to_owned()], Duration::from_secs(5)).await;
            assert_eq!(outcome, ExecOutcome::Exited { code: 0, output: "hi\n".to_owned() }, "protocol {version}");
            let streams = Streams { stdin: true, stdout: true, stderr: false, tty: false };
            let refused = link.call(Request::Attach { container: "none".to_owned(), streams }).await;
            assert!(matches!(refused, Err(LinkError::Refused(_))), "protocol {version}: {refused:?}");
            let done = link.call(Request::Stop { grace_seconds: 2 }).await;
            assert!(matches!(done, Ok(Outcome::Done)), "protocol {version}: {done:?}");
            while link.state().stop.is_none() {
                link.changed().await.expect("a state");
            }
        }
    }

    #[tokio::test]
    async fn a_supervisor_of_a_later_version_is_left_alone() {
        let (_directory, dir) = directory();
        replay(&dir, CONVERSATIONS[0].1, Some(WIRE_VERSION + 1));
        let error = Link::connect(&dir).await.expect_err("nobody knows what it will say");
        assert_eq!(
            error.to_string(),
            "the pod's supervisor speaks protocol 3, this engine 1 to 2: start an engine of the supervisor's version, or \
             delete the pod"
        );
    }
}
