//! Client connections: accepted, with a handshake where there is TLS, and ended so that the last answer is not lost.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;

use futures::FutureExt as _;
use sluice_route::{Entrance, Transport};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::forwarding::Peer;
use super::guard::Guard;
use super::patience::Watch;
use super::socket::Socket;
use super::worker::Worker;
use super::{conversation, limits, proxy, tls};

/// What a client's requests have in common.
pub(crate) struct Client {
    pub(crate) entrance: Entrance,
    pub(crate) transport: Transport,
    pub(crate) peer: Peer,
    pub(crate) watch: Arc<Watch>,
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
pub(crate) fn spawn(worker: Rc<Worker>, entrance: Entrance, socket: StdListener, closing: watch::Receiver<bool>) {
    tokio::task::spawn_local(async move {
        match TcpListener::from_std(socket) {
            Ok(listener) => accept(worker, entrance, listener, closing).await,
            Err(error) => tracing::error!(%error, ?entrance, "Listener lost"),
        }
    });
}

async fn accept(worker: Rc<Worker>, entrance: Entrance, listener: TcpListener, mut closing: watch::Receiver<bool>) {
    loop {
        let Ok(permit) = worker.room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        match accepted {
            Ok((stream, peer)) => spawn_client(&worker, entrance, stream, peer, permit),
            Err(error) => {
                tracing::warn!(%error, ?entrance, "Connection not accepted");
                tokio::time::sleep(limits::ACCEPT_BACK_OFF).await;
            }
        }
    }
    // Who has been let into the queue is served: closing the socket would reset them.
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        let Ok(permit) = worker.room.clone().acquire_owned().await else { return };
        spawn_client(&worker, entrance, stream, peer, permit);
    }
}

fn spawn_client(
    worker: &Rc<Worker>,
    entrance: Entrance,
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
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
            Box::pin(serve_tls(worker, entrance, peer, watch.clone(), socket.clone())).await;
        } else {
            let client = Client { entrance, transport: Transport::Plain, peer, watch: watch.clone() };
            serve(worker, client, socket.clone()).await;
        }
        if watch.left_unread() {
            Box::pin(linger(socket)).await;
        }
        drop((seat, permit));
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

async fn serve_tls(worker: Rc<Worker>, entrance: Entrance, peer: Peer, watch: Arc<Watch>, stream: Socket) {
    let mut stopping = worker.stopping.subscribe();
    let handshake = tls::handshake(stream, &worker.handshakes, |name| worker.tls_config(entrance, name));
    let shaken = Box::pin(async {
        tokio::select! {
            shaken = handshake => Some(shaken),
            // Nobody has asked for anything yet.
            _ = stopping.wait_for(|stopping| *stopping) => None,
        }
    });
    let Some(shaken) = shaken.await else { return };
    match shaken {
        Ok((stream, server_name, is_verified)) => {
            let transport = Transport::Tls { server_name, is_verified };
            let client = Client { entrance, transport, peer, watch };
            serve(worker, client, stream).await;
        }
        Err(error) => tracing::debug!(%error, ?entrance, "No TLS with a client"),
    }
}

async fn serve(worker: Rc<Worker>, client: Client, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let guard = Guard::new(stream, client.watch.clone());
    let (client, stopping, refusals) = (Rc::new(client), worker.stopping.subscribe(), worker.clone());
    let serve = move |request| proxy::serve(worker.clone(), client.clone(), request);
    if let Err(error) = conversation::hold(guard, stopping, serve).await {
        if broke_rules(&error) {
            refusals.refused("http2-rules");
        }
        tracing::debug!(%error, "Client connection ended");
    }
}
