//! One SPDY connection: the streams that a client opens, each with its own way in and out.
//!
//! The clients there are know nothing of SPDY's windows, so a stream that nobody reads holds up its connection, as it does
//! with the servers that they were made for.

use std::collections::HashMap;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::{self, Decoder, Encoder, Frame, REFUSED, SpdyError};
use super::headers::{self, Headers};
use crate::streams::pipes::{self, IDLE_TIME, Inlet, Out, Outlet, READ_BYTES, Write};

/// Streams at one time: port-forward needs two for each connection.
const MAX_STREAMS: usize = 512;
/// Opened streams that wait to be looked at.
const MAX_WAITING: usize = 16;

/// A stream that a client has opened.
pub(crate) struct Opened {
    headers: Headers,
    pub(crate) inlet: Inlet,
    pub(crate) outlet: Outlet,
    /// The client wants no more of it.
    pub(crate) reset: CancellationToken,
}

impl Opened {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        headers::value(&self.headers, name)
    }
}

/// The end of a connection that a session holds.
pub(crate) struct Connection {
    pub(crate) opened: mpsc::Receiver<Opened>,
    pub(crate) wire: mpsc::Sender<Out>,
}

/// A connection over these bytes, and what must run for it to work.
pub(crate) fn serve<T>(io: T) -> (Connection, impl Future<Output = ()> + Send)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (wire, outgoing) = pipes::wire();
    let (open, opened) = mpsc::channel(MAX_WAITING);
    let (read, write) = tokio::io::split(io);
    let reader = Reader { decoder: Decoder::default(), streams: HashMap::new(), last: 0, wire: wire.clone(), open };
    let running = pipes::run(reader.run(read), pipes::write(write, outgoing, Frames::default()));
    (Connection { opened, wire }, running)
}

struct Reader {
    decoder: Decoder,
    streams: HashMap<u32, Stream>,
    /// The newest stream: their numbers rise.
    last: u32,
    wire: mpsc::Sender<Out>,
    open: mpsc::Sender<Opened>,
}

struct Stream {
    /// Until the client has said everything.
    data: Option<mpsc::Sender<bytes::Bytes>>,
    reset: CancellationToken,
}

impl Reader {
    async fn run(mut self, read: impl AsyncRead + Send) {
        let mut read = std::pin::pin!(read);
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        while let Ok(Ok(1..)) = tokio::time::timeout(IDLE_TIME, read.read_buf(&mut buffer)).await {
            self.decoder.feed(&buffer.split());
            if let Err(error) = self.take().await {
                tracing::debug!(%error, "SPDY connection ended");
                return;
            }
            buffer.reserve(READ_BYTES);
        }
    }

    async fn take(&mut self) -> Result<(), SpdyError> {
        while let Some(frame) = self.decoder.next()? {
            match frame {
                Frame::Open { id, last, headers } => self.open(id, last, headers).await,
                Frame::Data { id, last, bytes } => self.data(id, last, bytes).await,
                Frame::Reset { id } => {
                    if let Some(stream) = self.streams.remove(&id) {
                        stream.reset.cancel();
                    }
                }
                // Ours would be even, and we send none.
                Frame::Ping { id } if !id.is_multiple_of(2) => self.say(frame::ping(id)).await,
                Frame::Ping { .. } | Frame::GoAway | Frame::Other => {}
            }
        }
        Ok(())
    }

    async fn open(&mut self, id: u32, last: bool, headers: Headers) {
        // Streams that are over make room.
        self.streams.retain(|_, stream| !stream.reset.is_cancelled());
        if id.is_multiple_of(2) || id <= self.last || self.streams.len() >= MAX_STREAMS {
            return self.say(frame::reset(id, REFUSED)).await;
        }
        self.last = id;
        let (data, inlet) = pipes::inlet();
        let reset = CancellationToken::new();
        self.streams.insert(id, Stream { data: (!last).then_some(data), reset: reset.clone() });
        let outlet = Outlet::new(id, self.wire.clone());
        let _gone = self.wire.send(Out::Reply(id)).await;
        // Nobody looks at streams once the session is over.
        let _over = self.open.send(Opened { headers, inlet, outlet, reset }).await;
    }

    async fn data(&mut self, id: u32, last: bool, bytes: bytes::Bytes) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let (Some(data), false) = (&stream.data, bytes.is_empty()) {
            // A reader that has left misses nothing.
            let _unread = data.send(bytes).await;
        }
        if last {
            stream.data = None;
        }
    }

    async fn say(&self, frame: Vec<u8>) {
        let _gone = self.wire.send(Out::Raw(frame)).await;
    }
}

/// The outgoing half.
#[derive(Default)]
struct Frames {
    encoder: Encoder,
    last: u32,
}

impl Write for Frames {
    fn write(&mut self, out: Out) -> Vec<u8> {
        match out {
            Out::Data(id, bytes) => frame::data(id, &bytes, false),
            Out::End(id) => frame::data(id, b"", true),
            Out::Reply(id) => {
                self.last = id;
                self.encoder.reply(id)
            }
            Out::Raw(frame) => frame,
            Out::Finish => frame::go_away(self.last),
        }
    }
}
