//! Client connections: accepted, with a handshake where there is TLS, and ended so that the last answer is not lost.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt as _;
use sluice_route::{Entrance, Transport};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{sleep, timeout};

use super::forwarding::Peer;
use super::guard::Guard;
use super::listen::turn_away;
use super::patience::Watch;
use super::socket::Socket;
use super::worker::Worker;
use super::{Held, Presence, conversation, limits, proxy, tls};

/// What a client's requests have in common.
pub(crate) struct Client {
    pub(crate) entrance: Entrance,
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    pub(crate) watch: Arc<Watch>,
    pub(crate) place: Place,
    /// Known with the first request.
    pub(crate) speaks_http2: Cell<bool>,
}

#[cfg(test)]
impl Client {
    /// In the open, with nobody beside it.
    pub(crate) fn alone(peer: Peer) -> Self {
        let permit = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().expect("room for one");
        let (_presence, leave) = (Presence(tokio::sync::mpsc::channel(1).0), watch::Sender::new(false).subscribe());
        let place = Place { _permit: permit, _presence, leave };
        let watch = super::patience::Patience::default().watch();
        let (entrance, transport) = (Entrance::Default, Transport::Plain);
        Self { entrance, transport, peer, watch, place, speaks_http2: Cell::new(false) }
    }
}

/// A client's place among those of its worker and its entrance, held as long as it is there, whatever it speaks.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    _presence: Presence,
    /// Whether its entrance is gone, or the gateway stops.
    leave: watch::Receiver<bool>,
}

impl Place {
    /// This client is to be told to ask elsewhere from now on.
    pub(crate) fn is_leaving(&self) -> bool {
        *self.leave.borrow()
    }
}

#[derive(Clone, Copy)]
pub(crate) struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Accepts on this socket until told to close.
pub(crate) async fn from(
    worker: Rc<Worker>,
    entrance: Entrance,
    socket: StdListener,
    held: Held,
    leave: watch::Receiver<bool>,
) {
    match TcpListener::from_std(socket) {
        Ok(listener) => accept(worker, entrance, listener, &held, leave).await,
        Err(error) => tracing::error!(%error, ?entrance, "Listener lost"),
    }
}

async fn accept(
    worker: Rc<Worker>,
    entrance: Entrance,
    listener: TcpListener,
    held: &Held,
    leave: watch::Receiver<bool>,
) {
    let place = |permit| Place { _permit: permit, _presence: held.client.clone(), leave: leave.clone() };
    let mut told = leave.clone();
    let mut last = None;
    loop {
        let Ok(permit) = worker.room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = told.wait_for(|leave| *leave), if last.is_none() => {
                // Its sockets may be another process's as well.
                if worker.is_stopping.get() {
                    break;
                }
                if let Err(error) = turn_away(&listener) {
                    tracing::warn!(%error, ?entrance, "Clients are reset that come in the last moment");
                }
                last = Some(Box::pin(sleep(limits::LAST_HANDSHAKES)));
                continue;
            }
            () = async { last.as_mut().expect("looked at before").await }, if last.is_some() => break,
        };
        match accepted {
            Ok((stream, peer)) => spawn_client(&worker, entrance, stream, peer, place(permit)),
            Err(error) => {
                tracing::warn!(%error, ?entrance, "Connection not accepted");
                sleep(limits::ACCEPT_BACK_OFF).await;
            }
        }
    }
    // Who has been let into the queue is served: closing the socket would reset them.
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        let Ok(permit) = worker.room.clone().acquire_owned().await else { return };
        spawn_client(&worker, entrance, stream, peer, place(permit));
    }
}

fn spawn_client(worker: &Rc<Worker>, entrance: Entrance, stream: TcpStream, peer: SocketAddr, place: Place) {
    let address = peer.ip();
    let peer = Peer::new(address, &worker.manners().trusted);
    // Behind a proxy are many.
    let limit = if peer.trusted { u32::MAX } else { limits::CONNECTIONS_PER_SOURCE };
    let Some(seat) = worker.sources.seat(address, limit) else {
        worker.refused("connections-per-source");
        return;
    };
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        // Refused only by sockets that are broken already.
        let _ = stream.set_nodelay(true);
        let (socket, watch) = (Socket::new(stream), worker.patience.watch());
        if worker.speaks_tls(entrance) {
            // In a box, so that connections without TLS do not have its size.
            Box::pin(serve_tls(worker, entrance, peer, watch.clone(), place, socket.clone())).await;
        } else {
            let (transport, speaks_http2) = (Transport::Plain, Cell::new(false));
            let client = Client { entrance, transport, peer, watch: watch.clone(), place, speaks_http2 };
            serve(worker, client, socket.clone()).await;
        }
        if watch.left_unread() {
            Box::pin(linger(socket)).await;
        }
        drop(seat);
    });
}

/// Whether we ended a connection of HTTP/2 for what its client did.
fn broke_rules(error: &(dyn std::error::Error + 'static)) -> bool {
    let cause = error.source().and_then(<dyn std::error::Error>::downcast_ref::<h2::Error>);
    cause.is_some_and(|cause| cause.is_library() && cause.is_go_away())
}

/// Reads what the client still sends: closing a socket with something unread would take the last answer back from it.
async fn linger(mut socket: Socket) {
    let drained = async {
        socket.shutdown().await?;
        let mut left = limits::LINGER_BYTES;
        let mut bytes = [0; 4096];
        while left > 0 {
            match socket.read(&mut bytes).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    // Either way it is closed now.
    let _drained = timeout(limits::LINGER, drained).await;
}

async fn serve_tls(
    worker: Rc<Worker>,
    entrance: Entrance,
    peer: Peer,
    watch: Arc<Watch>,
    place: Place,
    stream: Socket,
) {
    let mut leave = place.leave.clone();
    let handshake = tls::handshake(stream, &worker.handshakes, |name| worker.tls_config(entrance, name));
    let shaken = Box::pin(async {
        tokio::select! {
            shaken = handshake => Some(shaken),
            // Nobody has asked for anything yet, but may be about to.
            () = async {
                let _told = leave.wait_for(|leave| *leave).await.map(|leave| *leave);
                sleep(limits::LAST_WORD).await;
            } => None,
        }
    });
    let Some(shaken) = shaken.await else { return };
    match shaken {
        Ok((stream, server_name, is_verified)) => {
            let transport = Transport::Tls { server_name, is_verified };
            let client = Client { entrance, transport, peer, watch, place, speaks_http2: Cell::new(false) };
            serve(worker, client, stream).await;
        }
        Err(error) => tracing::debug!(%error, ?entrance, "No TLS with a client"),
    }
}

async fn serve(worker: Rc<Worker>, client: Client, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let guard = Guard::new(stream, client.watch.clone());
    let (leave, refusals) = (client.place.leave.clone(), worker.clone());
    let client = Rc::new(client);
    let serve = move |request| proxy::serve(worker.clone(), client.clone(), request);
    if let Err(error) = conversation::hold(guard, leave, serve).await {
        if broke_rules(&error) {
            refusals.refused("http2-rules");
        }
        tracing::debug!(%error, "Client connection ended");
    }
}
