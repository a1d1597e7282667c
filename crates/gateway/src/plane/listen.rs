//! One listening socket per worker on the same address.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

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

/// From here on nobody new gets into the queue of this socket, while whoever is in the middle of that still does. Closing it at once
/// would reset those who get in after the last look. Who is turned away asks again after a second, and hears then that nobody
/// listens any more.
pub(crate) fn turn_away(socket: &impl AsRawFd) -> io::Result<()> {
    /// Where the flags of TCP lie, and those that make the first packet of a connection: SYN without ACK.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut steps = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN | ACK),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    #[expect(unsafe_code, reason = "no safe way to attach a filter to a socket is at hand")]
    // SAFETY: the kernel reads `program` and the steps that it points to, which both outlive the call, and keeps a copy of its own.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if attached == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_socket_that_turns_clients_away_keeps_those_whom_it_has_let_in() {
        let socket = open(SocketAddr::from(([127, 0, 0, 1], 0)), 1).expect("a free port").remove(0);
        let address = socket.local_addr().expect("bound");
        let mut early = TcpStream::connect(address).expect("let in");
        turn_away(&socket).expect("a filter");
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(late.expect_err("turned away").kind(), io::ErrorKind::TimedOut);
        let (mut accepted, _) = socket.accept().expect("somebody in the queue");
        drop(socket);
        early.write_all(b"?").expect("written");
        let mut byte = [0];
        accepted.read_exact(&mut byte).expect("what the client says");
        accepted.write_all(b"!").expect("written");
        early.read_exact(&mut byte).expect("an answer");
        let refused = TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

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
