//! What `sluice.dev/demo:TAG` is in these tests: a small HTTP server.
//!
//! `/` answers the tag, `/healthz` answers 503 while a file `sick` lies in the working directory. `$DELAY_MS` holds back the
//! first sign of life; `$TLS` makes it speak HTTPS with a certificate of its own, `$GRPC` makes it a health service of gRPC.

use std::{
    convert::Infallible,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivatePkcs8KeyDer};

pub(crate) fn main() -> ExitCode {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    std::thread::park_timeout(Duration::from_millis(variable("DELAY_MS").parse().unwrap_or(0)));
    if !variable("GRPC").is_empty() {
        return grpc(&format!("{}:{}", variable("HOST"), variable("PORT")));
    }
    let listener = TcpListener::bind(format!("{}:{}", variable("HOST"), variable("PORT"))).expect("our own address");
    let tls = (!variable("TLS").is_empty()).then(self_signed);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let mut stream: Box<dyn Stream> = match &tls {
            Some(tls) => {
                let session = ServerConnection::new(tls.clone()).expect("a session");
                Box::new(StreamOwned::new(session, stream))
            }
            None => Box::new(stream),
        };
        let mut request = String::new();
        if BufReader::new(&mut stream).read_line(&mut request).is_err() {
            continue;
        }
        let sick = request.starts_with("GET /healthz") && std::path::Path::new("sick").exists();
        let (status, body) = if sick { ("503 Sick", String::new()) } else { ("200 OK", variable("DEMO_VERSION")) };
        // A client that is gone is none of our business.
        let _ =
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
    ExitCode::SUCCESS
}

trait Stream: std::io::Read + std::io::Write {}

impl<T: std::io::Read + std::io::Write> Stream for T {}

fn self_signed() -> Arc<ServerConfig> {
    let certified = rcgen::generate_simple_self_signed(["nobody".to_owned()]).expect("a certificate");
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key);
    Arc::new(config.expect("a certificate of our own"))
}

/// Knows the service `shop`, which does not serve while the file `sick` is there.
fn grpc(address: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.expect("our own address");
        while let Ok((stream, _)) = listener.accept().await {
            let connection = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            let stream = hyper_util::rt::TokioIo::new(stream);
            // A client that is gone is none of our business.
            let _ = connection.serve_connection(stream, hyper::service::service_fn(check)).await;
        }
    });
    ExitCode::SUCCESS
}

async fn check(
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let asked = request.into_body().collect().await?.to_bytes();
    let known = asked.ends_with(b"shop");
    let status = if std::path::Path::new("sick").exists() { 2 } else { 1 };
    let code = http::HeaderValue::from_static(if known { "0" } else { "5" });
    let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), code)]);
    let said = Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]));
    let frames = known.then_some(said).into_iter().chain([Frame::trailers(trailers)]);
    let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
    Ok(http::Response::new(BoxBody::new(body)))
}
