//! Versions that fail: who pays for it, and how long.

use serde_json::json;

use super::town::{Backend, Town};
use crate::plane::{CircuitCounts, limits};

fn counts(town: &Town, hash: &str) -> CircuitCounts {
    let circuits = town.plane().circuits();
    circuits.into_iter().find(|(key, _)| key.hash == hash).map(|(_, counts)| counts).expect("a known version")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_of_a_sick_candidate_goes_to_the_stable_version_and_who_asks_for_it_gets_it() {
    let mut town = Town::new(1);
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    town.add("shop", &old, "v1");
    town.add("shop", &new, "v2");
    let preview = json!([{"headers": [{"name": "x-preview", "value": "1"}]}]);
    town.expose(json!({"stable": "v1", "candidate": "v2", "candidateWeight": 5000, "match": preview}));
    town.publish().await;
    let mut client = town.client().await;
    // The candidate alone has trouble with this.
    let mut failed = 0;
    for _ in 0..200 {
        let (status, _) = client.get("/sick/new").await;
        failed += u64::from(status != 200);
    }
    // On a slow machine a probe or two come later.
    let most = u64::from(limits::SICK_IN_A_ROW);
    assert!((most..most + 3).contains(&failed), "{failed} failed");
    let found = counts(&town, "v2");
    assert_eq!((found.openings, found.refused, found.diverted), (failed + 1 - most, 0, 100 - failed));
    assert_eq!(town.requests()["v1"] + town.requests()["v2"], 200);
    let asked = http::Request::get("/").header("x-preview", "1");
    assert_eq!(client.send(asked, "").await, (200, "new".into()));
    // Nobody else is concerned: the other version, and errors where there is no other.
    town.expose(json!({"stable": "v2", "candidate": "v1", "candidateWeight": 0}));
    town.publish().await;
    for _ in 0..50 {
        assert_eq!(client.get("/sick/new").await.0, 500);
    }
    assert_eq!(counts(&town, "v2").refused, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_silent_is_spared_and_back_at_once() {
    let mut town = Town::new(1);
    let gone = Backend::start("gone").await;
    town.add("shop", &gone, "v1");
    town.publish().await;
    let address = gone.address;
    gone.kill().await;
    let mut client = town.client().await;
    let mut spared = None;
    for _ in 0..200 {
        let answer = client.exchange(http::Request::get("/"), "").await;
        assert!([502, 503].contains(&answer.status().as_u16()), "{answer:?}");
        if answer.headers().get("x-sluice-reason").is_some_and(|reason| reason == "circuit-open") {
            spared = answer.headers().get("retry-after").cloned();
        }
    }
    assert_eq!(spared.expect("some were spared"), "1");
    assert!(counts(&town, "v1").refused > 0);
    // One good answer is enough.
    let back = Backend::again("back", address).await;
    let mut tries = 0;
    while client.get("/").await.0 != 200 {
        tries += 1;
        tokio::time::sleep(limits::SILENT_PAUSE / 5).await;
        assert!(tries < 1000, "never back");
    }
    for _ in 0..100 {
        assert_eq!(client.get("/").await, (200, "back".into()));
    }
    drop(back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_a_backend_closes_are_no_illness() {
    let mut town = Town::new(1);
    let backend = Backend::hasty("hasty").await;
    town.add("shop", &backend, "v1");
    town.publish().await;
    let mut client = town.client().await;
    for _ in 0..300 {
        assert_eq!(client.get("/").await, (200, "hasty".into()));
    }
    assert_eq!(counts(&town, "v1"), CircuitCounts::default());
}
