//! One worker's connections to backends, kept by pod identity: a new pod on an old address never inherits a connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sluice_route::{Endpoint, PodId};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answer::Reason;
use super::body::RequestBody;
use super::limits;

pub(crate) type Sender = http1::SendRequest<RequestBody>;

#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<(PodId, SocketAddr), Vec<Idle>>>,
}

struct Idle {
    sender: Sender,
    since: Instant,
}

impl Pool {
    /// The connection that was used last, if it is still open.
    pub(crate) fn take(&self, endpoint: &Endpoint) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&(endpoint.pod, endpoint.address))?;
        kept.retain(|connection| !connection.sender.is_closed());
        // One that still finishes its last exchange is left for later.
        let ready = kept.iter().rposition(|connection| connection.sender.is_ready())?;
        Some(kept.remove(ready).sender)
    }

    pub(crate) fn put(&self, pod: PodId, address: SocketAddr, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry((pod, address)).or_default();
        if kept.len() < limits::IDLE_PER_ENDPOINT {
            kept.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Closes the idle connections to all other pods.
    pub(crate) fn keep(&self, served: impl Fn(PodId) -> bool) {
        self.idle.borrow_mut().retain(|(pod, _), _| served(*pod));
    }

    /// Closes connections before their backend gets tired of them.
    pub(crate) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| !idle.sender.is_closed() && now.duration_since(idle.since) < limits::UPSTREAM_IDLE);
            !kept.is_empty()
        });
    }
}

/// A new connection, driven by a task of this worker.
pub(crate) async fn connect(address: SocketAddr) -> Result<Sender, Reason> {
    let opened = async {
        let stream = TcpStream::connect(address).await.map_err(|_| Reason::ConnectFailed)?;
        // Refused only by sockets that are broken already, which the first write will tell.
        let _ = stream.set_nodelay(true);
        let mut builder = http1::Builder::new();
        builder.max_headers(limits::HEADERS).max_buf_size(limits::HEAD_BYTES);
        builder.handshake(TokioIo::new(stream)).await.map_err(|_| Reason::ConnectFailed)
    };
    let (sender, connection) = timeout(limits::CONNECT, opened).await.map_err(|_| Reason::ConnectTimeout)??;
    tokio::task::spawn_local(async move {
        // Whoever waits for an answer is told as well; idle connections may close as they like.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}
