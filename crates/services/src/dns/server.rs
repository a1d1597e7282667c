//! The sockets of the DNS.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Outcome, Partial, Transport, answer, completed, failure};
use super::names::Names;
use super::upstream::Upstream;

/// Questions that wait for other resolvers at a time; the next ones are told that it failed.
const MAX_FORWARDED: usize = 256;
const MAX_CONNECTIONS: usize = 128;
/// A connection that says nothing this long is closed.
const IDLE: Duration = Duration::from_secs(10);
const MAX_UDP_BYTES: usize = 4_096;
/// A port may be free for UDP and taken for TCP.
const BIND_ATTEMPTS: u32 = 8;

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}`")]
pub struct DnsError {
    pub address: SocketAddr,
    pub source: io::Error,
}

/// Both sockets, of one address and port.
#[derive(Debug)]
pub struct DnsListener {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl DnsListener {
    /// Port 0 takes any that is free.
    pub async fn bind(address: SocketAddr) -> Result<Self, DnsError> {
        let mut failed = None;
        for _ in 0..BIND_ATTEMPTS {
            match Self::try_bind(address).await {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = Some(error),
            }
            if address.port() != 0 {
                break;
            }
        }
        let source = failed.expect("there was an attempt");
        Err(DnsError { address, source })
    }

    async fn try_bind(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        let address = udp.local_addr()?;
        Ok(Self { address, udp, tcp: TcpListener::bind(address).await? })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, names: Arc<ArcSwap<Names>>, resolv_conf: PathBuf) {
        let upstream = Upstream { resolv_conf, own: self.address };
        let desk = Arc::new(Desk { names, upstream, forwarded: Semaphore::new(MAX_FORWARDED) });
        tokio::join!(serve_udp(Arc::new(self.udp), Arc::clone(&desk)), serve_tcp(self.tcp, desk));
    }
}

#[derive(Debug)]
struct Desk {
    names: Arc<ArcSwap<Names>>,
    upstream: Upstream,
    forwarded: Semaphore,
}

/// What is left to do when the table does not say it all.
enum Rest {
    Forward,
    Complete(Box<Partial>),
}

impl Desk {
    /// Who waits for others is not in anybody's way.
    async fn finish(&self, question: &[u8], rest: Rest, transport: Transport) -> Option<Vec<u8>> {
        let Ok(_permit) = self.forwarded.try_acquire() else { return failure(question) };
        match rest {
            Rest::Forward => self.upstream.ask(question, transport).await.or_else(|| failure(question)),
            Rest::Complete(partial) => {
                let elsewhere = self.upstream.ask(&partial.question, transport).await;
                Some(completed(*partial, elsewhere.as_deref()))
            }
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, desk: Arc<Desk>) {
    let mut buffer = vec![0; MAX_UDP_BYTES];
    let mut waiting = JoinSet::new();
    loop {
        while waiting.try_join_next().is_some() {}
        // An error is about an earlier answer that nobody took.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let question = &buffer[..length];
        let rest = match answer(&desk.names.load(), question, Transport::Udp) {
            Outcome::Drop => continue,
            Outcome::Reply(reply) => {
                let _gone = socket.send_to(&reply, client).await;
                continue;
            }
            Outcome::Forward => Rest::Forward,
            Outcome::Complete(partial) => Rest::Complete(partial),
        };
        let (socket, desk, question) = (Arc::clone(&socket), Arc::clone(&desk), question.to_vec());
        waiting.spawn(async move {
            if let Some(reply) = desk.finish(&question, rest, Transport::Udp).await {
                let _gone = socket.send_to(&reply, client).await;
            }
        });
    }
}

async fn serve_tcp(listener: TcpListener, desk: Arc<Desk>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others must finish first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        connections.spawn(async move {
            let _ended = converse(stream, &desk).await;
            drop(permit);
        });
    }
}

async fn converse(mut stream: TcpStream, desk: &Desk) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut question)).await??;
        let outcome = answer(&desk.names.load(), &question, Transport::Tcp);
        let reply = match outcome {
            Outcome::Drop => None,
            Outcome::Reply(reply) => Some(reply),
            Outcome::Forward => desk.finish(&question, Rest::Forward, Transport::Tcp).await,
            Outcome::Complete(partial) => desk.finish(&question, Rest::Complete(partial), Transport::Tcp).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &reply].concat())).await??;
    }
}
