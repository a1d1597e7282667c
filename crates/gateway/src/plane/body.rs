//! Bodies on their way through: what goes to backends, what goes to clients.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::worker::Passage;

/// The body of a request to a backend.
pub(crate) enum RequestBody {
    Empty,
    Streamed(Incoming),
}

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> Self {
        if body.is_end_stream() { Self::Empty } else { Self::Streamed(body) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// The body of an answer to a client.
pub(crate) enum AnswerBody {
    /// Ours.
    Own(Option<Bytes>),
    /// A backend's, with what is to be settled when it has been read to its end.
    Streamed { body: Incoming, passage: Option<Passage> },
}

impl AnswerBody {
    pub(crate) fn streamed(body: Incoming, passage: Passage) -> Self {
        if body.is_end_stream() {
            passage.complete();
            return Self::Own(None);
        }
        Self::Streamed { body, passage: Some(passage) }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (body, passage) = match self.get_mut() {
            Self::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed { body, passage } => (body, passage),
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        match &frame {
            Some(Err(_)) => passage.take().into_iter().for_each(Passage::break_off),
            None => passage.take().into_iter().for_each(Passage::complete),
            // The last frame of a body of known length: nobody may ask again.
            Some(Ok(_)) if body.is_end_stream() => passage.take().into_iter().for_each(Passage::complete),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Streamed { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Streamed { body, .. } => body.size_hint(),
        }
    }
}
