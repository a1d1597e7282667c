//! One agent at the socket: lines in, lines out, never blocking.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};

use crate::{
    kernel,
    wire::{Call, MAX_LINE_BYTES, Message, Outcome, PodState},
};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    pub(super) watching: bool,
    /// A state has to be sent as soon as there is room: the newest one by then.
    owes_state: bool,
    /// It missed something that cannot be sent again.
    broken: bool,
}

/// What a session is handed at most: three streams, or a terminal and its output.
const MAX_ENDS: usize = 3;

impl Connection {
    pub(super) fn new(id: u64, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            id,
            stream,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            watching: false,
            owes_state: false,
            broken: false,
        })
    }

    /// The calls that have arrived; an error means that this connection is over.
    pub(super) fn read(&mut self) -> io::Result<Vec<Call>> {
        let mut buffer = [0u8; 8192];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.incoming.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.incoming.len() > MAX_LINE_BYTES {
                return Err(io::Error::other("the line is too long"));
            }
        }
        let Some(end) = self.incoming.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let lines: Vec<u8> = self.incoming.drain(..=end).collect();
        Ok(lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .filter_map(|line| self.parse(line))
            .collect())
    }

    /// A verb that this supervisor does not know yet is refused; a newer agent can live with that.
    fn parse(&mut self, line: &[u8]) -> Option<Call> {
        #[derive(serde::Deserialize)]
        struct Id {
            id: u64,
        }
        match serde_json::from_slice(line) {
            Ok(call) => Some(call),
            Err(error) => {
                let id = serde_json::from_slice(line).map_or(0, |Id { id }| id);
                self.send(&Message::Reply { id, outcome: Outcome::Refused(format!("not understood: {error}")) });
                None
            }
        }
    }

    pub(super) fn send(&mut self, message: &Message) {
        // Our own messages are plain data and a vector takes every write.
        serde_json::to_writer(&mut self.outgoing, message).expect("messages serialise");
        self.outgoing.push(b'\n');
    }

    /// Sends a message that hands descriptors over. Whoever has no room for it right now does not get them.
    pub(super) fn send_with(&mut self, message: &Message, ends: &[OwnedFd]) {
        let mut line = serde_json::to_vec(message).expect("messages serialise");
        line.push(b'\n');
        let borrowed: Vec<BorrowedFd<'_>> = ends.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ENDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = self.outgoing.is_empty() && control.push(SendAncillaryMessage::ScmRights(&borrowed));
        let sent = fits.then(|| sendmsg(&self.stream, &[IoSlice::new(&line)], &mut control, kernel::NO_SIGNAL));
        match sent {
            Some(Ok(length)) => self.outgoing.extend_from_slice(&line[length..]),
            _ => self.broken = true,
        }
    }

    pub(super) fn owe_state(&mut self) {
        self.owes_state |= self.watching;
    }

    pub(super) fn wants_to_write(&self) -> bool {
        !self.outgoing.is_empty() || self.owes_state
    }

    /// Writes what fits; an error means that this connection is over.
    pub(super) fn flush(&mut self, state: &PodState) -> io::Result<()> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.owes_state && self.outgoing.is_empty() {
            self.owes_state = false;
            self.send(&Message::State { state: state.clone() });
        }
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => drop(self.outgoing.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
