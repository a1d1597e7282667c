//! Backends in this process, each on an address of its own, which end their connections as servers do, and die when told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Collected, Either};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::body::{Order, Parts};
use super::draws::Draws;
use super::websocket::{self, ACCEPT};

/// Where backends listen, each on an address of 127.96.0.0/12.
pub(super) const PORT: u16 = 7070;

/// How a backend ends connections that are still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    Never,
    /// With `Connection: close` after a number of requests.
    Hinting,
    /// Without a word, after it was idle for some milliseconds.
    Silent,
    /// It speaks HTTP/2, and says GOAWAY after a number of requests.
    Http2,
}

pub(super) struct Backend {
    pub(super) address: SocketAddr,
    busy: Arc<AtomicUsize>,
    /// Dropped: the listener and every connection are closed at once.
    tasks: JoinSet<()>,
}

impl Backend {
    pub(super) async fn start(habit: Habit, seed: u64) -> anyhow::Result<Self> {
        let listener = listener().await?;
        let address = listener.local_addr()?;
        let busy = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(
            listener,
            habit,
            Draws::of(seed, u64::from(u32::from_be_bytes(octets(address)))),
            busy.clone(),
        ));
        Ok(Self { address, busy, tasks })
    }

    /// Requests that it has not answered to the end.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::SeqCst)
    }

    pub(super) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

fn octets(address: SocketAddr) -> [u8; 4] {
    match address {
        SocketAddr::V4(address) => address.ip().octets(),
        SocketAddr::V6(_) => [0; 4],
    }
}

async fn listener() -> anyhow::Result<TcpListener> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    loop {
        // Another run on this machine has other addresses.
        let number = NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 15) * 0x1_0000;
        let [_, high, middle, low] = (0x60_0000 + number).to_be_bytes();
        match TcpListener::bind(SocketAddr::from(([127, high, middle, low], PORT))).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            bound => return Ok(bound?),
        }
    }
}

async fn serve(listener: TcpListener, habit: Habit, mut draws: Draws, busy: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        // Refused only by sockets that are broken already.
        let _ = stream.set_nodelay(true);
        let served = match habit {
            Habit::Never | Habit::Silent => u64::MAX,
            Habit::Hinting => draws.between(1, 60),
            Habit::Http2 => draws.between(20, 400),
        };
        let patience = Duration::from_millis(draws.between(2, 60));
        let desk = Arc::new(Desk {
            left: AtomicU64::new(served),
            full: Notify::new(),
            busy: busy.clone(),
            mine: AtomicUsize::new(0),
            habit,
        });
        connections.spawn(async move {
            // What breaks here is seen by whoever asked.
            let _ = match habit {
                Habit::Http2 => speak_http2(stream, desk).await,
                _ => speak_http1(stream, desk, patience).await,
            };
        });
    }
}

/// One connection.
struct Desk {
    left: AtomicU64,
    /// Told when no more requests are wanted.
    full: Notify,
    busy: Arc<AtomicUsize>,
    mine: AtomicUsize,
    habit: Habit,
}

/// A request that is not answered to its end.
struct Busy(Arc<Desk>);

impl Busy {
    fn at(desk: &Arc<Desk>) -> Self {
        desk.busy.fetch_add(1, Ordering::SeqCst);
        desk.mine.fetch_add(1, Ordering::SeqCst);
        Self(desk.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        self.0.mine.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn speak_http1(stream: TcpStream, desk: Arc<Desk>, patience: Duration) -> hyper::Result<()> {
    let asked = desk.clone();
    let service = service_fn(move |request| answer(asked.clone(), request));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
    if desk.habit != Habit::Silent {
        return connection.await;
    }
    let mut idle = false;
    loop {
        let pause = tokio::time::sleep(patience);
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = pause => {}
        }
        let quiet = desk.mine.load(Ordering::SeqCst) == 0;
        if idle && quiet {
            connection.as_mut().graceful_shutdown();
            return connection.await;
        }
        idle = quiet;
    }
}

async fn speak_http2(stream: TcpStream, desk: Arc<Desk>) -> hyper::Result<()> {
    let asked = desk.clone();
    let service = service_fn(move |request| answer(asked.clone(), request));
    let mut connection =
        pin!(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = desk.full.notified() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

type Answer = Either<Parts<Option<Busy>>, Echo>;

async fn answer(desk: Arc<Desk>, request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let busy = Busy::at(&desk);
    let last = desk.left.fetch_sub(1, Ordering::SeqCst) == 1;
    if last {
        desk.full.notify_one();
    }
    if request.headers().contains_key("upgrade") {
        return Ok(upgraded(request, busy));
    }
    if request.headers().get("content-type").is_some_and(|kind| kind == "application/grpc") {
        let mut response = Response::new(Either::Right(Echo { body: request.into_body(), ended: false, _busy: busy }));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        return Ok(response);
    }
    let mut response = ordered(request, busy).await;
    if last && desk.habit == Habit::Hinting {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// What the order wants, if the request came as it was sent.
async fn ordered(request: Request<Incoming>, busy: Busy) -> Response<Answer> {
    let refused = |why: String, busy| {
        let mut response = Response::new(Either::Left(Parts::new(&Bytes::from(why), false, Some(busy))));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    };
    let Some(order) = Order::read(request.uri().path()) else {
        return refused(format!("{} is no order", request.uri()), busy);
    };
    match request.into_body().collect().await.map(Collected::to_bytes) {
        Err(error) => refused(format!("the request broke off: {error}"), busy),
        Ok(body) if body != order.request() => refused("the request has another body".into(), busy),
        Ok(_) => Response::new(Either::Left(Parts::new(&order.answer(), order.in_parts, Some(busy)))),
    }
}

/// Gives messages back as they come, and ends the call well.
struct Echo {
    body: Incoming,
    ended: bool,
    _busy: Busy,
}

impl Body for Echo {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(frame) => Poll::Ready(Some(frame)),
            None => {
                self.ended = true;
                let status = (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
                Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter([status])))))
            }
        }
    }
}

/// Goes over to WebSocket and gives every message back.
fn upgraded(mut request: Request<Incoming>, busy: Busy) -> Response<Answer> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let _busy = busy;
        let Ok(stream) = upgrade.await else { return };
        // Until the other side closes.
        let _ = echo(TokioIo::new(stream)).await;
    });
    let mut response = Response::new(Either::Left(Parts::new(&Bytes::new(), false, None)));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", ACCEPT)] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn echo(stream: TokioIo<hyper::upgrade::Upgraded>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let message = websocket::read(&mut stream).await?;
        websocket::write(&mut stream, message.kind, &message.payload, None).await?;
        if message.kind == websocket::CLOSE {
            return stream.shutdown().await;
        }
    }
}
