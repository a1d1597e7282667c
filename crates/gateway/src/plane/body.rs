//! Bodies on their way through: what goes to backends, what goes to clients.

mod pace;

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep_until};

pub(crate) use self::pace::Pace;
use super::limits;
use super::patience::UnderWay;
use super::trial::Capture;
use super::worker::Passage;

/// The body of a request to a backend.
pub(crate) enum RequestBody {
    Empty,
    /// One that was kept.
    Whole(Bytes),
    Streamed(Paced),
    Keeping(Keeping),
}

impl RequestBody {
    pub(crate) fn streamed(body: Incoming, pace: Rc<Pace>, under_way: Option<UnderWay>) -> Self {
        Self::Streamed(Paced { body, pace, _under_way: under_way })
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Whole(bytes) }
    }

    /// The same body, kept while it passes.
    pub(crate) fn kept(self) -> (Self, Rc<Kept>) {
        match self {
            Self::Empty => (Self::Empty, Kept::new(State::Whole(Bytes::new()))),
            Self::Whole(bytes) => (Self::Whole(bytes.clone()), Kept::new(State::Whole(bytes))),
            Self::Keeping(keeping) => {
                let kept = keeping.kept.clone();
                (Self::Keeping(keeping), kept)
            }
            Self::Streamed(rest) => {
                let fits = rest.body.size_hint().lower() <= limits::KEPT_BODY as u64;
                let kept = Kept::new(if fits { State::Passing(BytesMut::new()) } else { State::Lost });
                (Self::Keeping(Keeping { first: None, rest: Some(rest), kept: kept.clone() }), kept)
            }
        }
    }
}

/// The client did not send the whole body of its request, or not in a way that can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    #[error("the request's body broke off")]
    Broken(#[source] hyper::Error),
    #[error("the request's body did not come in time")]
    Slow,
}

impl Interrupted {
    /// If this is why a request could not be sent.
    pub(crate) fn cause(error: &hyper::Error) -> Option<&Self> {
        std::error::Error::source(error).and_then(<dyn std::error::Error>::downcast_ref)
    }
}

/// As the client sends it, if that is fast enough.
pub(crate) struct Paced {
    body: Incoming,
    pace: Rc<Pace>,
    /// Until nobody reads it any more.
    _under_way: Option<UnderWay>,
}

type Next = Option<Result<Frame<Bytes>, Interrupted>>;

impl Paced {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let Self { body, pace, .. } = self;
        if pace.is_slow() {
            return Poll::Ready(Some(Err(Interrupted::Slow)));
        }
        let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
            pace.waits(cx);
            return Poll::Pending;
        };
        pace.came(frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len));
        Poll::Ready(frame.map(|frame| frame.map_err(Interrupted::Broken)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Next> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Streamed(paced) => paced.poll_frame(cx),
            Self::Keeping(keeping) => keeping.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed(paced) => paced.body.is_end_stream(),
            Self::Keeping(Keeping { first, rest, .. }) => {
                first.is_none() && rest.as_ref().is_none_or(|rest| rest.body.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(paced) => paced.body.size_hint(),
            Self::Keeping(Keeping { first, rest, .. }) => {
                let first = first.as_ref().map_or(0, |first| first.len() as u64);
                let rest = rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.body.size_hint());
                let mut both = SizeHint::new();
                if let Some(upper) = rest.upper() {
                    both.set_upper(first + upper);
                }
                both.set_lower(first + rest.lower());
                both
            }
        }
    }
}

/// What has passed of a body, for whoever wants to send it once more.
pub(crate) struct Kept {
    state: RefCell<State>,
    settled: Notify,
}

enum State {
    Passing(BytesMut),
    Whole(Bytes),
    /// Who sent it has given up in the middle: what has passed, and what the client has still to send.
    Returned(Bytes, Paced),
    /// Too long, broken off, or with trailers.
    Lost,
}

impl Kept {
    fn new(state: State) -> Rc<Self> {
        Rc::new(Self { state: RefCell::new(state), settled: Notify::new() })
    }

    /// The body, as soon as all of it has passed; `None` when it could not be kept.
    pub(crate) async fn settled(&self) -> Option<Bytes> {
        loop {
            let settled = self.settled.notified();
            match &*self.state.borrow() {
                State::Passing(_) => {}
                State::Whole(bytes) => return Some(bytes.clone()),
                State::Returned(..) | State::Lost => return None,
            }
            settled.await;
        }
    }

    /// The body, if all of it has passed.
    pub(crate) fn whole(&self) -> Option<RequestBody> {
        match &*self.state.borrow() {
            State::Whole(bytes) => Some(RequestBody::whole(bytes.clone())),
            State::Passing(_) | State::Returned(..) | State::Lost => None,
        }
    }

    /// The body for another attempt, once the former one has let go of it. It is kept again.
    pub(crate) async fn again(self: &Rc<Self>) -> Option<RequestBody> {
        self.settled().await;
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut *state, State::Lost) {
            State::Returned(passed, rest) => {
                *state = State::Passing(BytesMut::from(&passed[..]));
                let first = Some(passed).filter(|passed| !passed.is_empty());
                Some(RequestBody::Keeping(Keeping { first, rest: Some(rest), kept: self.clone() }))
            }
            State::Whole(bytes) => {
                *state = State::Whole(bytes.clone());
                Some(RequestBody::whole(bytes))
            }
            State::Passing(_) | State::Lost => None,
        }
    }

    /// The next frame of the body, or its end.
    fn pass(&self, frame: Option<&Result<Frame<Bytes>, Interrupted>>) {
        let mut state = self.state.borrow_mut();
        let State::Passing(passed) = &mut *state else { return };
        let next = match frame.map(|frame| frame.as_ref().ok().and_then(Frame::data_ref)) {
            None => State::Whole(std::mem::take(passed).freeze()),
            Some(Some(data)) if passed.len() + data.len() <= limits::KEPT_BODY => {
                passed.extend_from_slice(data);
                return;
            }
            Some(_) => State::Lost,
        };
        *state = next;
        self.settled.notify_waiters();
    }
}

/// A body that is kept while it passes. When it is given up early, what is left of it goes back.
pub(crate) struct Keeping {
    /// What another attempt has had already.
    first: Option<Bytes>,
    rest: Option<Paced>,
    kept: Rc<Kept>,
}

impl Keeping {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let frame = ready!(rest.poll_frame(cx));
        self.kept.pass(frame.as_ref());
        if rest.body.is_end_stream() {
            self.kept.pass(None);
        }
        Poll::Ready(frame)
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let mut state = self.kept.state.borrow_mut();
        if let State::Passing(passed) = &mut *state {
            let passed = std::mem::take(passed).freeze();
            *state = self.rest.take().map_or(State::Lost, |rest| State::Returned(passed, rest));
            self.kept.settled.notify_waiters();
        }
    }
}

/// Why the body of an answer breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the backend broke off its answer")]
    Backend(#[from] hyper::Error),
    #[error("the answer did not end in time")]
    Late,
}

/// The body of an answer to a client.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every answer is a backend's, and another allocation would cost each"
)]
pub(crate) enum AnswerBody {
    /// Ours.
    Own(Option<Bytes>),
    Streamed(Streamed),
}

/// A backend's, with what is to be settled when it has been read to its end.
pub(crate) struct Streamed {
    body: Incoming,
    passage: Option<Passage>,
    /// Where it is to be compared.
    capture: Option<Box<Capture>>,
    /// Until when it has to end.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(crate) fn streamed(
        body: Incoming,
        passage: Passage,
        capture: Option<Capture>,
        deadline: Option<Instant>,
    ) -> Self {
        if body.is_end_stream() {
            capture.map(Capture::finish).unwrap_or_default();
            passage.complete();
            return Self::Own(None);
        }
        let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline.into())));
        let capture = capture.map(Box::new);
        Self::Streamed(Streamed { body, passage: Some(passage), capture, deadline })
    }
}

impl Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let late = self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready());
        let frame = if late { Some(Err(Broken::Late)) } else { ready!(self.poll_backend(cx)) };
        if let (Some(Ok(frame)), Some(passage)) = (&frame, &mut self.passage) {
            passage.flight.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        if self.capture.is_some() {
            self.capture(frame.as_ref());
        }
        match &frame {
            Some(Err(_)) => self.passage.take().into_iter().for_each(Passage::break_off),
            None => self.passage.take().into_iter().for_each(Passage::complete),
            // The last frame of a body of known length: nobody may ask again.
            Some(Ok(_)) if self.body.is_end_stream() => self.passage.take().into_iter().for_each(Passage::complete),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    /// The next frame, or the end, of a body that is to be compared.
    fn capture(&mut self, frame: Option<&Result<Frame<Bytes>, Broken>>) {
        let Some(mut capture) = self.capture.take() else { return };
        let goes_on = match frame {
            Some(Err(_)) => false,
            Some(Ok(frame)) => frame.data_ref().is_none_or(|data| capture.push(data)),
            None => true,
        };
        match goes_on {
            true if frame.is_none() || self.body.is_end_stream() => capture.finish(),
            true => self.capture = Some(capture),
            false => {}
        }
    }

    fn poll_backend(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.body).poll_frame(cx).map_err(Broken::from)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}

/// The body of an answer as the client's connection knows it: until it is over, the request is under way.
pub(crate) struct ClientBody {
    body: AnswerBody,
    _under_way: UnderWay,
}

impl ClientBody {
    pub(crate) fn new(body: AnswerBody, under_way: UnderWay) -> Self {
        Self { body, _under_way: under_way }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
