//! The conversation with the holder of a network: one byte asks for a thing, descriptors come back.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, send, sendmsg, socket_with,
};

/// The holder's socket, in its directory. Socket paths are short and directories may not be, so it goes by its bare name.
pub const SOCKET: &str = "holder.sock";
/// Descriptors that come with one answer: as many as there are kinds of namespaces.
pub const MAX_DESCRIPTORS: usize = 6;
/// A holder does nothing slow.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a holder gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Thing {
    /// The namespaces themselves: user, mount, control groups, name, IPC, network.
    Namespaces = b'n',
    Tcp = b't',
    Tcp6 = b'T',
    Udp = b'u',
    Udp6 = b'U',
    /// To configure links, addresses and routes.
    Links = b'l',
    /// To configure the packet filter.
    Filter = b'f',
}

impl Thing {
    const ALL: [Self; 7] = [Self::Namespaces, Self::Tcp, Self::Tcp6, Self::Udp, Self::Udp6, Self::Links, Self::Filter];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|thing| *thing as u8 == byte)
    }
}

/// A connection to a holder.
#[derive(Debug)]
pub struct Holder(OwnedFd);

impl Holder {
    /// `directory` is the holder's own.
    pub fn connect(directory: &Path) -> io::Result<Self> {
        let opened = File::open(directory)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", opened.as_raw_fd()))?;
        connect(&socket, &address)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    pub fn ask(&self, thing: Thing) -> io::Result<Vec<OwnedFd>> {
        send(&self.0, &[thing as u8], SendFlags::NOSIGNAL)?;
        let mut code = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(&self.0, &mut [IoSliceMut::new(&mut code)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if got.bytes != code.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match i32::from_ne_bytes(code) {
            0 => Ok(control
                .drain()
                .flat_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                    _ => None,
                })
                .flatten()
                .collect()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// For a thing that is one descriptor.
    pub fn ask_one(&self, thing: Thing) -> io::Result<OwnedFd> {
        self.ask(thing)?.pop().ok_or_else(|| io::Error::other("the holder of the pods' network gave nothing"))
    }
}

impl From<Holder> for OwnedFd {
    fn from(holder: Holder) -> Self {
        holder.0
    }
}

/// The other side: reads what is asked on a connection that has something to read, and answers with what `make` makes.
/// Gives `false` when the connection is over.
pub fn answer(connection: impl AsFd, make: impl FnOnce(Thing) -> io::Result<Vec<OwnedFd>>) -> bool {
    let mut byte = [0];
    let thing = match rustix::net::recv(&connection, &mut byte, RecvFlags::DONTWAIT) {
        Ok((1, _)) => Thing::of(byte[0]),
        Err(Errno::AGAIN | Errno::INTR) => return true,
        _ => return false,
    };
    let made = thing.ok_or_else(|| Errno::INVAL.into()).and_then(make);
    let (code, descriptors) = match &made {
        Ok(descriptors) => (0, descriptors.iter().map(AsFd::as_fd).collect()),
        Err(error) => (error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()), Vec::<BorrowedFd<'_>>::new()),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(connection, &[IoSlice::new(&code.to_ne_bytes())], &mut control, flags).is_ok()
}

#[cfg(test)]
mod tests {
    use rustix::net::{accept, bind, listen};

    use super::*;

    #[test]
    fn descriptors_come_for_known_things_and_errors_for_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let listener = listener.expect("a socket");
        bind(&listener, &SocketAddrUnix::new(directory.path().join(SOCKET)).expect("short")).expect("a free name");
        listen(&listener, 1).expect("a listener");
        let holder = Holder::connect(directory.path()).expect("a connection");
        let server = accept(&listener).expect("a connection");
        let serve = |make: fn(Thing) -> io::Result<Vec<OwnedFd>>| {
            let server = server.try_clone().expect("a descriptor");
            std::thread::spawn(move || {
                let mut waits = [rustix::event::PollFd::new(&server, rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut waits, None).expect("a call");
                answer(&server, make)
            })
        };
        let file = |_| -> io::Result<Vec<OwnedFd>> { Ok(vec![File::open("/dev/null")?.into()]) };
        let serving = serve(file);
        assert_eq!(holder.ask(Thing::Tcp).expect("one").len(), 1);
        assert!(serving.join().expect("served"));
        let serving = serve(|_| Err(Errno::MFILE.into()));
        let refused = holder.ask_one(Thing::Filter).expect_err("refused");
        assert_eq!(refused.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
        assert!(serving.join().expect("served"));
        let serving = serve(file);
        drop(holder);
        assert!(!serving.join().expect("served"), "the connection is over");
    }
}
