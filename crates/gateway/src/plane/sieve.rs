//! What a backend says on HTTP/2, without frames that say nothing.
//!
//! A DATA frame without a byte that does not end its stream changes nothing, and some servers send one with each answer. The library
//! counts them, and gives up a connection with all that is under way on it when it has seen a hundred: sensible towards strangers, but
//! a connection to a backend carries the requests of many clients, for long. So they are taken out before it reads them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Length, type, flags, stream: RFC 9113, 4.1.
const HEAD: usize = 9;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
/// Room to read in where the reader has hardly any.
const SCRATCH: usize = 4 * HEAD;

pub(crate) struct Sieve<S> {
    stream: S,
    /// Bytes of the present frame that are still to come.
    left: usize,
    /// The beginning of a frame's head.
    head: [u8; HEAD],
    held: usize,
    /// Sifted, and waiting for room.
    over: VecDeque<u8>,
}

impl<S> Sieve<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, left: 0, head: [0; HEAD], held: 0, over: VecDeque::new() }
    }

    /// Moves what is to be passed on to the front of `bytes`, of which the first are those held back before. Says how many there are.
    fn sift(&mut self, bytes: &mut [u8]) -> usize {
        let (mut read, mut passed) = (0, 0);
        self.held = 0;
        while read < bytes.len() {
            let rest = bytes.len() - read;
            if self.left == 0 {
                if rest < HEAD {
                    self.head[..rest].copy_from_slice(&bytes[read..]);
                    self.held = rest;
                    break;
                }
                let head = &bytes[read..read + HEAD];
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                if length == 0 && head[3] == DATA && head[4] & END_STREAM == 0 {
                    read += HEAD;
                    continue;
                }
                self.left = HEAD + length;
            }
            let part = rest.min(self.left);
            bytes.copy_within(read..read + part, passed);
            self.left -= part;
            read += part;
            passed += part;
        }
        passed
    }
}

impl<S: AsyncRead + Unpin> Sieve<S> {
    /// Reads into `room` until there is something to pass on; nothing is the end.
    fn poll_sifted(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let held = self.held;
            room[..held].copy_from_slice(&self.head[..held]);
            let mut behind = ReadBuf::new(&mut room[held..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut behind))?;
            let read = behind.filled().len();
            if read == 0 {
                // Whoever reads on will find that it comes in the middle of something.
                self.held = 0;
                return Poll::Ready(Ok(held));
            }
            let passed = self.sift(&mut room[..held + read]);
            if passed > 0 {
                return Poll::Ready(Ok(passed));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sieve<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.over.is_empty() {
            if buffer.remaining() > SCRATCH {
                let passed = ready!(this.poll_sifted(cx, buffer.initialize_unfilled()))?;
                buffer.advance(passed);
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [0; SCRATCH];
            let passed = ready!(this.poll_sifted(cx, &mut scratch))?;
            this.over.extend(&scratch[..passed]);
        }
        while buffer.remaining() > 0
            && let Some(byte) = this.over.pop_front()
        {
            buffer.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sieve<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![0, (length >> 8) as u8, length as u8, kind, flags, 0, 0, 0, 1];
        frame.extend((0..length).map(|at| at as u8));
        frame
    }

    /// Gives out these parts one after the other.
    struct Parts(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Parts {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if let Some(mut part) = self.0.pop_front() {
                let rest = part.split_off(part.len().min(buffer.remaining()));
                buffer.put_slice(&part);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn only_frames_that_say_nothing_are_taken_out_however_they_come(
            frames in prop::collection::vec((0_u8..3, 0_u8..4, prop_oneof![Just(0_usize), 0_usize..300]), 0..20),
            cuts in prop::collection::vec(1_usize..40, 1..20),
            room in 1_usize..200,
            torn in 0_usize..9,
        ) {
            let mut all: Vec<u8> = Vec::new();
            let mut expected: Vec<u8> = Vec::new();
            for (kind, flags, length) in frames {
                let frame = frame(kind, flags, length);
                if !(kind == DATA && length == 0 && flags & END_STREAM == 0) {
                    expected.extend(&frame);
                }
                all.extend(frame);
            }
            all.extend(vec![7; torn]);
            expected.extend(vec![7; torn]);
            let mut parts = Parts(std::collections::VecDeque::new());
            let mut rest = all.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                parts.0.push_back(part.to_vec());
                rest = after;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let found = runtime.block_on(async {
                let mut sieve = Sieve::new(parts);
                let (mut found, mut bytes) = (Vec::new(), vec![0; room]);
                loop {
                    match sieve.read(&mut bytes).await.expect("readable") {
                        0 => break found,
                        count => found.extend_from_slice(&bytes[..count]),
                    }
                }
            });
            prop_assert_eq!(found, expected);
        }
    }
}
