//! Connections, carried from a door to a backend.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::choose::Backends;

/// A backend on this machine that has not answered by then does not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Backends that are tried for one connection.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(50);

/// Takes connections until it is dropped; those that are there go on without it.
pub(super) async fn serve(listener: TcpListener, backends: Arc<Backends>, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((client, from)) = listener.accept().await else {
            // Out of descriptors: others must finish first.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let backends = Arc::clone(&backends);
        tokio::spawn(async move {
            carry(client, from.ip(), &backends).await;
            drop(permit);
        });
    }
}

async fn carry(mut client: TcpStream, from: IpAddr, backends: &Backends) {
    let Some(mut backend) = connect(from, backends).await else { return refuse(&client) };
    let _no_delay = (client.set_nodelay(true), backend.set_nodelay(true));
    let _ended = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
}

async fn connect(from: IpAddr, backends: &Backends) -> Option<TcpStream> {
    for _ in 0..ATTEMPTS.min(backends.count()) {
        let backend = backends.choose(from, Instant::now())?;
        match timeout(CONNECT_TIMEOUT, sluice_reach::connect(backend)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%backend, %error, "Backend refused"),
            Err(_) => tracing::debug!(%backend, "Backend did not answer"),
        }
        backends.turn_away(from);
    }
    None
}

/// A reset, as a port has it where nobody listens.
fn refuse(client: &TcpStream) {
    let _closed_anyway = client.set_zero_linger();
}
