//! The kernel's network configuration, spoken to directly: links, addresses, routes and packet filter tables.
//!
//! A message is a header, a fixed structure and nested attributes; one writer for all of them is less than any library, works
//! without a runtime (the supervisor has none), and needs neither the `ip` nor the `nft` program on the machine.

mod link;
mod nft;

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        recv, send, socket_with,
        sockopt::set_socket_timeout,
    },
};

pub(crate) use link::{Cable, Links};
pub(crate) use nft::{HostPort, Table, replace};

/// More than any answer that we ask for.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The kernel answers while we wait; silence this long means that it does not.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

const REQUEST: u16 = 0x01;
const ACKNOWLEDGE: u16 = 0x04;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const REPLACE: u16 = 0x100;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 0x02;
const HEADER_BYTES: usize = 16;

/// One message in the making.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    /// Where the attributes begin whose length is not known yet.
    open: Vec<usize>,
}

impl Message {
    /// `body` is the fixed structure of this kind of message.
    fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(body);
        let mut message = Self { bytes, open: Vec::new() };
        message.align();
        message
    }

    fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("attributes are short");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.align();
        self
    }

    /// Text with the zero that the kernel expects after it.
    fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes)
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.open.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let start = self.open.pop().expect("pushed above");
        let length = u16::try_from(self.bytes.len() - start).expect("attributes are short");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(&mut self, sequence: u32) -> &[u8] {
        let length = u32::try_from(self.bytes.len()).expect("messages are short");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }
}

/// A conversation with one part of the kernel, in the network namespace in which it was begun.
#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        set_socket_timeout(&fd, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE))?;
        Ok(Self { fd, sequence: 0 })
    }

    fn route() -> io::Result<Self> {
        Self::open(None)
    }

    fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    /// Sends one message and waits for the kernel's word on it.
    fn ask(&mut self, mut message: Message) -> io::Result<()> {
        self.sequence += 1;
        let flags = u16::from_ne_bytes([message.bytes[6], message.bytes[7]]) | ACKNOWLEDGE;
        message.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        send(&self.fd, message.finish(self.sequence), SendFlags::empty())?;
        self.verdict(self.sequence)
    }

    /// Sends messages that the kernel takes all or none. The last one is the end of the batch and is not answered itself.
    fn ask_all(&mut self, messages: Vec<Message>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let count = messages.len();
        let mut answered = self.sequence;
        for (number, mut message) in messages.into_iter().enumerate() {
            self.sequence += 1;
            // Of those that are done in order, the last one's word stands for all; an error comes of itself.
            if number + 2 == count {
                let flags = u16::from_ne_bytes([message.bytes[6], message.bytes[7]]) | ACKNOWLEDGE;
                message.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_are_aligned() {
        let mut message = Message::new(16, CREATE, &[0; 4]);
        message.put_text(3, "br0").nest(18, |nested| {
            nested.put(1, &[7]);
        });
        let bytes = message.finish(5).to_vec();
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4 + 8);
        assert_eq!(bytes[0..4], 40u32.to_ne_bytes());
        assert_eq!(bytes[8..12], 5u32.to_ne_bytes());
        assert_eq!(bytes[20..22], 8u16.to_ne_bytes());
        assert_eq!(&bytes[24..28], b"br0\0");
        assert_eq!(bytes[28..30], 12u16.to_ne_bytes());
        assert_eq!(bytes[30..32], (18u16 | NESTED).to_ne_bytes());
        assert_eq!(bytes[32..34], 5u16.to_ne_bytes());
    }
}
