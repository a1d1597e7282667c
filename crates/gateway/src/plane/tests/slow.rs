//! Clients that take their time, with limits of a fiftieth of the usual ones.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::town::{Backend, DEADLINE, Town};
use crate::plane::limits;

/// Longer than every limit.
const LONG: Duration = Duration::from_millis(3000);

async fn town() -> (Town, Backend) {
    let mut town = Town::impatient(json!([
        {"matches": [{"path": {"type": "PathPrefix", "value": "/hold"}}], "timeouts": {"backendRequest": "3s"},
            "backendRefs": [{"name": "shop", "port": 80}]},
        {"backendRefs": [{"name": "shop", "port": 80}]},
    ]));
    town.service_of("shop", Some("kubernetes.io/ws"));
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    (town, backend)
}

async fn connect(town: &Town, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(town.address).await.expect("the gateway listens");
    stream.write_all(bytes).await.expect("written");
    stream
}

/// All that comes to the end of the connection, while `drip` is sent again and again.
async fn to_the_end(stream: TcpStream, drip: &'static [u8]) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        // Fails as soon as the gateway has had enough.
        while writer.write_all(drip).await.is_ok() {
            tokio::time::sleep(limits::TICK / 50).await;
        }
    });
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = timeout(DEADLINE, reader.read_to_end(&mut bytes)).await.expect("an end in time");
    dripping.abort();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_get_408_and_nobody_else_notices() {
    let (town, _backend) = town().await;
    for head in ["GET / HTTP/1.1\r\nhost: a", "G", "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a"] {
        let slow = connect(&town, head.as_bytes()).await;
        let answer = tokio::spawn(to_the_end(slow, b"x"));
        assert_eq!(town.client().await.get("/").await, (200, "a".into()));
        let answer = answer.await.expect("an answer");
        assert!(
            answer.contains("HTTP/1.1 408 ") && answer.contains("x-sluice-reason: head-timeout\r\n"),
            "{head}: {answer}"
        );
    }
    assert_eq!(town.plane().refusals()["head-timeout"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_is_let_go() {
    let (town, _backend) = town().await;
    let request: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // The beginning of a head of HTTP/2: a frame of 100 bytes that never comes.
    let headers = [preface, b"\0\0\0\x04\0\0\0\0\0", b"\0\0\x64\x01\x04\0\0\0\x01"].concat();
    let cases = [("nothing", &b""[..]), ("after a request", request), ("the preface", preface), ("a head", &headers)];
    for (what, bytes) in cases {
        let answer = to_the_end(connect(&town, bytes).await, b"").await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), usize::from(bytes == request), "{what}: {answer}");
    }
    assert!(town.plane().refusals().is_empty(), "{:?}", town.plane().refusals());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_us_is_not() {
    let (town, _backend) = town().await;
    let began = Instant::now();
    let answer = to_the_end(connect(&town, b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await, b"").await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && began.elapsed() >= LONG, "{answer}");
    let wish = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let mut tunnel = connect(&town, wish).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tunnel.read_u8().await.expect("an answer"));
    }
    tokio::time::sleep(LONG).await;
    tunnel.write_all(b"ping").await.expect("written");
    let mut echo = [0; 4];
    tunnel.read_exact(&mut echo).await.expect("the tunnel is open");
    assert_eq!(&echo, b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_get_408_and_are_no_fault_of_the_backend() {
    let (town, _backend) = town().await;
    for head in ["content-length: 1000000\r\n\r\n", "transfer-encoding: chunked\r\n\r\nfffff\r\n"] {
        let slow = connect(&town, format!("POST / HTTP/1.1\r\nhost: a\r\n{head}").as_bytes()).await;
        let answer = to_the_end(slow, b"x").await;
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("x-sluice-reason: body-timeout\r\n"),
            "{answer}"
        );
    }
    let counts = town.plane().snapshot().into_values().next().expect("counted");
    assert_eq!((counts.connection_failures, counts.errors_5xx, counts.errors_4xx), (0, 0, 2));
}

/// Answers the first request with a body without an end, and tells when nobody wants it any more.
async fn endless(listener: TcpListener) {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let _ = stream.read(&mut [0; 4096]).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("written");
    let bytes = vec![b'x'; 64 * 1024];
    while stream.write_all(&bytes).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_nothing_does_not_keep_a_backend_busy() {
    let mut town = Town::impatient(json!([{"backendRefs": [{"name": "shop", "port": 80}]}]));
    let mut backend = Backend::start("endless").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    let ended = tokio::spawn(endless(listener));
    town.add("shop", &backend, "v1");
    town.publish().await;
    let _client = connect(&town, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    timeout(DEADLINE, ended).await.expect("the backend is let go").expect("it ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_early_is_not_lost() {
    let mut town = Town::new(1);
    town.publish().await;
    // No backend: the answer comes while the client still writes.
    let body = vec![b'x'; limits::LINGER_BYTES / 2];
    for _ in 0..20 {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut stream = connect(&town, head.as_bytes()).await;
        stream.write_all(&body).await.expect("all of it is taken");
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an end in time").expect("no reset");
        assert!(answer.starts_with(b"HTTP/1.1 503 "), "{}", String::from_utf8_lossy(&answer));
    }
}
