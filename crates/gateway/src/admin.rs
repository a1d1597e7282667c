//! What is said to those who run a gateway: whether it lives, whether it is ready, and what it has counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::start::Counters;

/// Connections at a time; further ones wait.
const CONNECTIONS: usize = 64;
const HEAD_READ: Duration = Duration::from_secs(10);
const BACK_OFF: Duration = Duration::from_millis(20);

/// Answers `/livez` and `/healthz`, `/readyz` and `/metrics` until dropped.
pub async fn admin(listener: TcpListener, counters: Counters, ready: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (counters, ready) = (counters.clone(), ready.clone());
                tokio::spawn(async move {
                    serve(stream, counters, ready).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "Connection not accepted");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, counters: Counters, ready: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &counters, *ready.borrow());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_READ);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "Connection ended");
    }
}

fn answer(method: &Method, path: &str, counters: &Counters, is_ready: bool) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        _ if !matches!(*method, Method::GET | Method::HEAD) => (StatusCode::METHOD_NOT_ALLOWED, "GET\n".to_owned()),
        "/livez" | "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if is_ready => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        "/metrics" => (StatusCode::OK, counters.exposition()),
        _ => (StatusCode::NOT_FOUND, "/livez /readyz /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = if path == "/metrics" { "text/plain; version=0.0.4" } else { "text/plain" };
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
