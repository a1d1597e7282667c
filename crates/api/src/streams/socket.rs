//! WebSockets with sockets: several channels in one, or bytes of another protocol in it.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;

use super::channels::{Dialect, Said};
use super::pipes::{self, IDLE_TIME, Inlet, Out, READ_BYTES, Write};
use super::websocket::{self, Decoder, Message};

/// Bytes of a tunnel that may wait on their way.
const TUNNEL_BYTES: usize = 64 << 10;

/// The end of a WebSocket with channels that a session holds.
pub(super) struct Channels {
    pub(super) wire: mpsc::Sender<Out>,
    pub(super) inlets: Vec<Inlet>,
}

/// A WebSocket on which the client speaks on these channels, and what must run for it to work.
pub(super) fn channels<T>(io: T, dialect: Dialect, listened: &[u8]) -> (Channels, impl Future<Output = ()> + Send)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (wire, outgoing) = pipes::wire();
    let (data, inlets): (Vec<_>, Vec<_>) = listened.iter().map(|_| pipes::inlet()).unzip();
    let mut data: Vec<(u8, Option<mpsc::Sender<Bytes>>)> =
        listened.iter().copied().zip(data.into_iter().map(Some)).collect();
    let (read, write) = tokio::io::split(io);
    let pongs = wire.clone();
    let reader = async move {
        let mut messages = Messages::new(read, pongs);
        while let Some(message) = messages.next().await {
            let Some(said) = dialect.read(message) else { continue };
            let (Said::Data { channel, .. } | Said::Closed { channel }) = said;
            let Some((_, slot)) = data.iter_mut().find(|(candidate, _)| *candidate == channel) else { continue };
            match said {
                Said::Closed { .. } => *slot = None,
                Said::Data { bytes, .. } if !bytes.is_empty() => {
                    if let Some(data) = slot {
                        // A reader that has left misses nothing.
                        let _unread = data.send(bytes).await;
                    }
                }
                Said::Data { .. } => {}
            }
        }
    };
    (Channels { wire, inlets }, pipes::run(reader, pipes::write(write, outgoing, Framed(dialect))))
}

/// The bytes inside a WebSocket's binary messages, and what must run for them to come.
pub(super) fn tunnel<T>(io: T) -> (DuplexStream, impl Future<Output = ()> + Send)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (near, far) = tokio::io::duplex(TUNNEL_BYTES);
    let (wire, outgoing) = pipes::wire();
    let (read, write) = tokio::io::split(io);
    let (mut inside_read, mut inside_write) = tokio::io::split(far);
    let pongs = wire.clone();
    let reader = async move {
        let mut messages = Messages::new(read, pongs);
        while let Some(message) = messages.next().await {
            let (Message::Binary(bytes) | Message::Text(bytes)) = message else { continue };
            if tokio::io::AsyncWriteExt::write_all(&mut inside_write, &bytes).await.is_err() {
                return;
            }
        }
    };
    let inside = async move {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        while let Ok(1..) = inside_read.read_buf(&mut buffer).await {
            if wire.send(Out::Data(0, buffer.split().freeze())).await.is_err() {
                return;
            }
            buffer.reserve(READ_BYTES);
        }
        let _gone = wire.send(Out::Finish).await;
    };
    let running = async move {
        tokio::join!(inside, pipes::run(reader, pipes::write(write, outgoing, Tunnelled)));
    };
    (near, running)
}

/// A client's messages; pings are answered on the way.
struct Messages<R> {
    read: R,
    decoder: Decoder,
    buffer: BytesMut,
    pongs: mpsc::Sender<Out>,
}

impl<R: AsyncRead + Unpin> Messages<R> {
    fn new(read: R, pongs: mpsc::Sender<Out>) -> Self {
        Self { read, decoder: Decoder::default(), buffer: BytesMut::with_capacity(READ_BYTES), pongs }
    }

    /// `None` when the client has hung up, or cannot be understood.
    async fn next(&mut self) -> Option<Message> {
        loop {
            match self.decoder.next() {
                Ok(Some(Message::Ping(payload))) => {
                    let _gone = self.pongs.send(Out::Raw(websocket::pong(&payload))).await;
                }
                Ok(Some(Message::Pong)) => {}
                Ok(Some(Message::Close)) => return None,
                Ok(Some(message)) => return Some(message),
                Ok(None) => {
                    self.buffer.reserve(READ_BYTES);
                    let read = tokio::time::timeout(IDLE_TIME, self.read.read_buf(&mut self.buffer)).await;
                    let Ok(Ok(1..)) = read else { return None };
                    self.decoder.feed(&self.buffer.split());
                }
                Err(error) => {
                    tracing::debug!(%error, "WebSocket ended");
                    return None;
                }
            }
        }
    }
}

struct Framed(Dialect);

impl Write for Framed {
    fn write(&mut self, out: Out) -> Vec<u8> {
        match out {
            // Channels are numbered by bytes.
            Out::Data(channel, bytes) => self.0.write(channel as u8, &bytes),
            Out::End(_) | Out::Reply(_) => Vec::new(),
            Out::Raw(frame) => frame,
            Out::Finish => websocket::close(),
        }
    }
}

struct Tunnelled;

impl Write for Tunnelled {
    fn write(&mut self, out: Out) -> Vec<u8> {
        match out {
            Out::Data(_, bytes) => websocket::binary(&bytes),
            Out::End(_) | Out::Reply(_) => Vec::new(),
            Out::Raw(frame) => frame,
            Out::Finish => websocket::close(),
        }
    }
}
