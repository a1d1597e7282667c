//! One worker's connections to backends, kept by pod identity: a new pod on an old address never inherits a connection.
//!
//! A connection of HTTP/1.1 belongs to one request at a time and lies here in between. One of HTTP/2 stays here while it carries
//! many requests at once; each has a stream of it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use sluice_route::{Endpoint, PodId, Protocol};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::accept::OnThisThread;
use super::answer::Reason;
use super::body::RequestBody;
use super::limits;
use super::sieve::Sieve;
use super::socket::Socket;
use super::trust::{Secure, SecureKey};

/// Connections of one place can stand in for each other.
type Place = (PodId, SocketAddr, Option<SecureKey>);

#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<Place, Vec<Idle>>>,
    shared: RefCell<HashMap<Place, Vec<Rc<Shared>>>>,
}

struct Idle {
    connection: Exclusive,
    since: Instant,
}

/// A connection to a backend, or a part of one, that can take one request.
pub(crate) enum Connection {
    Exclusive(Exclusive),
    Stream(Stream),
}

/// One of HTTP/1.1.
pub(crate) struct Exclusive {
    place: Place,
    sender: http1::SendRequest<RequestBody>,
    socket: Socket,
}

/// One of HTTP/2.
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Cell<usize>,
    /// Its backend has said goodbye on it, or refused a request.
    worn: Cell<bool>,
    /// When its last stream ended.
    since: Cell<Instant>,
}

/// The place of one request on a shared connection.
pub(crate) struct Stream(Rc<Shared>);

/// How sure a connection must be before it is used again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// As far as we were told: the request can be made again if not.
    Told,
    /// The kernel is asked as well, for a request that cannot: a close may have arrived that nobody has read yet.
    Asked,
}

impl Pool {
    /// A connection that is still open and has room for a request.
    pub(crate) fn take(&self, endpoint: &Endpoint, secure: Option<&Secure>, trust: Trust) -> Option<Connection> {
        let place = place(endpoint, secure);
        match endpoint.protocol {
            Protocol::Http1 => self.take_idle(&place, trust).map(Connection::Exclusive),
            // Whoever says goodbye on such a connection also says which requests it has not touched.
            Protocol::Http2 => self.take_stream(&place).map(Connection::Stream),
        }
    }

    /// The connection that was used last.
    fn take_idle(&self, place: &Place, trust: Trust) -> Option<Exclusive> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(place)?;
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

    /// On the first connection with room, so that those that are not needed become idle.
    fn take_stream(&self, place: &Place) -> Option<Stream> {
        let mut shared = self.shared.borrow_mut();
        let kept = shared.get_mut(place)?;
        // One that is left out here closes with its last stream.
        kept.retain(|connection| !connection.sender.is_closed() && !connection.worn.get());
        kept.iter().find(|connection| connection.has_room()).map(Stream::new)
    }

    /// A new connection, driven by a task of this worker.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        secure: Option<&Secure>,
        limit: Duration,
    ) -> Result<Connection, Reason> {
        let opened = async {
            let stream = sluice_reach::connect(endpoint.address).await.map_err(|_| Reason::ConnectFailed)?;
            // Refused only by sockets that are broken already, which the first write will tell.
            let _ = stream.set_nodelay(true);
            let (socket, place) = (Socket::new(stream), place(endpoint, secure));
            let Some(secure) = secure else {
                return self.greet(endpoint.protocol, place, socket.clone(), socket).await;
            };
            let stream = secure.connect(socket.clone()).await.map_err(|error| {
                tracing::debug!(%error, address = %endpoint.address, "No TLS with a backend");
                Reason::BackendTls
            })?;
            self.greet(endpoint.protocol, place, stream, socket).await
        };
        timeout(limit, opened).await.map_err(|_| Reason::ConnectTimeout)?
    }

    /// Begins to speak HTTP on `stream`, which is `socket` or something around it.
    async fn greet(
        &self,
        protocol: Protocol,
        place: Place,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        socket: Socket,
    ) -> Result<Connection, Reason> {
        match protocol {
            Protocol::Http1 => {
                let sender = exclusive(stream).await.map_err(|_| Reason::ConnectFailed)?;
                Ok(Connection::Exclusive(Exclusive { place, sender, socket }))
            }
            Protocol::Http2 => {
                let connection = shared(stream).await.map_err(|_| Reason::ConnectFailed)?;
                let stream = Stream::new(&connection);
                self.shared.borrow_mut().entry(place).or_default().push(connection);
                Ok(Connection::Stream(stream))
            }
        }
    }

    /// After its exchange is over.
    pub(crate) fn put(&self, connection: Exclusive) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(connection.place).or_default();
        if kept.len() < limits::IDLE_PER_ENDPOINT {
            kept.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes the idle connections to all other pods; shared ones close with their last stream.
    pub(crate) fn keep(&self, served: impl Fn(PodId) -> bool) {
        self.idle.borrow_mut().retain(|(pod, _, _), _| served(*pod));
        self.shared.borrow_mut().retain(|(pod, _, _), _| served(*pod));
    }

    /// Closes connections before their backend gets tired of them.
    pub(crate) fn sweep(&self, now: Instant) {
        let fresh = |since: Instant| now.duration_since(since) < limits::UPSTREAM_IDLE;
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| !idle.connection.sender.is_closed() && fresh(idle.since));
            !kept.is_empty()
        });
        self.shared.borrow_mut().retain(|_, kept| {
            kept.retain(|shared| !shared.sender.is_closed() && (shared.streams.get() > 0 || fresh(shared.since.get())));
            !kept.is_empty()
        });
    }
}

impl Connection {
    /// Sends the request; an error gives it back where not a byte of it was written.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            Self::Exclusive(connection) => connection.sender.try_send_request(request).await,
            Self::Stream(stream) => stream.0.sender.clone().try_send_request(request).await,
        }
    }
}

impl Connection {
    /// No more requests are wanted on it.
    pub(crate) fn wear_out(&self) {
        if let Self::Stream(Stream(shared)) = self {
            shared.worn.set(true);
        }
    }
}

impl Exclusive {
    pub(crate) fn pod(&self) -> PodId {
        self.place.0
    }
}

impl Shared {
    fn has_room(&self) -> bool {
        self.sender.is_ready() && self.streams.get() < limits::STREAMS_PER_CONNECTION
    }
}

impl Stream {
    fn new(connection: &Rc<Shared>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self(connection.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.since.set(Instant::now());
    }
}

fn place(endpoint: &Endpoint, secure: Option<&Secure>) -> Place {
    (endpoint.pod, endpoint.address, secure.map(|secure| secure.key))
}

async fn exclusive(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> hyper::Result<http1::SendRequest<RequestBody>> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits::HEAD_BYTES);
    let (sender, driver) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(async move {
        // Whoever waits for an answer is told as well; idle connections may close as they like.
        let _ = driver.with_upgrades().await;
    });
    Ok(sender)
}

async fn shared(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> hyper::Result<Rc<Shared>> {
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(limits::HEAD_BYTES as u32)
        .keep_alive_interval(limits::PING)
        .keep_alive_timeout(limits::PONG);
    let (sender, driver) = builder.handshake(TokioIo::new(Sieve::new(stream))).await?;
    tokio::task::spawn_local(async move {
        // As above.
        let _ = driver.await;
    });
    let since = Cell::new(Instant::now());
    Ok(Rc::new(Shared { sender, streams: Cell::new(0), worn: Cell::new(false), since }))
}
