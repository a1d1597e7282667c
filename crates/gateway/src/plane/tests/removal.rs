//! Not one failed request while backends come and go by the removal protocol, and weights that hold over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::town::{Backend, Town};

const CLIENTS: usize = 16;
const REPLACEMENTS: usize = 150;
/// Well below the time after which an idle connection would be closed anyway.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_replaced_under_load_fail_no_request() {
    let mut town = Town::new(2);
    let mut backends = Vec::new();
    for number in 0..3 {
        let backend = Backend::start(&format!("first-{number}")).await;
        town.add("shop", &backend, "v1");
        backends.push(backend);
    }
    town.publish().await;

    let done = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (mut client, done, sent) = (town.client().await, done.clone(), sent.clone());
        clients.push(tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                // Half of them with bodies, which nobody may replay.
                let (status, body) = match number % 2 {
                    0 => client.get("/").await,
                    _ => client.post("/", "a body").await,
                };
                assert_eq!(status, 200, "{body}");
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }

    for number in 0..REPLACEMENTS {
        let before = sent.load(Ordering::Relaxed);
        let fresh = Backend::start(&format!("pod-{number}")).await;
        let old = backends.remove(0);
        town.add("shop", &fresh, if number % 2 == 0 { "v2" } else { "v3" });
        backends.push(fresh);
        town.remove(&old);
        town.publish().await;
        town.drained().await;
        // Acknowledged and drained: from here on it may die without anybody noticing.
        old.kill().await;
        while sent.load(Ordering::Relaxed) < before + CLIENTS as u64 {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no failed request");
    }
    let counts = town.plane().snapshot();
    let failures: u64 = counts.values().map(|c| c.connection_failures + c.broken_answers + c.errors_5xx).sum();
    let requests: u64 = counts.values().map(|counts| counts.requests).sum();
    assert_eq!((failures, requests), (0, sent.load(Ordering::Relaxed)));
    town.workers.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_drains_until_its_last_answer() {
    let mut town = Town::new(1);
    let (held, other) = (Backend::start("held").await, Backend::start("other").await);
    town.add("shop", &held, "v1");
    town.publish().await;
    let mut client = town.client().await;
    let request = tokio::spawn(async move { client.exchange(http::Request::get("/hold"), "").await });
    held.holding.notified().await;
    town.remove(&held);
    town.add("shop", &other, "v1");
    town.publish().await;
    assert_eq!(town.draining().iter().map(ToString::to_string).collect::<Vec<_>>(), ["uid-held"]);
    assert_eq!(town.client().await.get("/").await, (200, "other".into()));
    // The client gives up: nothing is in flight any more.
    request.abort();
    town.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_to_a_withdrawn_pod_are_closed_by_the_gateway() {
    let mut town = Town::new(1);
    let mut backend = Backend::start("kept").await;
    let listener = TcpListener::bind((backend.address.ip(), 0)).await.expect("a free port");
    backend.address = listener.local_addr().expect("bound");
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut client = town.client().await;
    let request = tokio::spawn(async move { client.get("/").await });
    let (mut connection, _) = listener.accept().await.expect("a connection");
    let mut head = [0; 4096];
    assert!(connection.read(&mut head).await.expect("a request") > 0);
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("written");
    assert_eq!(request.await.expect("an answer"), (200, "ok".into()));
    town.remove(&backend);
    town.publish().await;
    // Acknowledged means closed: the end of the connection is there already, or on its way.
    let end = tokio::time::timeout(CLOSED_WITHIN, connection.read(&mut head)).await;
    assert_eq!(end.expect("closed at once, not when tired of waiting").expect("closed in order"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_gets_its_share_on_every_worker() {
    let mut town = Town::new(2);
    let (stable, candidate) = (Backend::start("stable").await, Backend::start("candidate").await);
    town.add("shop", &stable, "v1");
    town.add("shop", &candidate, "v2");
    town.expose(json!({"stable": "v1", "candidate": "v2", "candidateWeight": 500}));
    town.publish().await;
    let (clients, each) = (10, 100);
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let mut client = town.client().await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..each {
                assert_eq!(client.get("/").await.0, 200);
            }
        }));
    }
    for task in tasks {
        task.await.expect("no failed request");
    }
    let requests = town.requests();
    assert_eq!(requests["v1"] + requests["v2"], clients * each);
    // 5 % of 1000, and each of two workers less than two off.
    assert!((47..=53).contains(&requests["v2"]), "{requests:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_finishes_what_is_in_flight() {
    let mut town = Town::new(2);
    let backend = Backend::start("a").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let mut client = town.client().await;
        assert_eq!(client.get("/").await.0, 200);
        tasks.push(tokio::spawn(async move { client.get("/").await.0 }));
    }
    let address = town.address;
    for task in tasks {
        assert_eq!(task.await.expect("an answer"), 200);
    }
    tokio::time::timeout(super::town::DEADLINE, town.workers.stop()).await.expect("stops in time");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_died_is_asked_a_few_times_and_then_left_alone() {
    let mut town = Town::new(1);
    let (dead, alive) = (Backend::start("dead").await, Backend::start("alive").await);
    for backend in [&dead, &alive] {
        town.add("shop", backend, "v1");
    }
    town.publish().await;
    dead.kill().await;
    let mut client = town.client().await;
    for _ in 0..300 {
        assert_eq!(client.get("/").await, (200, "alive".to_owned()));
    }
    let all = town.plane().snapshot();
    let failures: u64 = all.values().map(|counts| counts.connection_failures).sum();
    // Those that it takes to find out, and one for each time that it was tried again on a slow machine.
    assert!((5..12).contains(&failures), "{failures} of 300 requests met the dead one first");
}
