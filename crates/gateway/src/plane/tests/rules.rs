//! What happens to single requests.

use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::town::{Backend, Town};

async fn echo(client: &mut super::town::Client, request: http::request::Builder, body: &str) -> Value {
    let (status, text) = client.send(request, body).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).expect("an echo")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_sees_the_request_as_the_client_meant_it() {
    let mut town = Town::new(1);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut client = town.client().await;
    let request = Request::post("/echo?x=1")
        .header("host", "Shop.Example.com:8080")
        .header("x-forwarded-for", "6.6.6.6")
        .header("connection", "x-mine")
        .header("x-mine", "1")
        .header("cookie", "a=1");
    let mut seen = echo(&mut client, request, "hello").await;
    for (name, length) in [("x-request-id", 32), ("traceparent", 55)] {
        let made = seen["headers"].as_object_mut().and_then(|headers| headers.remove(name));
        assert_eq!(made.as_ref().and_then(Value::as_str).map(str::len), Some(length), "{name}");
    }
    let headers = json!({"host": "Shop.Example.com:8080", "cookie": "a=1", "content-length": "5", "x-forwarded-port": "8080",
        "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "x-forwarded-host": "Shop.Example.com:8080"});
    assert_eq!(seen, json!({"method": "POST", "target": "/echo?x=1", "headers": headers, "body": "hello"}));
    assert_eq!(client.get("/status/404").await, (404, "a".into()));
    assert_eq!(client.send(Request::head("/"), "").await, (200, String::new()));
    let all = town.plane().snapshot();
    let counts = all.values().next().expect("one version");
    assert_eq!((counts.requests, counts.errors_4xx, counts.errors_5xx, counts.latency.count()), (3, 1, 0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_change_requests_and_answers() {
    let filters = json!([
        {"type": "RequestHeaderModifier", "requestHeaderModifier":
            {"set": [{"name": "x-set", "value": "new"}], "add": [{"name": "x-add", "value": "1"}], "remove": ["x-gone"]}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x-answer", "value": "1"}]}},
        {"type": "URLRewrite", "urlRewrite": {"hostname": "inner",
            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}},
    ]);
    let matches = json!([{"path": {"type": "PathPrefix", "value": "/shop"}}]);
    let mut town = Town::with_rules(
        1,
        json!([{"matches": matches, "filters": filters, "backendRefs": [{"name": "shop", "port": 80}]}]),
    );
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut client = town.client().await;
    let request = Request::get("/shop/echo?q").header("x-set", "old").header("x-gone", "1");
    let seen = echo(&mut client, request, "").await;
    assert_eq!(seen["target"], "/echo?q");
    let header = |name: &str| seen["headers"][name].as_str().unwrap_or("none");
    assert_eq!(["host", "x-set", "x-add", "x-gone"].map(header), ["inner", "new", "1", "none"]);
    let answer = client.exchange(Request::get("/shop/"), "").await;
    assert_eq!(answer.headers()["x-answer"], "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_apart() {
    let rule = |prefix: &str, service: &str, timeouts: Value| {
        json!({"matches": [{"path": {"type": "PathPrefix", "value": prefix}}], "timeouts": timeouts,
            "backendRefs": [{"name": service, "port": 80}]})
    };
    let mut town = Town::with_rules(
        1,
        json!([
            rule("/empty", "empty", json!({})),
            rule("/absent", "absent", json!({})),
            rule("/dead", "dead", json!({})),
            rule("/hold", "shop", json!({"backendRequest": "50ms"})),
        ]),
    );
    let (alive, dead) = (Backend::start("alive").await, Backend::start("dead").await);
    town.service("empty");
    town.service("dead");
    town.add("shop", &alive, "v1");
    town.add("dead", &dead, "v2");
    town.publish().await;
    dead.kill().await;
    let mut client = town.client().await;
    for (path, status, reason) in [
        ("/nowhere", 404, "no-route"),
        ("/absent", 500, "invalid-backend"),
        ("/empty", 503, "no-endpoints"),
        ("/dead", 502, "connect-failed"),
        ("/hold", 504, "answer-timeout"),
        ("/a/../b", 400, "bad-request"),
    ] {
        let answer = client.exchange(Request::get(path), "").await;
        let found = answer.headers()["x-sluice-reason"].to_str().expect("text");
        assert_eq!((answer.status().as_u16(), found), (status, reason));
    }
    let counts = town.plane().snapshot();
    let of = |hash: &str| counts.iter().find(|(key, _)| key.hash == hash).map(|(_, counts)| counts).expect("counted");
    assert_eq!((of("v1").requests, of("v1").errors_5xx, of("v1").connection_failures), (1, 1, 0));
    // One request, three attempts.
    assert_eq!((of("v2").requests, of("v2").errors_5xx, of("v2").connection_failures), (1, 1, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_is_stepped_over() {
    let mut town = Town::new(1);
    let (alive, dead) = (Backend::start("alive").await, Backend::start("dead").await);
    town.add("shop", &alive, "v1");
    town.add("shop", &dead, "v1");
    town.publish().await;
    dead.kill().await;
    let mut client = town.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("/", "body").await, (200, "alive".into()));
    }
}

/// A backend that takes the first `answered` requests of each connection and closes on the next, without an answer.
async fn tired(listener: TcpListener, answered: usize) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            for _ in 0..answered {
                if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
                    return;
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\ntired";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
            let _ = stream.read(&mut buffer).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_that_dies_under_a_request_costs_nobody_an_answer() {
    let mut town = Town::new(1);
    let mut backend = Backend::start("tired").await;
    // In its place one that closes every third request's connection.
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    let server = tokio::spawn(tired(listener, 2));
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut client = town.client().await;
    for number in 0..50 {
        assert_eq!(client.get("/").await, (200, "tired".into()), "request {number}");
    }
    let counts = town.plane().snapshot().into_values().next().expect("counted");
    assert_eq!((counts.requests, counts.connection_failures), (50, 0));
    // The same death under a POST may have done something: it is not repeated.
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.post("/", "buy").await.0);
    }
    assert!(statuses.contains(&502), "{statuses:?}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_never_takes_a_connection_that_was_closed_before() {
    let mut town = Town::new(1);
    let mut backend = Backend::start("short").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    // Closes after each answer without having said so.
    let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            // Head and body may come in two parts.
            let mut read = Vec::new();
            while !read.ends_with(b"buy") {
                let count = stream.read(&mut head).await.expect("a request");
                read.extend_from_slice(&head[..count]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsold").await.expect("written");
            drop(stream);
            closed.send(()).expect("the test waits");
        }
    });
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut client = town.client().await;
    for number in 0..50 {
        assert_eq!(client.post("/", "buy").await, (200, "sold".into()), "request {number}");
        was_closed.recv().await.expect("the server runs");
    }
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_both_ways_after_an_upgrade() {
    let mut town = Town::new(1);
    town.service_of("shop", Some("kubernetes.io/ws"));
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut stream = TcpStream::connect(town.address).await.expect("the gateway listens");
    let head = "GET /ws HTTP/1.1\r\nhost: shop\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    for text in ["ping", "a longer text"] {
        stream.write_all(text.as_bytes()).await.expect("written");
        let mut echoed = vec![0; text.len()];
        stream.read_exact(&mut echoed).await.expect("an echo");
        assert_eq!(echoed, text.as_bytes());
    }
    // A withdrawn pod drains as long as the tunnel is open.
    town.remove(&backend);
    town.publish().await;
    assert_eq!(town.draining().len(), 1);
    drop(stream);
    town.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smuggled_and_malformed_requests_get_no_further() {
    let mut town = Town::new(1);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n folded\r\n\r\n",
        "GET /../etc HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(town.address).await.expect("the gateway listens");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 400", "{request:?}");
    }
    assert!(town.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_with_prior_knowledge_is_served() {
    use http_body_util::{BodyExt as _, Empty};
    let mut town = Town::new(1);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    let stream = TcpStream::connect(town.address).await.expect("the gateway listens");
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = Request::get("http://shop.example.com/echo")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Empty::<bytes::Bytes>::new())
        .expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    let seen: Value = serde_json::from_slice(&body).expect("an echo");
    let header = |name: &str| seen["headers"][name].as_str().unwrap_or("none");
    assert_eq!(
        ["host", "cookie", "x-forwarded-host"].map(header),
        ["shop.example.com", "a=1; b=2", "shop.example.com"]
    );
    assert_eq!(seen["target"], "/echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_shared_with_the_origins_that_the_route_names() {
    let filters = json!([{"type": "CORS", "cors": {"allowOrigins": ["https://*.bar.com"], "allowMethods": ["PUT"],
        "exposeHeaders": ["x-3"], "allowCredentials": true}}]);
    let mut town = Town::with_rules(1, json!([{"filters": filters, "backendRefs": [{"name": "shop", "port": 80}]}]));
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut client = town.client().await;
    for (method, origin, status, expected) in [
        ("OPTIONS", "https://a.bar.com", 204, ["https://a.bar.com", "true", "PUT", "5", "-"]),
        ("OPTIONS", "https://evil.com", 403, ["-"; 5]),
        ("GET", "https://a.bar.com", 200, ["https://a.bar.com", "true", "-", "-", "origin"]),
        ("GET", "https://evil.com", 200, ["-", "-", "-", "-", "origin"]),
    ] {
        let request = Request::builder().method(method).uri("/").header("origin", origin);
        let answer = client.exchange(request.header("access-control-request-method", "PUT"), "").await;
        let header = |name: &str| answer.headers().get(name).map_or("-", |value| value.to_str().expect("text"));
        let allow = ["origin", "credentials", "methods"].map(|what| header(&format!("access-control-allow-{what}")));
        let found = [allow[0], allow[1], allow[2], header("access-control-max-age"), header("vary")];
        assert_eq!((answer.status().as_u16(), found), (status, expected), "{method} {origin}");
    }
    assert_eq!(town.requests()["v1"], 2);
    // A page is to see that the backend is gone, not that it may not know.
    backend.kill().await;
    let answer = client.exchange(Request::get("/").header("origin", "https://a.bar.com"), "").await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://a.bar.com");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_with_its_pod_until_that_is_gone() {
    for (kind, carrier) in [("Cookie", "set-cookie"), ("Header", "cart")] {
        let session = json!({"sessionName": "cart", "type": kind});
        let backends = json!([{"name": "shop", "port": 80}]);
        let mut town = Town::with_rules(2, json!([{"backendRefs": backends, "sessionPersistence": session}]));
        let pods = [Backend::start("a").await, Backend::start("b").await, Backend::start("c").await];
        for pod in &pods {
            town.add("shop", pod, "v1");
        }
        town.publish().await;
        let mut client = town.client().await;
        let answer = client.exchange(Request::get("/"), "").await;
        let told = answer.headers()[carrier].to_str().expect("text").to_owned();
        let token = told.split(';').next().expect("a pair").to_owned();
        let name = if kind == "Cookie" { "cookie" } else { "cart" };
        let (_, first) = client.send(Request::get("/").header(name, &token), "").await;
        for _ in 0..20 {
            let mut client = town.client().await;
            let (status, body) = client.send(Request::get("/").header(name, &token), "").await;
            assert_eq!((status, &body), (200, &first), "{kind}");
        }
        let again = client.exchange(Request::get("/").header(name, &token), "").await;
        assert!(!again.headers().contains_key(carrier), "nothing new is said of a session that goes on");
        let gone = pods.iter().find(|pod| pod.name == first).expect("one of them");
        town.remove(gone);
        town.publish().await;
        let moved = client.exchange(Request::get("/").header(name, &token), "").await;
        assert!(moved.headers()[carrier].to_str().expect("text").split(';').next() != Some(&token), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_do_not_begin_with_the_same_ids() {
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let mut town = Town::new(1);
        let backend = Backend::start("a").await;
        town.add("shop", &backend, "v1");
        town.publish().await;
        let seen = echo(&mut town.client().await, Request::get("/echo"), "").await;
        ids.insert(seen["headers"]["x-request-id"].to_string());
    }
    assert_eq!(ids.len(), 2, "{ids:?}");
}
