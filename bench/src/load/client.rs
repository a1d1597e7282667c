//! Clients that keep to the rules: a request that was sent is never sent again, unless its protocol says that nobody looked at it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::body::{LONGEST, Order, Parts, message, pattern};
use super::draws::Draws;
use super::run::Run;
use super::tally::Protocol;

/// What requests are addressed to.
pub(super) const HOST: &str = "load.example";
/// Nothing takes so long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const STREAMS: u64 = 8;
const METHODS: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];

pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Where the gateway listens, and how.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsConnector>,
}

impl Door {
    pub(super) async fn connect(&self) -> std::io::Result<Box<dyn Wire>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(HOST).map_err(std::io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The gateway says that it has not looked at the request.
    Refused,
    Failed(String),
}

/// In the words of the error and all that it comes from.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// How requests of one client look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To backends that never close, or say so before.
    Mixed,
    /// To backends that close idle connections without a word: what may be sent twice, ...
    Silent,
    /// ... and what may not.
    SilentPost,
    /// To backends of HTTP/2.
    Http2,
    /// To pods.
    Pods,
}

impl Kind {
    /// A request, with the body that its answer must have, where that is known.
    fn draw(self, draws: &mut Draws) -> (http::request::Builder, Parts, Option<Bytes>) {
        let long = |draws: &mut Draws| {
            if draws.one_in(40) { draws.between(8_000, LONGEST as u64) } else { draws.between(0, 2_000) }
        };
        let posts = match self {
            Self::Silent | Self::Pods => false,
            Self::SilentPost => true,
            Self::Mixed | Self::Http2 => draws.one_in(3),
        };
        let order = Order {
            seed: draws.below(1 << 20),
            sends: if posts { long(draws) as usize } else { 0 },
            gets: long(draws) as usize,
            in_parts: draws.one_in(4),
        };
        let method = if posts { METHODS[draws.below(METHODS.len() as u64) as usize] } else { "GET" };
        let method = if self == Self::SilentPost { "POST" } else { method };
        let prefix = match self {
            Self::Mixed => "mixed",
            Self::Silent | Self::SilentPost => "silent",
            Self::Http2 => "http2",
            Self::Pods => "pods",
        };
        let expected = (self != Self::Pods).then(|| order.answer());
        let body = Parts::new(&order.request(), posts && order.in_parts, ());
        (Request::builder().method(method).uri(format!("/{prefix}/{}", order.path())), body, expected)
    }
}

/// One client of HTTP/1.1, until the run is over. It keeps a connection for so many requests at most.
pub(super) async fn http1(run: Arc<Run>, door: Door, kind: Kind, keeps: u64, mut draws: Draws) {
    while !run.is_over() {
        if let Err(why) = http1_connection(&run, &door, kind, draws.between(1, keeps), &mut draws).await {
            if kind == Kind::SilentPost && why.contains("backend-closed") {
                run.tally.ambiguous.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                continue;
            }
            run.tally.failed(Protocol::Http1, &format!("{kind:?}: {why}"));
        }
    }
}

async fn http1_connection(run: &Run, door: &Door, kind: Kind, keeps: u64, draws: &mut Draws) -> Result<(), String> {
    let wire = timeout(PATIENCE, door.connect()).await.map_err(|_| "no connection in time")?;
    let wire = wire.map_err(|error| format!("connect: {}", words(&error)))?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(wire)).await.map_err(|error| words(&error))?;
    let mut drivers = JoinSet::new();
    drivers.spawn(driver);
    for _ in 0..keeps {
        if run.is_over() {
            return Ok(());
        }
        if draws.one_in(50) {
            tokio::time::sleep(Duration::from_millis(draws.between(1, 100))).await;
        }
        if sender.ready().await.is_err() {
            // Between two requests: seen before anything was sent.
            run.tally.closed(Protocol::Http1);
            return Ok(());
        }
        let (request, body, expected) = kind.draw(draws);
        let request = request.header("host", HOST).body(body).map_err(|error| words(&error))?;
        let asked = request.uri().to_string();
        let about = |error: &hyper::Error| format!("{asked}: {}", words(error));
        let answer =
            timeout(PATIENCE, sender.send_request(request)).await.map_err(|_| format!("{asked}: no answer in time"))?;
        let answer = answer.map_err(|error| about(&error))?;
        let closes = answer.headers().get(CONNECTION).is_some_and(|value| value == "close");
        read(answer, expected.as_ref(), &asked).await?;
        if kind == Kind::SilentPost {
            run.tally.unhinted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        run.tally.well(Protocol::Http1);
        if closes {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the answer to its end. An error says what is wrong with it.
pub(super) async fn read(answer: Response<Incoming>, expected: Option<&Bytes>, asked: &str) -> Result<(), String> {
    let (head, body) = answer.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.map_err(|_| format!("{asked}: the answer does not end"))?;
    let body = body.map_err(|error| format!("{asked}: the answer broke off: {}", words(&error)))?.to_bytes();
    if head.status != StatusCode::OK {
        let reason = head.headers.get("x-sluice-reason").and_then(|reason| reason.to_str().ok()).unwrap_or("-");
        return Err(format!(
            "{asked}: status {}, {reason}: {}",
            head.status,
            String::from_utf8_lossy(&body[..body.len().min(200)])
        ));
    }
    match expected {
        Some(expected) if body != expected => {
            Err(format!("{asked}: {} bytes that are not the {} ordered", body.len(), expected.len()))
        }
        None if body.is_empty() => Err(format!("{asked}: an empty answer")),
        _ => Ok(()),
    }
}

/// One client of HTTP/2 with several requests at a time, until the run is over.
pub(super) async fn http2(run: Arc<Run>, door: Door, protocol: Protocol, kind: Kind, mut draws: Draws) {
    while !run.is_over() {
        let wire = match timeout(PATIENCE, door.connect()).await {
            Ok(Ok(wire)) => wire,
            Ok(Err(error)) => {
                run.tally.failed(protocol, &format!("connect: {}", words(&error)));
                continue;
            }
            Err(_) => {
                run.tally.failed(protocol, "no connection in time");
                continue;
            }
        };
        let (sender, driver) = match http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await {
            Ok(both) => both,
            Err(error) => {
                run.tally.failed(protocol, &format!("handshake: {}", words(&error)));
                continue;
            }
        };
        let mut drivers = JoinSet::new();
        drivers.spawn(driver);
        let requests = draws.between(50, 3_000);
        let streams = (0..STREAMS).map(|_| {
            let draws = Draws::of(draws.next(), 0);
            stream(&run, sender.clone(), protocol, kind, requests / STREAMS + 1, draws)
        });
        futures::future::join_all(streams).await;
    }
}

/// Requests one after the other, as long as the connection takes them.
async fn stream(
    run: &Run,
    mut sender: http2::SendRequest<Parts>,
    protocol: Protocol,
    kind: Kind,
    requests: u64,
    mut draws: Draws,
) {
    for _ in 0..requests {
        if run.is_over() {
            return;
        }
        if sender.ready().await.is_err() {
            run.tally.closed(protocol);
            return;
        }
        let asked = match protocol {
            Protocol::Grpc => call(&mut sender, &mut draws).await,
            _ => exchange(&mut sender, kind, &mut draws).await,
        };
        match asked {
            Ok(()) => run.tally.well(protocol),
            Err(Trouble::Refused) => {
                run.tally.retried(protocol);
                return;
            }
            Err(Trouble::Failed(why)) => run.tally.failed(protocol, &format!("{kind:?}: {why}")),
        }
    }
}

async fn send(sender: &mut http2::SendRequest<Parts>, request: Request<Parts>) -> Result<Response<Incoming>, Trouble> {
    let asked = request.uri().path().to_owned();
    match timeout(PATIENCE, sender.send_request(request)).await {
        Err(_) => Err(Trouble::Failed(format!("{asked}: no answer in time"))),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is_canceled() || was_refused(&error) => Err(Trouble::Refused),
        Ok(Err(error)) => Err(Trouble::Failed(format!("{asked}: {}", words(&error)))),
    }
}

/// A stream above the last one that a GOAWAY names, or refused by name: RFC 9113, 8.7.
fn was_refused(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_remote()
            && (cause.reason() == Some(h2::Reason::REFUSED_STREAM)
                || cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR))
    })
}

async fn exchange(sender: &mut http2::SendRequest<Parts>, kind: Kind, draws: &mut Draws) -> Result<(), Trouble> {
    let (request, body, expected) = kind.draw(draws);
    let path = request.uri_ref().map(ToString::to_string).unwrap_or_default();
    let request =
        request.uri(format!("http://{HOST}{path}")).body(body).map_err(|error| Trouble::Failed(words(&error)))?;
    let answer = send(sender, request).await?;
    read(answer, expected.as_ref(), &path).await.map_err(Trouble::Failed)
}

/// A call of gRPC: some messages there, the same messages back, and a status that says that all went well.
async fn call(sender: &mut http2::SendRequest<Parts>, draws: &mut Draws) -> Result<(), Trouble> {
    let count = if draws.one_in(8) { draws.between(2, 12) } else { 1 };
    let messages: Vec<Bytes> =
        (0..count).map(|_| pattern(draws.next() % 251, draws.between(0, 3_000) as usize)).collect();
    let request = Request::post(format!("http://{HOST}/load.Echo/Talk"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Parts::messages(&messages, ()))
        .map_err(|error| Trouble::Failed(words(&error)))?;
    let (head, body) = send(sender, request).await?.into_parts();
    let failed = |why: String| Trouble::Failed(format!("call: {why}"));
    let body = timeout(PATIENCE, body.collect()).await.map_err(|_| failed("the answer does not end".into()))?;
    let body = body.map_err(|error| failed(format!("the answer broke off: {}", words(&error))))?;
    let status = body.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    if head.status != StatusCode::OK || status.as_ref().is_none_or(|status| status != "0") {
        return Err(failed(format!(
            "status {}, head {:?}, trailers' grpc-status {status:?}",
            head.status, head.headers
        )));
    }
    let expected: Vec<u8> = messages.iter().flat_map(message).collect();
    if body.to_bytes() == expected { Ok(()) } else { Err(failed("other messages came back".into())) }
}
