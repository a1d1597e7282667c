//! What is asked and answered: bytes that both sides know from a seed, so that a wrong one is seen.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// The longest body.
pub(super) const LONGEST: usize = 64 << 10;
/// A prime: no two seeds below it have the same bytes.
const PERIOD: usize = 251;
/// What is sent in parts is sent in parts of this length.
const PART: usize = 12_000;
/// How a message of gRPC begins: whether it is compressed, and its length.
const PREFIX: usize = 5;

static PATTERN: LazyLock<Bytes> = LazyLock::new(|| (0..LONGEST + PERIOD).map(|at| (at % PERIOD) as u8).collect());

pub(super) fn pattern(seed: u64, length: usize) -> Bytes {
    let start = seed as usize % PERIOD;
    PATTERN.slice(start..start + length)
}

/// A request, and the answer that there is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) seed: u64,
    /// Bytes of the request's body, and of the answer's.
    pub(super) sends: usize,
    pub(super) gets: usize,
    /// Neither side says beforehand how long its body is.
    pub(super) in_parts: bool,
}

impl Order {
    /// As the last four segments of a path.
    pub(super) fn path(&self) -> String {
        let Self { seed, sends, gets, in_parts } = self;
        format!("{seed}/{sends}/{gets}/{}", u8::from(*in_parts))
    }

    pub(super) fn read(path: &str) -> Option<Self> {
        let mut segments = path.rsplit('/');
        let mut number = || segments.next()?.parse::<u64>().ok();
        let (in_parts, gets, sends, seed) = (number()?, number()?, number()?, number()?);
        let length = |bytes: u64| usize::try_from(bytes).ok().filter(|bytes| *bytes <= LONGEST);
        Some(Self { seed, sends: length(sends)?, gets: length(gets)?, in_parts: in_parts == 1 })
    }

    pub(super) fn request(&self) -> Bytes {
        pattern(self.seed, self.sends)
    }

    pub(super) fn answer(&self) -> Bytes {
        pattern(self.seed + 1, self.gets)
    }
}

/// A body that is known beforehand, whole or in parts with pauses between them.
#[derive(Debug, Default)]
pub(super) struct Parts<Held = ()> {
    parts: VecDeque<Bytes>,
    length: Option<u64>,
    pauses: bool,
    /// Lives as long as the body.
    _held: Held,
}

impl<Held> Parts<Held> {
    pub(super) fn new(bytes: &Bytes, in_parts: bool, held: Held) -> Self {
        let length = (!in_parts).then_some(bytes.len() as u64);
        let size = if in_parts { PART } else { LONGEST };
        let parts = (0..bytes.len()).step_by(size).map(|at| bytes.slice(at..bytes.len().min(at + size))).collect();
        Self { parts, length, pauses: false, _held: held }
    }

    /// Messages of gRPC.
    pub(super) fn messages(messages: &[Bytes], held: Held) -> Self {
        let parts = messages.iter().map(message).collect();
        Self { parts, length: None, pauses: false, _held: held }
    }
}

pub(super) fn message(payload: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + payload.len());
    framed.put_u8(0);
    framed.put_u32(payload.len() as u32);
    framed.extend_from_slice(payload);
    framed.freeze()
}

impl<Held: Unpin> Body for Parts<Held> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // The next part is another turn's, so that streams mix.
        self.pauses = !self.pauses;
        if !self.pauses && self.length.is_none() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.parts.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.length.is_some() && self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let order = Order { seed: 7, sends: 10, gets: LONGEST, in_parts: true };
        assert_eq!(Order::read(&format!("/mixed/{}", order.path())), Some(order));
        assert_eq!(Order::read("/mixed/1/2"), None);
        assert_eq!(Order::read(&format!("/1/2/{}/0", LONGEST + 1)), None);
        assert_eq!((order.request().len(), order.answer().len()), (10, LONGEST));
        assert_ne!(pattern(1, 4), pattern(2, 4));
    }
}
