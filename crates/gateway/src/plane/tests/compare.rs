//! Parallel runs: what is compared, and that no client notices.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use sluice_compare::{PathReport, Report};

use super::town::{Backend, DEADLINE, Town};
use crate::plane::limits;

/// With a stable backend `old` and a candidate `new`, all of whose answers are compared by these terms.
async fn town(terms: Value) -> (Town, Backend, Backend) {
    let mut town = Town::new(1);
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    town.add("shop", &old, "v1");
    town.add("shop", &new, "v2");
    let mut compare = json!({"sample": "100%"});
    compare.as_object_mut().expect("an object").extend(terms.as_object().cloned().unwrap_or_default());
    let copies = json!({"share": 10_000, "methods": ["GET"], "compare": compare});
    town.expose(json!({"stable": "v1", "candidate": "v2", "copies": copies}));
    town.publish().await;
    (town, old, new)
}

/// The report of the one comparison, as soon as it says this.
async fn report(town: &Town, what: &str, holds: impl Fn(&Report) -> bool) -> Report {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let reached = async {
        loop {
            let found = town.plane().comparisons().pop_first().map(|(_, report)| report);
            if let Some(found) = found.filter(&holds) {
                return found;
            }
            ticks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, reached)
        .await
        .unwrap_or_else(|_| panic!("not {what}: {:?}", town.plane().comparisons()))
}

fn places(report: &Report) -> Vec<String> {
    let places = report.endpoints.iter().flat_map(|endpoint| &endpoint.paths);
    places.map(|PathReport { path, differs, .. }| format!("{path} {differs}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_answer_and_the_client_hears_the_stable_one() {
    let (town, _old, mut new) = town(json!({"noise": "0%", "ignore": ["json:$.headers.x-sluice-mirror"]})).await;
    let mut client = town.client().await;
    for _ in 0..3 {
        let request = Request::get("/echo?x=1").header("x-parallel-run", "a lie").header("cookie", "secret=1");
        let (status, text) = client.send(request, "").await;
        let heard: Value = serde_json::from_str(&text).expect("an echo");
        assert_eq!((status, &heard["headers"]["x-parallel-run"]), (200, &Value::Null));
        let copy = new.copy().await;
        assert_eq!((&copy["headers"]["x-parallel-run"], &copy["target"]), (&json!("candidate"), &json!("/echo?x=1")));
    }
    assert_eq!(client.post("/", "written").await, (200, "old".into()));
    assert_eq!(client.get("/status/404").await, (404, "old".into()));
    let report = report(&town, "compared", |report| report.samples == 4).await;
    let endpoints: Vec<(&str, u64, u64)> =
        report.endpoints.iter().map(|own| (own.endpoint.as_str(), own.samples, own.mismatched)).collect();
    assert_eq!(endpoints, [("GET /echo", 3, 3), ("GET /status/*", 1, 1)]);
    assert_eq!(places(&report), ["json:$.headers.x-parallel-run 3", "bytes 1"]);
    let kept = serde_json::to_string(&report).expect("a report is data");
    assert!(!kept.contains("secret"), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_anyway_is_learnt_by_asking_twice() {
    let (town, mut old, _new) = town(json!({"maxMismatch": "1%", "minSamples": 10})).await;
    let mut client = town.client().await;
    for _ in 0..60 {
        assert_eq!(client.get("/").await, (200, "old".into()));
    }
    let twin = old.copy().await;
    assert_eq!(twin["headers"]["x-parallel-run"], "stable");
    let report = report(&town, "compared", |report| report.samples == 60).await;
    assert!(report.twins >= 20 && report.judged > 0, "{report:?}");
    assert_eq!((report.twins_mismatched, report.mismatched), (0, report.judged), "{report:?}");
    let text = town.plane().exposition();
    let line =
        "sluice_gateway_compared_total{namespace=\"default\",rollout=\"shop\",stable=\"v1\",version=\"v2\"} 60\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("path=\"bytes\"} 60\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_is_silent_differs_and_holds_up_nobody() {
    let (town, _old, new) = town(json!({"noise": "0%"})).await;
    new.kill().await;
    let mut client = town.client().await;
    for _ in 0..limits::COMPARISONS {
        assert_eq!(client.get("/").await, (200, "old".into()));
    }
    let report = report(&town, "compared", |report| report.samples > 10).await;
    assert_eq!(report.statuses.len(), 1, "{report:?}");
    assert_eq!((report.statuses[0].stable, report.statuses[0].candidate), (200, 0));
    assert_eq!(report.mismatched, report.samples);
    // All of these were answered by the stable version, and no copy counts as a request.
    assert_eq!(town.requests()["v1"], limits::COMPARISONS as u64);
    assert_eq!(town.requests().get("v2").copied().unwrap_or(0), 0);
}
