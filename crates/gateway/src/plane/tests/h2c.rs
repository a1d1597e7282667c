//! Backends that speak HTTP/2 without TLS.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::town::{Backend, Town};
use crate::plane::limits;

type Frames = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

/// Answers with what it got, and trailers as gRPC has them.
async fn answer(request: Request<Incoming>) -> Result<Response<Frames>, Infallible> {
    assert_eq!(request.version(), Version::HTTP_2);
    let te = request.headers().get("te").map_or("-", |te| te.to_str().expect("text")).to_owned();
    let head = format!("{} {} te={te} ", request.method(), request.uri());
    let body = request.into_body().collect().await.expect("a whole request").to_bytes();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), "0".parse().expect("a value"))]);
    // Among them one that says nothing, as some servers send them.
    let data = [Bytes::from(head), Bytes::new(), body].map(|bytes| Ok(Frame::data(bytes)));
    let frames = data.into_iter().chain([Ok(Frame::trailers(trailers))]).collect::<Vec<_>>();
    Ok(Response::new(StreamBody::new(futures::stream::iter(frames))))
}

/// A town whose only backend speaks HTTP/2, and how many connections it was asked for. Each says goodbye after `served` requests.
async fn town(served: usize) -> (Town, Arc<AtomicUsize>, JoinSet<()>) {
    let mut town = Town::new(1);
    town.service_of("shop", Some("kubernetes.io/h2c"));
    let mut backend = Backend::start("h2").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    town.add("shop", &backend, "v1");
    town.publish().await;
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut all = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            all.spawn(one(stream, served));
        }
    });
    (town, connections, server)
}

async fn one(stream: TcpStream, served: usize) {
    let left = Arc::new(AtomicUsize::new(served));
    let full = Arc::new(tokio::sync::Notify::new());
    let told = full.clone();
    let service = service_fn(move |request| {
        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
            told.notify_one();
        }
        answer(request)
    });
    let connection =
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = full.notified() => connection.as_mut().graceful_shutdown(),
    }
    // Ends with an error when the gateway is faster.
    let _ = connection.await;
}

async fn client(town: &Town) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(town.address).await.expect("the gateway listens");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn call(number: usize) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://shop.example.com/pkg.Shop/Buy?{number}"));
    let request = request.header("te", "trailers").header("content-type", "application/grpc");
    request.body(Full::new(Bytes::from("buy"))).expect("a request")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_and_its_trailers_pass_from_end_to_end() {
    let (town, connections, _server) = town(usize::MAX).await;
    let mut client = client(&town).await;
    for number in 0..3 {
        let answer = client.send_request(call(number)).await.expect("an answer").into_body().collect().await;
        let answer = answer.expect("a whole answer");
        assert_eq!(answer.trailers().expect("trailers")["grpc-status"], "0");
        let expected = format!("POST http://shop.example.com/pkg.Shop/Buy?{number} te=trailers buy");
        assert_eq!(String::from_utf8_lossy(&answer.to_bytes()), expected);
    }
    // And for a client of HTTP/1.1.
    let found = town.client().await.post("/x", "buy").await;
    assert_eq!(found, (200, "POST http://shop.example.com/x te=- buy".into()));
    assert_eq!((connections.load(Ordering::SeqCst), town.requests()["v1"]), (1, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_share_few_connections() {
    let (town, connections, _server) = town(usize::MAX).await;
    let client = client(&town).await;
    // The first makes the connection that the others find.
    client.clone().send_request(call(0)).await.expect("an answer");
    let calls = limits::STREAMS_PER_CONNECTION + 10;
    let all = (0..calls).map(|number| {
        let mut client = client.clone();
        async move { client.send_request(call(number)).await.expect("an answer").into_body().collect().await.is_ok() }
    });
    assert!(futures::future::join_all(all).await.into_iter().all(|ended| ended));
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections <= 1 + calls.div_ceil(10), "{connections} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_says_goodbye_costs_no_call() {
    let (town, connections, _server) = town(5).await;
    let mut client = client(&town).await;
    for number in 0..50 {
        let answer = client.send_request(call(number)).await.expect("an answer");
        assert_eq!(answer.status(), 200, "call {number}");
        answer.into_body().collect().await.expect("a whole answer");
    }
    assert!(connections.load(Ordering::SeqCst) >= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_without_a_byte_end_no_connection_with_calls_on_it() {
    let (town, _, _server) = town(usize::MAX).await;
    let clients = [client(&town).await, client(&town).await];
    let calls = clients.into_iter().map(|mut client| async move {
        for number in 0..200 {
            let answer = client.send_request(call(number)).await.expect("an answer");
            assert!(!answer.headers().contains_key("grpc-status"), "call {number} was refused: {:?}", answer.headers());
            let answer = answer.into_body().collect().await.expect("a whole answer");
            assert_eq!(answer.trailers().expect("trailers")["grpc-status"], "0");
        }
    });
    futures::future::join_all(calls).await;
}

/// Says goodbye to whoever begins a request, as if it had not seen it, and closes.
async fn say_goodbye(stream: &mut TcpStream) {
    const HEAD: usize = 9;
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.expect("a preface");
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&settings).await.expect("written");
    loop {
        let mut head = [0; HEAD];
        stream.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.expect("a whole frame");
        if head[3] == HEADERS {
            break;
        }
    }
    let goodbye = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    stream.write_all(&goodbye).await.expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_above_the_last_stream_of_a_goodbye_is_sent_again_with_its_body() {
    let mut town = Town::new(1);
    town.service_of("shop", Some("kubernetes.io/h2c"));
    let mut backend = Backend::start("h2").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    town.add("shop", &backend, "v1");
    town.publish().await;
    let (told, mut gone) = tokio::sync::mpsc::channel(1);
    let server = tokio::spawn(async move {
        let mut all = JoinSet::new();
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            if number % 2 == 0 {
                say_goodbye(&mut stream).await;
                told.send(stream).await.expect("the test goes on");
            } else {
                all.spawn(one(stream, 1));
            }
        }
    });
    // One whose body is there at once, and one whose body comes in the middle of the goodbye.
    let whole = tokio::spawn({
        let mut client = town.client().await;
        async move { client.post("/x", "buy").await }
    });
    let _open = gone.recv().await.expect("a goodbye");
    assert_eq!(whole.await.expect("an answer"), (200, "POST http://shop.example.com/x te=- buy".into()));

    let stream = TcpStream::connect(town.address).await.expect("the gateway listens");
    let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let (parts, body) = tokio::sync::mpsc::channel::<Bytes>(4);
    let body = futures::stream::unfold(body, |mut body| async move {
        let part = body.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(part)), body))
    });
    let request = Request::post("http://shop.example.com/x").body(StreamBody::new(Box::pin(body))).expect("a request");
    let asked = tokio::spawn(async move { client.send_request(request).await });
    parts.send(Bytes::from("first ")).await.expect("taken");
    let _open = gone.recv().await.expect("a goodbye");
    parts.send(Bytes::from("second")).await.expect("taken");
    drop(parts);
    let answer =
        asked.await.expect("no panic").expect("an answer").into_body().collect().await.expect("a whole answer");
    let expected = "POST http://shop.example.com/x te=- first second";
    assert_eq!(String::from_utf8_lossy(&answer.to_bytes()), expected);
    server.abort();
}

/// Refuses the first request of all without a look at it, and answers the others with 200.
async fn picky(listener: TcpListener) {
    let refused = Arc::new(AtomicUsize::new(0));
    let mut all = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let refused = refused.clone();
        all.spawn(async move {
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if refused.fetch_add(1, Ordering::SeqCst) == 0 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    respond.send_response(Response::new(()), true).expect("sent");
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_backend_refused_to_look_at_is_sent_again() {
    let mut town = Town::new(1);
    town.service_of("shop", Some("kubernetes.io/h2c"));
    let mut backend = Backend::start("picky").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    let server = tokio::spawn(picky(listener));
    town.add("shop", &backend, "v1");
    town.publish().await;
    // Not idempotent, and yet nothing can have happened twice.
    assert_eq!(town.client().await.post("/", "").await, (200, String::new()));
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_call_is_told_in_the_words_of_grpc() {
    let mut town = Town::new(1);
    town.publish().await;
    let mut client = client(&town).await;
    let answer = client.send_request(call(0)).await.expect("an answer");
    let said = ["content-type", "grpc-status", "grpc-message", "x-sluice-reason"];
    let said = said.map(|name| answer.headers()[name].to_str().expect("text"));
    assert_eq!(said, ["application/grpc", "14", "no endpoint of the backend is ready", "no-endpoints"]);
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.expect("a whole answer").to_bytes().is_empty());
    assert_eq!(town.client().await.post("/x", "buy").await.0, 503, "everybody else is told as ever");
}
