//! One listening socket per worker on the same address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use super::limits;

/// Opens `count` sockets that share the address. Fails when anybody listens there already, also another gateway of ours: the
/// kernel would silently share connections with it. Port 0 takes any free one; the sockets tell which.
pub(crate) fn open(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Without SO_REUSEPORT the kernel refuses an address that is taken. Given up at once: it only had to ask.
    let address = bound(address, Sharing::Alone)?.local_addr()?;
    (0..count)
        .map(|_| {
            let socket = bound(address, Sharing::WithSiblings)?;
            listen(&socket, limits::BACKLOG as i32)?;
            Ok(socket)
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithSiblings,
}

fn bound(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if sharing == Sharing::WithSiblings {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_share_one_free_port_and_nobody_else_gets_it() {
        let sockets = open(SocketAddr::from(([127, 0, 0, 1], 0)), 3).expect("a free port");
        let addresses: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect();
        assert_ne!(addresses[0].port(), 0);
        assert!(addresses.iter().all(|address| *address == addresses[0]));
        let taken = open(addresses[0], 1).expect_err("must be refused");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        open(addresses[0], 1).expect("free again");
    }
}
