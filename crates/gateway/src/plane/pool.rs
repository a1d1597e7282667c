//! One worker's connections to backends, kept by pod identity: a new pod on an old address never inherits a connection.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use sluice_route::{Endpoint, PodId};
use tokio::time::timeout;

use super::answer::Reason;
use super::body::RequestBody;
use super::limits;
use super::socket::Socket;

pub(crate) type Sender = http1::SendRequest<RequestBody>;

#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<(PodId, SocketAddr), Vec<Idle>>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A connection to a backend that can take one request at a time.
pub(crate) struct Connection {
    pub(crate) sender: Sender,
    socket: Socket,
}

/// How sure a connection must be before it is used again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// As far as we were told: the request can be made again if not.
    Told,
    /// The kernel is asked as well, for a request that cannot: a close may have arrived that nobody has read yet.
    Asked,
}

impl Pool {
    /// The connection that was used last, if it is still open.
    pub(crate) fn take(&self, endpoint: &Endpoint, trust: Trust) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&(endpoint.pod, endpoint.address))?;
        kept.retain(|idle| !idle.connection.sender.is_closed());
        // One that still finishes its last exchange is left for later.
        while let Some(ready) = kept.iter().rposition(|idle| idle.connection.sender.is_ready()) {
            let connection = kept.remove(ready).connection;
            if trust == Trust::Told || connection.socket.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    pub(crate) fn put(&self, endpoint: &Endpoint, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry((endpoint.pod, endpoint.address)).or_default();
        if kept.len() < limits::IDLE_PER_ENDPOINT {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes the idle connections to all other pods.
    pub(crate) fn keep(&self, served: impl Fn(PodId) -> bool) {
        self.idle.borrow_mut().retain(|(pod, _), _| served(*pod));
    }

    /// Closes connections before their backend gets tired of them.
    pub(crate) fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| {
                !idle.connection.sender.is_closed() && now.duration_since(idle.since) < limits::UPSTREAM_IDLE
            });
            !kept.is_empty()
        });
    }
}

/// A new connection, driven by a task of this worker.
pub(crate) async fn connect(address: SocketAddr) -> Result<Connection, Reason> {
    let opened = async {
        let stream = sluice_reach::connect(address).await.map_err(|_| Reason::ConnectFailed)?;
        // Refused only by sockets that are broken already, which the first write will tell.
        let _ = stream.set_nodelay(true);
        let socket = Socket::new(stream);
        let mut builder = http1::Builder::new();
        builder.max_headers(limits::HEADERS).max_buf_size(limits::HEAD_BYTES);
        let (sender, driver) =
            builder.handshake(TokioIo::new(socket.clone())).await.map_err(|_| Reason::ConnectFailed)?;
        Ok((Connection { sender, socket }, driver))
    };
    let (connection, driver) = timeout(limits::CONNECT, opened).await.map_err(|_| Reason::ConnectTimeout)??;
    tokio::task::spawn_local(async move {
        // Whoever waits for an answer is told as well; idle connections may close as they like.
        let _ = driver.with_upgrades().await;
    });
    Ok(connection)
}
