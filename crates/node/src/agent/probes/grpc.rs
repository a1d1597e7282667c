//! The `grpc` probe: asks `grpc.health.v1.Health/Check` whether a service is serving.
//!
//! One message each way, so the two are written and read by hand.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{http::USER_AGENT, target::refused};

const METHOD: &str = "/grpc.health.v1.Health/Check";
/// A health answer has two bytes; whoever sends more than this is no health service.
const MAX_ANSWER_BYTES: usize = 10 << 10;
/// A message's head: whether it is compressed, and how long it is.
const HEAD_BYTES: usize = 5;

const UNIMPLEMENTED: u32 = 12;
const DEADLINE_EXCEEDED: u32 = 4;

/// The codes of gRPC by their number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

pub(super) async fn check(address: SocketAddr, service: &str, limit: Duration) -> Result<(), String> {
    let failed = |error: String| format!("error: failed to connect service at \"{address}\": {error}");
    let stream = sluice_reach::connect(address).await.map_err(|error| failed(refused(address, &error)))?;
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(|error| failed(error.to_string()))?;
    let request = Request::post(format!("http://{address}{METHOD}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::TE, "trailers")
        .header("grpc-timeout", format!("{}m", limit.as_millis()))
        .body(Full::new(question(service)))
        .map_err(|error| failed(error.to_string()))?;
    let broken = |error: &dyn std::fmt::Display| {
        format!("error: health rpc probe failed: rpc error: code = Unavailable desc = {error}")
    };
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(broken(&format!("unexpected HTTP status code received from server: {}", head.status)));
        }
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| broken(&error))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        // An answer without a message has its status in the head.
        let status = status(&trailers).or_else(|| status(&head.headers));
        judge(status, &body.to_bytes(), limit)
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(broken(&error)),
        },
    }
}

/// `HealthCheckRequest { service }`.
fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// What the server says of the call itself.
fn status(headers: &HeaderMap) -> Option<(u32, String)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status")?.parse().ok()?;
    Some((code, unescape(text("grpc-message").unwrap_or_default())))
}

/// `%20` and the like.
fn unescape(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn judge(status: Option<(u32, String)>, body: &[u8], limit: Duration) -> Result<(), String> {
    match status {
        Some((0, _)) => {}
        Some((UNIMPLEMENTED, said)) => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {said}"
            ));
        }
        Some((DEADLINE_EXCEEDED, _)) => {
            return Err(format!("timeout: health rpc did not complete within {}s", limit.as_secs()));
        }
        Some((code, said)) => {
            let code = CODES.get(code as usize).map_or_else(|| format!("Code({code})"), |name| (*name).to_owned());
            return Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {said}"));
        }
        None => {
            let why = "rpc error: code = Internal desc = server closed the stream without sending trailers";
            return Err(format!("error: health rpc probe failed: {why}"));
        }
    }
    match serving(body) {
        Some(1) => Ok(()),
        Some(0) => Err("service unhealthy (responded with \"UNKNOWN\")".to_owned()),
        Some(2) => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
        Some(3) => Err("service unhealthy (responded with \"SERVICE_UNKNOWN\")".to_owned()),
        Some(other) => Err(format!("service unhealthy (responded with \"{other}\")")),
        None => Err("error: health rpc probe failed: rpc error: code = Internal desc = malformed answer".to_owned()),
    }
}

/// The status in `HealthCheckResponse { status }`; zero when it is left out.
fn serving(body: &[u8]) -> Option<u64> {
    let (head, message) = body.split_at_checked(HEAD_BYTES)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?) as usize;
    let mut rest = message.get(..length).filter(|_| head[0] == 0)?;
    let mut status = 0;
    while !rest.is_empty() {
        let (tag, after) = number(rest)?;
        rest = match tag & 7 {
            0 => {
                let (value, after) = number(after)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                after
            }
            1 => after.get(8..)?,
            2 => {
                let (length, after) = number(after)?;
                after.get(usize::try_from(length).ok()?..)?
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    Some(status)
}

/// A number of variable length, and what comes after it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index as u32).min(63);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::Response;
    use http_body_util::StreamBody;
    use hyper::{body::Frame, service::service_fn};

    use super::*;

    #[test]
    fn a_question_names_its_service() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("shop")[..], *b"\x00\x00\x00\x00\x06\x0a\x04shop");
        assert_eq!(question(&"x".repeat(200))[..8], *b"\x00\x00\x00\x00\xcb\x0a\xc8\x01");
    }

    #[test]
    fn answers_are_read_whatever_else_they_carry() {
        for (body, expected) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\0\0\0\0\x06\x12\x02hi\x08\x02", Some(2)),
            (b"\0\0\0\0\x0e\x11aaaaaaaa\x25bbbb", Some(0)),
            (b"\0\0\0\0\x02\x08", None),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x02\x0f\x01", None),
            (b"\0\0\0\0\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
            (b"", None),
        ] {
            assert_eq!(serving(body), expected, "{body:?}");
        }
    }

    #[test]
    fn what_went_wrong_is_said_as_a_kubelet_says_it() {
        let check = |code: u32, said: &str, expected: &str| {
            let why = judge(Some((code, said.to_owned())), b"", Duration::from_secs(2)).expect_err("no answer");
            assert_eq!(why, expected);
        };
        let unimplemented = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): x";
        check(12, "x", unimplemented);
        check(4, "", "timeout: health rpc did not complete within 2s");
        check(
            5,
            "unknown service",
            "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service",
        );
        check(77, "", "error: health rpc probe failed: rpc error: code = Code(77) desc = ");
        assert_eq!(unescape("a%20b%zz%"), "a b%zz%");
    }

    /// A health service: the service's name says how it is.
    async fn serve() -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(|request: Request<hyper::body::Incoming>| async {
                    assert_eq!((request.uri().path(), request.method().as_str()), (METHOD, "POST"));
                    assert_eq!(request.headers()[header::CONTENT_TYPE], "application/grpc");
                    assert_eq!(request.headers()[header::USER_AGENT], USER_AGENT);
                    let asked = request.into_body().collect().await.expect("a question").to_bytes();
                    let name = String::from_utf8_lossy(asked.get(7..).unwrap_or_default()).into_owned();
                    let trailers = |code: &'static str| {
                        HeaderMap::from_iter([(
                            http::HeaderName::from_static("grpc-status"),
                            code.parse().expect("a code"),
                        )])
                    };
                    let said = |status: u8| Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]));
                    let frames = match name.as_str() {
                        "" => vec![said(1), Frame::trailers(trailers("0"))],
                        "ill" => vec![said(2), Frame::trailers(trailers("0"))],
                        _ => Vec::new(),
                    };
                    let mut response = Response::new(StreamBody::new(futures::stream::iter(
                        frames.into_iter().map(Ok::<_, Infallible>),
                    )));
                    if name == "nobody" {
                        response.headers_mut().extend(trailers("5"));
                    }
                    Ok::<_, Infallible>(response)
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        address
    }

    #[tokio::test]
    async fn a_service_that_serves_is_healthy() {
        let address = serve().await;
        let ask = async |service: &str| check(address, service, Duration::from_secs(1)).await;
        assert_eq!(ask("").await, Ok(()));
        let why = async |service: &str| ask(service).await.expect_err(service);
        assert_eq!(why("ill").await, "service unhealthy (responded with \"NOT_SERVING\")");
        assert_eq!(why("nobody").await, "error: health rpc probe failed: rpc error: code = NotFound desc = ");
        assert!(why("mute").await.contains("without sending trailers"));
    }

    #[tokio::test]
    async fn a_server_of_another_kind_is_not_healthy() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _gone = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad\r\n\r\n").await;
            }
        });
        let why = check(address, "", Duration::from_secs(1)).await.expect_err("no gRPC");
        assert!(why.starts_with("error: "), "{why}");
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let why = check(nobody, "", Duration::from_secs(1)).await.expect_err("nobody");
        assert_eq!(
            why,
            "error: failed to connect service at \"127.0.0.1:1\": dial tcp 127.0.0.1:1: connect: connection refused"
        );
    }
}
