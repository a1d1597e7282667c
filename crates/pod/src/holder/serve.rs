//! Hands out namespaces and sockets to whoever may open the holder's socket: processes of its user.

use std::{fs, io, os::fd::OwnedFd, path::Path, process::ExitCode};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{
        AddressFamily, Protocol, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, ipproto, listen, netlink,
        socket_with,
    },
};
use sluice_lend::{SOCKET, Thing, answer};

use super::namespaces_of;
use crate::pod_dir::make_private;

/// The engine's connection, and those of supervisors that are being started.
const MAX_CONNECTIONS: usize = 256;
const BACKLOG: i32 = 64;

pub(super) struct Server {
    listener: OwnedFd,
    connections: Vec<OwnedFd>,
}

impl Server {
    /// Listens in the current directory.
    pub(super) fn open() -> io::Result<Self> {
        match fs::remove_file(SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(SOCKET)?)?;
        make_private(Path::new(SOCKET))?;
        listen(&listener, BACKLOG)?;
        Ok(Self { listener, connections: Vec::new() })
    }

    /// Serves until it is killed.
    pub(super) fn run(mut self) -> io::Result<ExitCode> {
        loop {
            let mut watched: Vec<PollFd<'_>> =
                self.connections.iter().chain([&self.listener]).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut number = 0;
            self.connections.retain(|connection| {
                number += 1;
                !ready[number - 1] || answer(connection, make)
            });
            if ready.last() == Some(&true) {
                self.accept();
            }
        }
    }

    fn accept(&mut self) {
        // Gone again, or out of descriptors: it will try again.
        let Ok(connection) = accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
        if self.connections.len() >= MAX_CONNECTIONS {
            self.connections.remove(0);
        }
        self.connections.push(connection);
    }
}

fn make(thing: Thing) -> io::Result<Vec<OwnedFd>> {
    let socket = |family, kind, flags: SocketFlags, protocol: Option<Protocol>| -> io::Result<Vec<OwnedFd>> {
        Ok(vec![socket_with(family, kind, flags | SocketFlags::CLOEXEC, protocol)?])
    };
    let later = SocketFlags::NONBLOCK;
    match thing {
        Thing::Namespaces => namespaces_of("self"),
        Thing::Tcp => socket(AddressFamily::INET, SocketType::STREAM, later, Some(ipproto::TCP)),
        Thing::Tcp6 => socket(AddressFamily::INET6, SocketType::STREAM, later, Some(ipproto::TCP)),
        Thing::Udp => socket(AddressFamily::INET, SocketType::DGRAM, later, Some(ipproto::UDP)),
        Thing::Udp6 => socket(AddressFamily::INET6, SocketType::DGRAM, later, Some(ipproto::UDP)),
        Thing::Links => socket(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::empty(), None),
        Thing::Filter => {
            socket(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::empty(), Some(netlink::NETFILTER))
        }
    }
}
