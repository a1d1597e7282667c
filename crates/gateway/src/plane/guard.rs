//! Stands between a client and whoever reads its requests: passes on what is framed without doubt and in time.
//!
//! A head that is not gets an answer in its turn, as any other: the guard puts a request of its own in its place, which the service
//! knows and refuses, and nothing that follows is read. In the middle of a body there is no such place, so the connection breaks.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use http::request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Fault, Framing, Step};
use super::limits;
use super::patience::{Fate, Late, Wait, Watch};

/// How a connection of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Stands for a head that was refused. The connection ends with its answer.
const STAND_IN: &[u8] = b"SLUICE-REFUSED / HTTP/1.1\r\nconnection: close\r\n\r\n";
const STAND_IN_METHOD: &str = "SLUICE-REFUSED";
/// Read at a time while something is held back.
const PIECE: usize = 4096;

pub(crate) struct Guard<S> {
    stream: S,
    watch: Arc<Watch>,
    framing: Framing,
    protocol: Protocol,
    /// What came and may not pass yet.
    held: BytesMut,
    /// So many of the bytes held may.
    passable: usize,
    fault: Option<Fault>,
    /// What is left of the stand-in, once there is one.
    stand_in: Option<&'static [u8]>,
    /// The client has said all.
    ended: bool,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// Nothing of a request was passed on yet.
    Unknown,
    Http1,
    Http2,
    Tunnel,
}

/// The fault of the head that this one stands for, if it does.
pub(crate) fn refused(head: &request::Parts, watch: &Watch) -> Option<Fault> {
    if head.method.as_str() == STAND_IN_METHOD { watch.fault() } else { None }
}

impl<S> Guard<S> {
    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    pub(crate) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self {
            stream,
            watch,
            framing: Framing::default(),
            protocol: Protocol::Unknown,
            held: BytesMut::new(),
            passable: 0,
            fault: None,
            stand_in: None,
            ended: false,
        }
    }

    /// The next step for these bytes. `More` while they might still become HTTP/2.
    fn step(&mut self, bytes: &[u8]) -> Step {
        if self.protocol == Protocol::Unknown {
            let common = bytes.iter().zip(PREFACE).take_while(|(ours, theirs)| ours == theirs).count();
            if common == PREFACE.len() {
                self.protocol = Protocol::Http2;
                self.framing.open();
            } else if common == bytes.len() {
                return Step::More;
            }
        }
        let step = self.framing.step(bytes);
        if self.protocol == Protocol::Unknown && matches!(step, Step::Pass(_)) {
            self.protocol = Protocol::Http1;
        }
        step
    }

    /// Passes on what `buf` has from `start` on, as far as it may pass; the rest is held.
    fn sift(&mut self, buf: &mut ReadBuf<'_>, start: usize) {
        let mut passed = start;
        let end = buf.filled().len();
        while passed < end {
            let rest = &buf.filled()[passed..];
            match self.step(rest) {
                Step::Pass(count) => {
                    passed += count;
                    continue;
                }
                Step::Skip(count) => self.held.extend_from_slice(&rest[count..]),
                Step::More | Step::Undecided => self.held.extend_from_slice(rest),
                Step::Refuse(fault) => self.fault = Some(fault),
            }
            break;
        }
        buf.set_filled(passed);
    }

    /// The same for what is held already.
    fn sift_held(&mut self) {
        while self.passable == 0 && self.fault.is_none() && !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let step = self.step(&held);
            self.held = held;
            match step {
                Step::Pass(count) => self.passable = count,
                Step::Skip(count) => self.held.advance(count),
                Step::More | Step::Undecided => return,
                Step::Refuse(fault) => {
                    self.fault = Some(fault);
                    return;
                }
            }
        }
    }

    /// Something that was decided while nobody read.
    fn heed(&mut self) {
        match self.watch.fate() {
            Fate::Undecided => {}
            Fate::Same => self.framing.go_on(),
            Fate::Tunnel => {
                self.protocol = Protocol::Tunnel;
                self.framing.open();
            }
        }
    }

    /// Nothing more has come, and the time for it is over.
    fn lose_patience(&mut self) {
        match self.protocol {
            Protocol::Unknown | Protocol::Http1 if !self.held.is_empty() => self.fault = Some(Fault::HeadTooSlow),
            _ => self.ended = true,
        }
    }

    /// What the client owes us now.
    fn wait(&self) -> Wait {
        match self.protocol {
            Protocol::Tunnel => Wait::Nothing,
            Protocol::Http2 => Wait::Request,
            Protocol::Http1 if self.held.is_empty() => Wait::Request,
            Protocol::Unknown | Protocol::Http1 => Wait::Head,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        loop {
            me.heed();
            if let Some(stand_in) = &mut me.stand_in {
                if stand_in.is_empty() {
                    // Nothing more is read; the answer ends the connection.
                    me.watch.waits(Wait::Nothing, cx);
                    return Poll::Pending;
                }
                let (now, later) = stand_in.split_at(stand_in.len().min(buf.remaining()));
                buf.put_slice(now);
                *stand_in = later;
                return Poll::Ready(Ok(()));
            }
            me.sift_held();
            if me.passable > 0 {
                let count = me.passable.min(buf.remaining());
                buf.put_slice(&me.held[..count]);
                me.held.advance(count);
                me.passable -= count;
                return Poll::Ready(Ok(()));
            }
            if let Some(fault) = me.fault {
                if me.framing.is_in_body() {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
                }
                me.watch.refuse(fault);
                me.stand_in = Some(STAND_IN);
                continue;
            }
            if me.ended {
                return Poll::Ready(Ok(()));
            }
            let start = buf.filled().len();
            match me.poll_more(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() > start => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if me.watch.late() >= Late::Reading => me.lose_patience(),
                Poll::Pending => {
                    me.watch.waits(me.wait(), cx);
                    return Poll::Pending;
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Waits until a whole head is there, or something else to answer, with no memory kept ready for it. `None`: the client has gone,
    /// or is to go.
    pub(crate) fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<Option<Spoken>> {
        loop {
            self.heed();
            self.sift_held();
            if self.protocol == Protocol::Http2 {
                return Poll::Ready(Some(Spoken::Http2));
            }
            if self.passable > 0 || self.fault.is_some() {
                return Poll::Ready(Some(Spoken::Http1));
            }
            if self.ended || self.watch.late() == Late::Idle {
                return Poll::Ready(None);
            }
            if self.held.is_empty() {
                self.held = BytesMut::new();
            }
            match self.poll_hold(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending if self.watch.late() >= Late::Reading => self.lose_patience(),
                Poll::Pending => {
                    self.watch.waits(self.wait(), cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether the next byte is the first one of a request.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.protocol == Protocol::Http1 && self.held.is_empty() && self.fault.is_none() && self.framing.is_in_head()
    }

    /// Reads once, into what is held.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut piece = [MaybeUninit::uninit(); PIECE];
        let mut piece = ReadBuf::uninit(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        self.ended = piece.filled().is_empty();
        self.held.extend_from_slice(piece.filled());
        Poll::Ready(Ok(()))
    }

    /// Reads once, straight into `buf` where nothing is held back.
    fn poll_more(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let start = buf.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            if buf.filled().len() == start {
                self.ended = true;
            }
            self.sift(buf, start);
            return Poll::Ready(Ok(()));
        }
        if self.held.len() > limits::HEAD_BYTES {
            // More than a head has room for is only there when it is not decided what it belongs to.
            return Poll::Pending;
        }
        self.poll_hold(cx)
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    fn poll_writing<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), cx);
        if written.is_ready() {
            self.watch.gets_on();
            return written;
        }
        if self.watch.late() == Late::Writing {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.watch.is_stuck(cx);
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(cx, S::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_writing(cx, S::poll_shutdown)
    }
}

impl<S> Drop for Guard<S> {
    fn drop(&mut self) {
        if self.framing.is_in_body() || self.stand_in.is_some() || !self.held.is_empty() {
            self.watch.leaves_unread();
        }
    }
}
