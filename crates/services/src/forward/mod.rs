//! Doors opened by sockets of our own: what is reached without the kernel's help.

mod choose;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sluice_netlink::Family;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::doors::{Door, Protocol};
use choose::Backends;

/// Connections through all doors together; the next ones wait.
const MAX_CONNECTIONS: usize = 8_192;
/// Conversations of datagrams through all doors together; the next ones are not heard.
const MAX_FLOWS: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    protocol: Protocol,
    address: SocketAddr,
    /// The number of the network of pods in which it is, unless it is the machine's own.
    inside: Option<usize>,
}

/// Every door that is open.
#[derive(Debug)]
pub(crate) struct Forwarder {
    open: BTreeMap<Place, Opened>,
    /// Places where we may not listen, said once each.
    closed: BTreeMap<Place, io::ErrorKind>,
    connections: Arc<Semaphore>,
    flows: Arc<Semaphore>,
}

#[derive(Debug)]
struct Opened {
    backends: Arc<Backends>,
    task: JoinHandle<()>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Which of a door's places are ours to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Everything,
    /// Node ports where the kernel leads nowhere: from outside to loopback addresses, and from `::1` to anywhere else.
    LeftByTheKernel,
}

impl Forwarder {
    pub(crate) fn new() -> Self {
        Self {
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            flows: Arc::new(Semaphore::new(MAX_FLOWS)),
        }
    }

    /// Opens and closes until it is as the doors say. Connections that are there go on.
    pub(crate) async fn keep(&mut self, doors: &[Door], part: Part) {
        let wanted = places(doors, part, inside());
        self.open.retain(|place, _| wanted.contains_key(place));
        self.closed.retain(|place, _| wanted.contains_key(place));
        for (place, (door, backends)) in wanted {
            if let Some(opened) = self.open.get(&place) {
                opened.backends.replace(backends, door.sticky);
                continue;
            }
            let backends = Arc::new(Backends::new(backends, door.sticky));
            match self.listen(place, Arc::clone(&backends)).await {
                Ok(task) => {
                    self.closed.remove(&place);
                    self.open.insert(place, Opened { backends, task });
                }
                Err(error) => self.say_closed(place, door, &error),
            }
        }
    }

    async fn listen(&self, place: Place, backends: Arc<Backends>) -> io::Result<JoinHandle<()>> {
        match place.protocol {
            Protocol::Tcp => {
                let listener = match place.inside {
                    None => TcpListener::bind(place.address).await?,
                    Some(number) => network(number)?.listen(place.address)?,
                };
                Ok(tokio::spawn(tcp::serve(listener, backends, Arc::clone(&self.connections))))
            }
            Protocol::Udp => {
                let socket = match place.inside {
                    None => UdpSocket::bind(place.address).await?,
                    Some(number) => network(number)?.udp(place.address)?,
                };
                Ok(tokio::spawn(udp::serve(socket, backends, Arc::clone(&self.flows))))
            }
        }
    }

    fn say_closed(&mut self, place: Place, door: &Door, error: &io::Error) {
        if self.closed.insert(place, error.kind()) == Some(error.kind()) {
            return;
        }
        let (service, address) = (&door.name, place.address);
        match error.kind() {
            _ if door.own => tracing::debug!(service, %address, %error, "Not reachable here"),
            io::ErrorKind::PermissionDenied => tracing::warn!(
                service,
                %address,
                "Service not reachable here: ports below net.ipv4.ip_unprivileged_port_start need root"
            ),
            _ => tracing::warn!(service, %address, %error, "Service not reachable here"),
        }
    }

    /// Whether something may be tried again later: what others hold may become free.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.closed.is_empty()
    }
}

/// The network that pods are in when they run without root.
fn inside() -> Option<usize> {
    #[cfg(target_os = "linux")]
    return sluice_reach::networks().last().map(|network| network.number());
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
fn network(number: usize) -> io::Result<Arc<sluice_reach::Network>> {
    let known = sluice_reach::networks().into_iter().find(|network| network.number() == number);
    known.ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
}

type Wanted<'a> = BTreeMap<Place, (&'a Door, Vec<SocketAddr>)>;

fn places(doors: &[Door], part: Part, inside: Option<usize>) -> Wanted<'_> {
    let mut wanted = Wanted::new();
    for door in doors {
        let place =
            |address, port| Place { protocol: door.protocol, address: SocketAddr::new(address, port), inside: None };
        if part == Part::Everything {
            // Where the backend itself listens there is nothing to forward.
            let is_backend = |address| door.backends.contains(&SocketAddr::new(address, door.port));
            for address in door.addresses.iter().filter(|address| address.is_loopback() && !is_backend(**address)) {
                wanted.entry(place(*address, door.port)).or_insert_with(|| (door, door.backends.clone()));
            }
            // Pods elsewhere send there what is for a loopback address of these.
            for address in door.addresses.iter().filter(|address| inside.is_some() && address.is_loopback()) {
                let there = Place { inside, ..place(*address, door.port) };
                wanted.entry(there).or_insert_with(|| (door, door.backends.clone()));
            }
        }
        let (at, ours): (IpAddr, bool) = match door.family {
            Family::V4 => {
                let of_processes = door.node_backends.iter().any(|backend| backend.ip().is_loopback());
                (Ipv4Addr::UNSPECIFIED.into(), part == Part::Everything || of_processes)
            }
            Family::V6 => (Ipv6Addr::LOCALHOST.into(), !door.node_backends.is_empty()),
        };
        if let Some(port) = door.node_port.filter(|_| ours) {
            wanted.entry(place(at, port)).or_insert_with(|| (door, door.node_backends.clone()));
        }
    }
    wanted
}

#[cfg(test)]
mod tests;
