//! The shop's sockets: listens on `$HOST:$PORT`, and on SIGTERM finishes what is in flight.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

use super::answer::{Answer, Body, Identity, Question, answer};
use super::sickness::Sickness;
use crate::printer;
use crate::stop::StopSignal;

/// The largest body `/echo` gives back.
const MAX_ECHO: usize = 16 * 1024 * 1024;
/// How long requests in flight may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(30);

struct Shop {
    who: Identity,
    sickness: Sickness,
    pages: AtomicU64,
}

/// Serves until SIGTERM or SIGINT. One small thread: a pod should cost little.
pub(crate) fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let sickness = Sickness::read(env)?;
    let who = Identity {
        app: env("DEMO_APP").unwrap_or_else(|| "shop".into()),
        version: env("DEMO_VERSION").unwrap_or_else(|| "dev".into()),
        pod: env("POD_NAME").or_else(|| env("HOSTNAME")).unwrap_or_else(|| std::process::id().to_string()),
    };
    let address = address(env)?;
    let mut stop = StopSignal::catch()?;

    tokio::select! {
        () = tokio::time::sleep(sickness.startup) => {}
        () = stop.received() => return Ok(()),
    }
    if let Some(after) = sickness.crash_after {
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            printer::note(&format!("error: the shop breaks down after {after:?}, as DEMO_CRASH_AFTER asks"));
            std::process::exit(1);
        });
    }

    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on `{address}`"))?;
    printer::line(&format!("{} {} listens on {address}", who.app, who.version));
    let shop = Arc::new(Shop { who, sickness, pages: AtomicU64::new(0) });
    let server = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or a peer that left before it was accepted: the next one may do better.
                Err(_) => { tokio::task::yield_now().await; continue }
            },
            () = stop.received() => break,
        };
        let _ = stream.set_nodelay(true);
        let shop = shop.clone();
        let service = service_fn(move |request| handle(shop.clone(), request));
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service).into_owned());
        tokio::spawn(connection);
    }
    drop(listener);
    printer::line("closing: finishing what is in flight");
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    Ok(())
}

fn address(env: impl Fn(&str) -> Option<String>) -> anyhow::Result<SocketAddr> {
    let port = match env("PORT") {
        None => 8080,
        Some(port) => port.parse().with_context(|| format!("`PORT` is `{port}`, which is not a port number"))?,
    };
    let host = env("HOST").unwrap_or_else(|| "0.0.0.0".into());
    let ip = host.parse().with_context(|| format!("`HOST` is `{host}`, which is not an IP address"))?;
    Ok(SocketAddr::new(ip, port))
}

async fn handle(shop: Arc<Shop>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let question = Question {
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: head.headers.iter().filter_map(|(n, v)| Some((n.as_str(), v.to_str().ok()?))).collect(),
        nth: if head.uri.path() == "/healthz" { 0 } else { shop.pages.fetch_add(1, Ordering::Relaxed) },
    };
    let Answer { status, after, body: wanted } = answer(&shop.who, &shop.sickness, &question);
    if !after.is_zero() {
        tokio::time::sleep(after).await;
    }
    let (content_type, bytes) = match wanted {
        Body::Text(text) => ("text/plain; charset=utf-8", Bytes::from_static(text.as_bytes())),
        Body::Json(value) => ("application/json", Bytes::from(value.to_string() + "\n")),
        Body::Echo => match Limited::new(body, MAX_ECHO).collect().await {
            Ok(collected) => ("application/octet-stream", collected.to_bytes()),
            Err(_) => return Ok(reply(413, "text/plain; charset=utf-8", Bytes::from_static(b"body too large\n"))),
        },
    };
    Ok(reply(status, content_type, bytes))
}

fn reply(status: u16, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(Full::new(body))
        .expect("status and header are valid")
}
