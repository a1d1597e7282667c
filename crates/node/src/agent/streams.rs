//! `kubectl exec` and `attach`: sessions with what runs in a pod, by way of its supervisor.
//!
//! Works on the pod's directory alone, as logs do. The supervisor hands over descriptors; from then on bytes flow between the
//! process and whoever holds a [`Streams`], and the supervisor's connection tells how it ended.

use std::{
    future::Future,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use sluice_pod::{
    pod_dir::PodDir,
    wire::{self, Call, End, ExecOutcome, Family, MAX_LINE_BYTES, Message, Outcome, Request},
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _, Interest, ReadBuf},
    net::{TcpSocket, TcpStream, UnixStream, unix::pipe},
};

use super::link;

/// Three streams, or a terminal and its output.
const MAX_ENDS: usize = 3;
const READ_BYTES: usize = 8 << 10;
/// How long a port may take to answer.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The only call on a session's connection.
const CALL: u64 = 1;

/// What a session is to be.
#[derive(Debug, Clone, Default)]
pub struct StreamWish {
    /// What to run; without, the container's own process is meant.
    pub command: Option<Vec<String>>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// Streams of something that runs. Dropping them is going away: a command sees its input end, or its terminal hang up.
pub struct Streams {
    /// Only letting go of it ends it.
    pub stdin: Option<pipe::Sender>,
    pub stdout: Option<StreamSource>,
    pub stderr: Option<StreamSource>,
    /// Takes sizes.
    pub terminal: Option<TerminalSize>,
    pub ended: Pin<Box<dyn Future<Output = Ended> + Send>>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    /// The supervisor is gone, and with it what ran.
    Lost,
}

/// What a process says, on a pipe or on its terminal.
#[derive(Debug)]
pub struct StreamSource(pipe::Receiver);

/// A terminal whose size can be set.
#[derive(Debug)]
pub struct TerminalSize(OwnedFd);

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("container `{container}` does not run")]
    NotRunning { container: String },
    /// The supervisor could not do it, and says why.
    #[error("{0}")]
    Failed(String),
    #[error("the pod's supervisor is of an older version, which opens no streams; a new pod gets a new one")]
    Older,
    #[error("lost the supervisor: {0}")]
    Connection(#[from] io::Error),
}

/// Opens sessions with the pods of one data directory.
#[derive(Debug, Clone)]
pub struct StreamOpener {
    pods_dir: PathBuf,
}

impl StreamOpener {
    /// `data_dir` is that of the agent's options; nothing has to be there yet.
    pub fn new(data_dir: impl AsRef<Path>) -> Self {
        Self { pods_dir: data_dir.as_ref().join("pods") }
    }

    /// Runs a command beside a container of the pod with this uid, or attaches to the container itself.
    pub async fn open(&self, uid: &str, container: &str, wish: StreamWish) -> Result<Streams, StreamError> {
        let StreamWish { command, stdin, stdout, stderr, tty } = wish;
        let (container, streams) = (container.to_owned(), wire::Streams { stdin, stdout, stderr, tty });
        let not_running = StreamError::NotRunning { container: container.clone() };
        let request = match command {
            Some(command) => Request::Run { container, command, streams },
            None => Request::Attach { container, streams },
        };
        // Without a supervisor there is no process either.
        let Ok(mut session) = self.session(uid).await else { return Err(not_running) };
        match session.call(request).await? {
            Outcome::Opened { ends } => session.streams(&ends),
            Outcome::Exec(ExecOutcome::Failed(why)) => Err(StreamError::Failed(why)),
            Outcome::Refused(why) if why.starts_with("not understood") => Err(StreamError::Older),
            Outcome::Refused(_) => Err(not_running),
            other => Err(StreamError::Failed(format!("an answer of the wrong kind: {other:?}"))),
        }
    }

    /// Connects to a port of the pod with this uid, where a kubelet looks for it: on its loopback.
    pub async fn connect(&self, uid: &str, address: IpAddr, port: u16) -> Result<TcpStream, StreamError> {
        let mut refusals = Vec::new();
        for (socket, ip) in self.ways(uid, address).await? {
            let target = SocketAddr::new(ip, port);
            match tokio::time::timeout(CONNECT_TIME, socket.connect(target)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => refusals.push(format!("{target}: {error}")),
                Err(_) => refusals.push(format!("{target}: timed out")),
            }
        }
        Err(StreamError::Failed(format!("failed to connect to {}", refusals.join(", "))))
    }

    /// Sockets, and where each may find a port of the pod, in order.
    async fn ways(&self, uid: &str, address: IpAddr) -> Result<Vec<(TcpSocket, IpAddr)>, StreamError> {
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
        let mut ways = Vec::new();
        for (family, loopback) in [(Family::V4, v4), (Family::V6, v6)] {
            if let Some(socket) = self.socket(uid, family).await? {
                ways.push((socket, loopback));
            }
        }
        if ways.is_empty() {
            // The machine's loopback is that of a pod on the machine's network, unless the pod has its own address there.
            for ip in [v4, v6].into_iter().filter(|_| !address.is_loopback()).chain([address]) {
                ways.push((if ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? }, ip));
            }
        }
        Ok(ways)
    }

    /// A socket in the pod's own network, if it has one.
    async fn socket(&self, uid: &str, family: Family) -> Result<Option<TcpSocket>, StreamError> {
        let stopped = |_| StreamError::Failed("the pod does not run".to_owned());
        let mut session = self.session(uid).await.map_err(stopped)?;
        match session.call(Request::Socket { family }).await? {
            Outcome::Opened { .. } => Ok(session.handed.pop().map(|socket| TcpSocket::from_std_stream(socket.into()))),
            // An older supervisor, or a kernel without IPv6: its address is tried.
            Outcome::Refused(_) | Outcome::Exec(ExecOutcome::Failed(_)) => Ok(None),
            other => Err(StreamError::Failed(format!("an answer of the wrong kind: {other:?}"))),
        }
    }

    async fn session(&self, uid: &str) -> io::Result<Session> {
        let stream = link::open(&PodDir::new(self.pods_dir.join(uid))).await?;
        Ok(Session { stream, buffer: Vec::new(), handed: Vec::new() })
    }
}

/// A connection to a supervisor of which descriptors may come.
struct Session {
    stream: UnixStream,
    buffer: Vec<u8>,
    handed: Vec<OwnedFd>,
}

impl Session {
    /// Makes our call; the first answer to it.
    async fn call(&mut self, request: Request) -> io::Result<Outcome> {
        let mut line = serde_json::to_vec(&Call { id: CALL, request })?;
        line.push(b'\n');
        self.stream.write_all(&line).await?;
        self.outcome().await
    }

    /// The next answer to our call.
    async fn outcome(&mut self) -> io::Result<Outcome> {
        loop {
            if let Message::Reply { id: CALL, outcome } = self.next().await? {
                return Ok(outcome);
            }
        }
    }

    async fn next(&mut self) -> io::Result<Message> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line)?);
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(io::Error::other("the line is too long"));
            }
            let (bytes, handed) = self.stream.async_io(Interest::READABLE, || receive(&self.stream)).await?;
            if bytes.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend(bytes);
            self.handed.extend(handed);
        }
    }

    fn streams(mut self, names: &[End]) -> Result<Streams, StreamError> {
        if names.len() != self.handed.len() {
            return Err(StreamError::Failed(format!("{} ends came instead of {}", self.handed.len(), names.len())));
        }
        let mut ends: Vec<(End, OwnedFd)> = names.iter().copied().zip(self.handed.drain(..)).collect();
        let mut take = |name: End| {
            let place = ends.iter().position(|(candidate, _)| *candidate == name)?;
            Some(ends.swap_remove(place).1)
        };
        let (terminal, mut stdin, mut stdout) = (take(End::Terminal), take(End::Stdin), take(End::Stdout));
        if let Some(terminal) = &terminal {
            stdin = Some(terminal.try_clone()?);
            stdout = stdout.map_or_else(|| terminal.try_clone(), Ok).map(Some)?;
        }
        // A terminal is read and written as a pipe is.
        let source = |fd: Option<OwnedFd>| {
            fd.map(pipe::Receiver::from_owned_fd_unchecked).transpose().map(|pipe| pipe.map(StreamSource))
        };
        Ok(Streams {
            stdin: stdin.map(pipe::Sender::from_owned_fd_unchecked).transpose()?,
            stdout: source(stdout)?,
            stderr: source(take(End::Stderr))?,
            terminal: terminal.map(TerminalSize),
            ended: Box::pin(async move {
                match self.outcome().await {
                    Ok(Outcome::Exec(ExecOutcome::Exited { code, .. })) => Ended::Exited(code),
                    Ok(_) | Err(_) => Ended::Lost,
                }
            }),
        })
    }
}

/// What is there to be read now, with the descriptors that came along.
fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = vec![0; READ_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ENDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)?;
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::other("more descriptors came than a session has"));
    }
    let handed = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    buffer.truncate(got.bytes);
    Ok((buffer, handed))
}

impl TerminalSize {
    /// A terminal that has just gone takes no size any more.
    pub fn set(&self, columns: u16, rows: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _gone = rustix::termios::tcsetwinsize(&self.0, size);
    }
}

impl AsyncRead for StreamSource {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let hung_up = Some(rustix::io::Errno::IO.raw_os_error());
        Pin::new(&mut self.0).poll_read(context, buffer).map(|read| match read {
            // Nobody has the other side of the terminal open any more: that is its end.
            Err(error) if error.raw_os_error() == hung_up => Ok(()),
            other => other,
        })
    }
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("terminal", &self.terminal).finish_non_exhaustive()
    }
}
