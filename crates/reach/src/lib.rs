//! Connections to pods, whichever network of this machine they are in.
//!
//! Without root, the pods of a node are on a network that only their user namespace can see, and so can this process not. A
//! socket belongs for ever to the network in which it was made, whoever holds it: the holder of that namespace lends us
//! sockets, which then connect and listen there as any other. Which addresses lie in such a network is known to the whole
//! process, like the routing table of a machine.

#[cfg(target_os = "linux")]
mod networks;

#[cfg(target_os = "linux")]
pub use networks::{Network, add, changed, networks};

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpStream, UdpSocket};

/// Connects to a pod, or to any other address.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    #[cfg(target_os = "linux")]
    if let Some(network) = networks::of(address.ip()) {
        return network.tcp(address)?.connect(address).await;
    }
    TcpStream::connect(address).await
}

/// A socket that sends datagrams to a pod, or to any other address, and hears what comes back.
pub async fn datagrams(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    #[cfg(target_os = "linux")]
    if let Some(network) = networks::of(to.ip()) {
        let socket = network.udp(any)?;
        socket.connect(to).await?;
        return Ok(socket);
    }
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket)
}
