//! A conversation with one part of the kernel, in the network namespace in which it was begun.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netdevice, recv, send, socket_with,
};

use crate::message::{HEADER_BYTES, Message};

/// More than any answer that we ask for.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The kernel answers while we wait; silence this long means that it does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// One transaction is one datagram: room for some ten thousand rules.
const MAX_TRANSACTION_BYTES: usize = 32 << 20;
const ERROR: u16 = 0x02;

#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Links, addresses and routes.
    pub(crate) fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// Packet filter and connection tracking.
    pub fn netfilter() -> io::Result<Self> {
        let socket = Self::open(Some(netlink::NETFILTER))?;
        // Refused to those who may not change tables either, who will hear of it when they try.
        let _refused = set_socket_send_buffer_size_force(&socket.fd, MAX_TRANSACTION_BYTES);
        Ok(socket)
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        Self::over(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?)
    }

    /// A conversation over a socket that somebody has made in another network namespace.
    pub fn over(fd: OwnedFd) -> io::Result<Self> {
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// The number of a link of this namespace, by name.
    pub(crate) fn index_of(&self, name: &str) -> io::Result<u32> {
        netdevice::name_to_index(&self.fd, name)
            .map_err(|_| io::Error::new(io::ErrorKind::NotFound, format!("there is no network link `{name}`")))
    }

    /// Sends one message and waits for the kernel's word on it.
    pub fn ask(&mut self, mut message: Message) -> io::Result<()> {
        self.sequence += 1;
        message.acknowledged();
        send(&self.fd, message.finish(self.sequence), SendFlags::empty())?;
        self.verdict(self.sequence)
    }

    /// Sends messages that the kernel takes all or none. The last one is the end of the batch and is not answered itself.
    pub fn ask_all(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let count = messages.len();
        let mut answered = self.sequence;
        for (number, mut message) in messages.into_iter().enumerate() {
            self.sequence += 1;
            // Of those that are done in order, the last one's word stands for all; an error comes of itself.
            if number + 2 == count {
                message.acknowledged();
                answered = self.sequence;
            }
            bytes.extend_from_slice(message.finish(self.sequence));
        }
        send(&self.fd, &bytes, SendFlags::empty())?;
        self.verdict(answered)
    }

    fn verdict(&mut self, sequence: u32) -> io::Result<()> {
        let mut buffer = vec![0; MAX_ANSWER_BYTES];
        loop {
            let length = match recv(&self.fd, &mut buffer, RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut rest = &buffer[..length];
            while let Some(answer) = Answer::first(rest) {
                // In a batch any message may fail.
                if answer.kind == ERROR && (answer.code != 0 || answer.sequence == sequence) {
                    return match answer.code {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(-code)),
                    };
                }
                rest = &rest[answer.length..];
            }
        }
    }
}

struct Answer {
    length: usize,
    kind: u16,
    sequence: u32,
    code: i32,
}

impl Answer {
    fn first(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let length = usize::try_from(word(0)?).ok()?.next_multiple_of(4);
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        if length < HEADER_BYTES || length > bytes.len() {
            return None;
        }
        Some(Self { length, kind, sequence: word(8)?, code: word(HEADER_BYTES).unwrap_or(0).cast_signed() })
    }
}
