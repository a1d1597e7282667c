//! Listeners that close and gateways that stop: who has come in is served, told, and only then let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_route::Entrance;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::town::{Backend, DEADLINE, Town};
use crate::plane::{limits, open};

async fn town() -> (Town, Backend) {
    let mut town = Town::new(2);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    (town, backend)
}

/// Sends this and reads the answer, which has a length below 10 and comes alone.
async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(5).any(|end| end == b"\r\n\r\na") {
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).await.expect("an answer");
            assert!(count > 0, "broke off: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&bytes[..count]);
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("in time");
    String::from_utf8(answer).expect("text")
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let end = tokio::time::timeout(DEADLINE, stream.read(&mut [0; 64])).await;
    matches!(end, Ok(Ok(0)))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_its_way_when_the_listener_closes_is_answered_and_told_to_go() {
    let (mut town, _backend) = town().await;
    let mut asking = TcpStream::connect(town.address).await.expect("it listens");
    let mut silent = TcpStream::connect(town.address).await.expect("it listens");
    let mut fresh = TcpStream::connect(town.address).await.expect("it listens");
    for stream in [&mut asking, &mut silent] {
        assert!(!ask(stream, GET).await.contains("connection: close"));
    }
    town.plane().close(Entrance::Default);
    tokio::time::timeout(DEADLINE, town.door.closed()).await.expect("closed in time");
    for stream in [&mut asking, &mut fresh] {
        let answer = ask(stream, GET).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
        assert!(is_closed(stream).await, "after its answer");
    }
    let refused = TcpStream::connect(town.address).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(is_closed(&mut silent).await, "who asks for nothing is let go after a while");
    tokio::time::timeout(DEADLINE, town.door.left()).await.expect("everybody is gone");
    drop(open(town.address, 1).expect("free for whoever comes next"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_on_its_way_when_the_gateway_stops_is_answered() {
    let (town, _backend) = town().await;
    let mut client = TcpStream::connect(town.address).await.expect("it listens");
    ask(&mut client, GET).await;
    let address = town.address;
    let stopped = tokio::spawn(town.workers.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let answer = ask(&mut client, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert!(is_closed(&mut client).await);
    tokio::time::timeout(DEADLINE, stopped).await.expect("stops in time").expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_under_way_when_the_gateway_stops_is_answered_and_the_connection_says_goodbye() {
    let (town, _backend) = town().await;
    let stream = TcpStream::connect(town.address).await.expect("it listens");
    let (mut client, connection) =
        http2::handshake::<_, _, Empty<bytes::Bytes>>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let request = || http::Request::get("http://shop/").body(Empty::new()).expect("a request");
    assert_eq!(client.send_request(request()).await.expect("an answer").status(), 200);
    let address = town.address;
    let answers: Vec<_> = (0..20).map(|_| client.send_request(request())).collect();
    let stopped = tokio::spawn(town.workers.stop());
    for answer in futures::future::join_all(answers).await {
        let whole = answer.expect("an answer").into_body().collect().await.expect("a whole one");
        assert_eq!(whole.to_bytes(), "a");
    }
    tokio::time::timeout(DEADLINE, connection).await.expect("in time").expect("no panic").expect("in order");
    tokio::time::timeout(DEADLINE, stopped).await.expect("stops in time").expect("no panic");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_lives_until_the_end_of_the_drain() {
    let (town, _backend) = town().await;
    let mut client = TcpStream::connect(town.address).await.expect("it listens");
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    let address = town.address;
    let began = Instant::now();
    let stopped = tokio::spawn(town.workers.stop());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        client.write_all(b"still").await.expect("written");
        let mut echo = [0; 5];
        client.read_exact(&mut echo).await.expect("an echo");
        assert_eq!(&echo, b"still");
    }
    assert!(!stopped.is_finished(), "somebody is still there");
    drop(client);
    tokio::time::timeout(DEADLINE, stopped).await.expect("stops in time").expect("no panic");
    assert!(began.elapsed() < limits::SHUTDOWN_DRAIN, "nobody had to be cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_comes_and_goes_serves_or_refuses() {
    const TURNS: usize = 12;
    let (mut town, _backend) = town().await;
    let done = Arc::new(AtomicBool::new(false));
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (address, done, counts) = (town.address, done.clone(), counts.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let mut stream = match TcpStream::connect(address).await {
                        Ok(stream) => stream,
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                            counts[1].fetch_add(1, Ordering::Relaxed);
                            tokio::task::yield_now().await;
                            continue;
                        }
                        Err(error) => panic!("neither served nor refused: {error}"),
                    };
                    stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")
                        .await
                        .expect("written");
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).await.expect("a whole answer");
                    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('a'), "{answer}");
                    counts[0].fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for _ in 0..TURNS {
        let served = counts[0].load(Ordering::Relaxed);
        wait(|| counts[0].load(Ordering::Relaxed) > served + 20).await;
        town.plane().close(Entrance::Default);
        tokio::time::timeout(DEADLINE, town.door.closed()).await.expect("closed in time");
        let refused = counts[1].load(Ordering::Relaxed);
        wait(|| counts[1].load(Ordering::Relaxed) > refused).await;
        let sockets = open(town.address, 2).expect("free as soon as it is closed");
        town.door = town.plane().serve(Entrance::Default, sockets);
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("served or refused");
    }
}

async fn wait(holds: impl Fn() -> bool) {
    let reached = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, reached).await.expect("in time");
}
