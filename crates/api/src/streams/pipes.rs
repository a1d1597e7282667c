//! The ways between a client's streams and a pod's: bounded in both directions, so that whoever is slow is waited for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// Read from a client or a pod at once.
pub(super) const READ_BYTES: usize = 32 << 10;
/// A client that says nothing for this long, not even a ping, has been forgotten.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(4 * 3600);
/// Chunks that a stream's reader may lag behind.
const MAX_INCOMING: usize = 16;
/// Frames that the connection may lag behind.
const MAX_OUTGOING: usize = 16;
/// How long a client may take to hang up after our last word.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// What goes out on a connection, in this order.
#[derive(Debug)]
pub(super) enum Out {
    Data(u32, Bytes),
    /// Nothing more comes on this stream.
    End(u32),
    /// A stream that was opened is taken.
    Reply(u32),
    /// A frame as it is.
    Raw(Vec<u8>),
    /// The last word.
    Finish,
}

/// Makes bytes of what goes out.
pub(super) trait Write {
    fn write(&mut self, out: Out) -> Vec<u8>;
}

pub(super) fn wire() -> (mpsc::Sender<Out>, mpsc::Receiver<Out>) {
    mpsc::channel(MAX_OUTGOING)
}

pub(super) fn inlet() -> (mpsc::Sender<Bytes>, Inlet) {
    let (data, inlet) = mpsc::channel(MAX_INCOMING);
    (data, Inlet(inlet))
}

/// What a client says on one stream, until it ends it or is gone.
#[derive(Debug)]
pub(super) struct Inlet(mpsc::Receiver<Bytes>);

impl Inlet {
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }

    /// Moves everything into the pod. A pod that takes no more is left alone.
    pub(super) async fn pump(mut self, mut into: impl AsyncWrite + Unpin) {
        while let Some(bytes) = self.next().await {
            if into.write_all(&bytes).await.is_err() || into.flush().await.is_err() {
                return;
            }
        }
        let _taken = into.shutdown().await;
    }
}

/// What a client hears on one stream.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    id: u32,
    wire: mpsc::Sender<Out>,
}

impl Outlet {
    pub(super) fn new(id: u32, wire: mpsc::Sender<Out>) -> Self {
        Self { id, wire }
    }

    /// Whether the client is still there.
    pub(super) async fn say(&self, bytes: impl Into<Bytes>) -> bool {
        self.wire.send(Out::Data(self.id, bytes.into())).await.is_ok()
    }

    pub(super) async fn end(&self) {
        let _gone = self.wire.send(Out::End(self.id)).await;
    }

    /// Moves everything out of the pod, until it says nothing more.
    pub(super) async fn pump(&self, mut from: impl AsyncRead + Unpin) {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        while let Ok(1..) = from.read_buf(&mut buffer).await {
            if !self.say(buffer.split()).await {
                return;
            }
            buffer.reserve(READ_BYTES);
        }
    }
}

/// Writes what goes out until the last word is said.
pub(super) async fn write(
    write: impl AsyncWrite + Send,
    mut outgoing: mpsc::Receiver<Out>,
    mut frames: impl Write + Send,
) {
    let mut write = std::pin::pin!(write);
    while let Some(out) = outgoing.recv().await {
        let finished = matches!(out, Out::Finish);
        let bytes = frames.write(out);
        if write.write_all(&bytes).await.is_err() {
            return;
        }
        if (finished || outgoing.is_empty()) && write.flush().await.is_err() {
            return;
        }
        if finished {
            break;
        }
    }
    let _gone = write.shutdown().await;
}

/// A connection lives until the client is gone, or has had time to hear our last word.
pub(super) async fn run(reader: impl Future<Output = ()>, writer: impl Future<Output = ()>) {
    let mut reader = std::pin::pin!(reader);
    tokio::select! {
        () = reader.as_mut() => {}
        () = writer => {
            let _over = tokio::time::timeout(LINGER_TIME, reader).await;
        }
    }
}
