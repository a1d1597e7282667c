//! Upgrades of callers in this process: only a connection can become another protocol, so they get one, in memory.

use std::convert::Infallible;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::body::Body;
use crate::dispatch;
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::render;
use crate::request::Encoding;
use crate::server::Server;

/// Bytes that may wait on the connection, each way.
const WIRE_BYTES: usize = 64 << 10;

/// Answers a request for an upgrade, which has no body.
pub(crate) async fn answer(server: Server, user: Identity, parts: Parts) -> Response<Body> {
    let request = Request::from_parts(parts, Empty::<Bytes>::new());
    let exchanged = exchange(server, user, request).await;
    exchanged.unwrap_or_else(|error| render::refusal(&Refusal::Internal(error.to_string()), Encoding::Json))
}

async fn exchange(server: Server, user: Identity, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Body>> {
    let (near, far) = tokio::io::duplex(WIRE_BYTES);
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, user) = (server.clone(), user.clone());
        async move { Ok::<_, Infallible>(dispatch::answer(&server, Ok(user), request).await) }
    });
    // Both halves end with the caller's interest in the answer, or in what the connection becomes.
    tokio::spawn(
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).with_upgrades(),
    );
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await?;
    tokio::spawn(connection.with_upgrades());
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, Body::whole(body.collect().await?.to_bytes())))
}
