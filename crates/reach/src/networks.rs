//! Which addresses lie in a network that a holder keeps.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, RwLock};

use rustix::net::sockopt::set_socket_reuseaddr;
use sluice_lend::{Holder, Thing};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::sync::watch;

/// Connections that a listener lets wait.
const BACKLOG: u32 = 1024;

static NETWORKS: RwLock<Vec<Arc<Network>>> = RwLock::new(Vec::new());
static COUNT: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// A network that this process reaches by sockets of its holder.
#[derive(Debug)]
pub struct Network {
    address: Ipv4Addr,
    prefix_length: u8,
    directory: PathBuf,
    /// Another one for each addition: what listens in a network that was lost must listen anew.
    number: usize,
    holder: Mutex<Option<Holder>>,
}

/// Addresses of this network are reached by way of the holder in `directory` from now on.
pub fn add(address: Ipv4Addr, prefix_length: u8, directory: &Path) {
    let mut networks = NETWORKS.write().unwrap_or_else(PoisonError::into_inner);
    let number = *COUNT.borrow() + 1;
    networks.retain(|known| known.address != address || known.prefix_length != prefix_length);
    let directory = directory.to_owned();
    networks.push(Arc::new(Network { address, prefix_length, directory, number, holder: Mutex::default() }));
    COUNT.send_replace(number);
}

/// All that have been added.
pub fn networks() -> Vec<Arc<Network>> {
    NETWORKS.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Tells of every addition.
pub fn changed() -> watch::Receiver<usize> {
    COUNT.subscribe()
}

pub(crate) fn of(address: IpAddr) -> Option<Arc<Network>> {
    let networks = NETWORKS.read().unwrap_or_else(PoisonError::into_inner);
    networks.iter().find(|network| network.contains(address)).cloned()
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_length)).unwrap_or(0);
        (u32::from(address) ^ u32::from(self.address)) & mask == 0
    }

    pub fn number(&self) -> usize {
        self.number
    }

    /// Asks the holder, another one if the one before is gone.
    pub fn ask(&self, thing: Thing) -> io::Result<OwnedFd> {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = holder.as_ref()
            && let Ok(made) = known.ask_one(thing)
        {
            return Ok(made);
        }
        let new = Holder::connect(&self.directory)?;
        let made = new.ask_one(thing);
        *holder = Some(new);
        made
    }

    pub(crate) fn tcp(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        let made = self.ask(if to.is_ipv4() { Thing::Tcp } else { Thing::Tcp6 })?;
        // The holder makes sockets that do not block.
        Ok(TcpSocket::from_std_stream(made.into()))
    }

    /// Listens inside.
    pub fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.tcp(at)?;
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        socket.listen(BACKLOG)
    }

    /// A socket of datagrams inside.
    pub fn udp(&self, at: SocketAddr) -> io::Result<UdpSocket> {
        let made = self.ask(if at.is_ipv4() { Thing::Udp } else { Thing::Udp6 })?;
        set_socket_reuseaddr(&made, true)?;
        rustix::net::bind(&made, &at)?;
        UdpSocket::from_std(made.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_addresses_lie_in_a_network() {
        let network = Network {
            address: Ipv4Addr::new(10, 64, 3, 0),
            prefix_length: 24,
            directory: PathBuf::new(),
            number: 1,
            holder: Mutex::default(),
        };
        let contains = |address: &str| network.contains(address.parse().expect("an address"));
        assert!(contains("10.64.3.1") && contains("10.64.3.255"));
        assert!(!contains("10.64.4.1") && !contains("127.0.0.1") && !contains("::1"));
    }
}
