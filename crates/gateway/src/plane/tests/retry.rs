//! Timeouts, and what is tried again.

use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::town::{Backend, Town};
use crate::plane::limits;

fn rule(prefix: &str, extra: &Value) -> Value {
    let mut rule = json!({"matches": [{"path": {"type": "PathPrefix", "value": prefix}}],
        "backendRefs": [{"name": "shop", "port": 80}]});
    rule.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    rule
}

async fn town(rules: Value) -> (Town, Backend) {
    let mut town = Town::with_rules(1, rules);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    (town, backend)
}

/// Requests of the only version, and how many of them were answered with 5xx.
fn counted(town: &Town) -> (u64, u64) {
    let counts = town.plane().snapshot().into_values().next().expect("one version");
    (counts.requests, counts.errors_5xx)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_is_tried_again_where_the_route_says_so() {
    let retry =
        |codes: Value, attempts: u32| json!({"retry": {"codes": codes, "attempts": attempts, "backoff": "1ms"}});
    let rules = json!([rule("/flaky", &retry(json!([500, 503]), 3)), rule("/status", &retry(json!([500]), 2)),]);
    let (town, _backend) = town(rules).await;
    let mut client = town.client().await;
    let long = "x".repeat(limits::KEPT_BODY + 1);
    let mut before = (0, 0);
    for (method, path, body, status, attempts, errors) in [
        ("GET", "/flaky/500/0", "", 200, 1, 0),
        ("GET", "/flaky/500/2", "", 200, 3, 2),
        ("GET", "/flaky/503/3", "", 200, 4, 3),
        ("GET", "/flaky/500/4", "", 500, 4, 4),
        ("GET", "/flaky/502/1", "", 502, 1, 1),
        // The backend has answered, and the route names the answer: any method.
        ("POST", "/flaky/500/1", "buy", 200, 2, 1),
        ("PUT", "/flaky/500/1?put", "buy", 200, 2, 1),
        // But what was not kept cannot be sent again.
        ("POST", "/flaky/500/1?long", &long, 500, 1, 1),
        ("GET", "/status/500", "", 500, 3, 3),
    ] {
        let found = client.send(Request::builder().method(method).uri(path), body).await;
        assert_eq!(found, (status, "a".into()), "{method} {path}");
        // Whatever the client saw, each attempt was an answer of the version.
        let after = counted(&town);
        assert_eq!((after.0 - before.0, after.1 - before.1), (attempts, errors), "{method} {path}");
        before = after;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_end_with_their_budget_and_not_with_an_error_of_ours() {
    let rules = json!([rule("/", &json!({"retry": {"codes": [500], "attempts": 1, "backoff": "1ms"}}))]);
    let (town, _backend) = town(rules).await;
    let mut client = town.client().await;
    let requests = 400;
    for _ in 0..requests {
        assert_eq!(client.get("/status/500").await, (500, "a".into()));
    }
    assert_eq!(client.get("/").await.0, 200);
    let retries = counted(&town).0 - requests;
    // Without a budget there would be as many as requests.
    let budget = limits::RETRIES_SAVED + requests / limits::REQUESTS_PER_RETRY;
    assert!((budget..requests).contains(&retries), "{retries}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_answered_with_504() {
    let rules = json!([
        rule("/hold", &json!({"timeouts": {"request": "30ms"}})),
        rule(
            "/backend",
            &json!({"timeouts": {"backendRequest": "30ms"}, "filters": [{"type": "URLRewrite",
            "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/hold"}}}],
            "retry": {"attempts": 2, "backoff": "1ms"}})
        ),
        rule("/off", &json!({"timeouts": {"request": "0s", "backendRequest": "0s"}})),
    ]);
    let (town, _backend) = town(rules).await;
    let mut client = town.client().await;
    assert_eq!(client.get("/hold").await.0, 504);
    assert_eq!(client.get("/off").await.0, 200);
    let before = counted(&town).1;
    assert_eq!(client.get("/backend").await.0, 504);
    assert_eq!(counted(&town).1 - before, 3);
    // It may have done something by now.
    assert_eq!(client.post("/backend", "buy").await.0, 504);
    assert_eq!(counted(&town).1 - before, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_end_in_time_breaks_off() {
    let mut town = Town::with_rules(1, json!([rule("/", &json!({"timeouts": {"request": "200ms"}}))]));
    let mut backend = Backend::start("slow").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let read = stream.read(&mut [0; 4096]).await.expect("a request");
        assert!(read > 0, "a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.expect("written");
        std::future::pending::<()>().await;
    });
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut client = town.client().await;
    let answer = client.exchange(Request::get("/"), "").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err(), "an answer of half its length is none");
    let counts = town.plane().snapshot().into_values().next().expect("one version");
    assert_eq!(counts.broken_answers, 1);
    server.abort();
}
