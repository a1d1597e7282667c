//! Datagrams, carried from a door to a backend and back: one conversation per client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::choose::Backends;

/// A conversation ends after this silence.
const IDLE: Duration = Duration::from_secs(60);
/// No datagram is longer.
const MAX_BYTES: usize = 65_535;

type Flows = Arc<Mutex<HashMap<SocketAddr, Flow>>>;

#[derive(Debug, Clone)]
struct Flow {
    socket: Arc<UdpSocket>,
    backend: SocketAddr,
    number: u64,
}

/// Carries datagrams until it is dropped, and its conversations end with it.
pub(super) async fn serve(socket: UdpSocket, backends: Arc<Backends>, room: Arc<Semaphore>) {
    let (socket, flows) = (Arc::new(socket), Flows::default());
    let mut returning = JoinSet::new();
    let mut buffer = vec![0; MAX_BYTES];
    let mut number = 0;
    loop {
        while returning.try_join_next().is_some() {}
        // An error is about an earlier datagram that nobody took.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let known = lock(&flows).get(&client).cloned();
        // A backend that left would never answer.
        let flow = match known.filter(|flow| backends.has(flow.backend)) {
            Some(flow) => flow,
            None => {
                lock(&flows).remove(&client);
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
                number += 1;
                let Some(flow) = open(client, &backends, number).await else { continue };
                lock(&flows).insert(client, flow.clone());
                let back = Back { door: Arc::clone(&socket), client, flow: flow.clone(), flows: Arc::clone(&flows) };
                returning.spawn(back.carry(permit));
                flow
            }
        };
        if flow.socket.send(&buffer[..length]).await.is_err() {
            lock(&flows).remove(&client);
        }
    }
}

async fn open(client: SocketAddr, backends: &Backends, number: u64) -> Option<Flow> {
    let backend = backends.choose(client.ip(), Instant::now())?;
    let socket = sluice_reach::datagrams(backend).await.ok()?;
    Some(Flow { socket: Arc::new(socket), backend, number })
}

struct Back {
    door: Arc<UdpSocket>,
    client: SocketAddr,
    flow: Flow,
    flows: Flows,
}

impl Back {
    async fn carry(self, _permit: OwnedSemaphorePermit) {
        while let Ok(Ok(())) = timeout(IDLE, self.flow.socket.readable()).await {
            // Only while there is something in it: silent conversations cost next to nothing.
            let mut buffer = vec![0; MAX_BYTES];
            match self.flow.socket.try_recv(&mut buffer) {
                Ok(length) if self.door.send_to(&buffer[..length], self.client).await.is_ok() => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
        let mut flows = lock(&self.flows);
        if flows.get(&self.client).is_some_and(|flow| flow.number == self.flow.number) {
            flows.remove(&self.client);
        }
    }
}

fn lock(flows: &Flows) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Flow>> {
    flows.lock().unwrap_or_else(PoisonError::into_inner)
}
