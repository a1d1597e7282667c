//! What happens to copies of requests, and what does not happen to the requests.

use http::Request;
use serde_json::{Value, json};

use super::town::{Backend, Town};
use crate::plane::{MirrorCounts, limits};

/// A rule that sends to `shop` and copies to `copy`.
fn mirrored(filters: &Value, own: &Value) -> Value {
    let mirror = json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "copy", "port": 80}}});
    let mut all = vec![mirror];
    all.extend(filters.as_array().cloned().unwrap_or_default());
    json!([{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}], "filters": all,
        "backendRefs": [{"name": "shop", "port": 80, "filters": own}]}])
}

/// With a backend `live` of version `v1` and a mirror `copy` of `v2`.
async fn town(rules: Value) -> (Town, Backend, Backend) {
    let mut town = Town::with_rules(1, rules);
    let (live, copy) = (Backend::start("live").await, Backend::start("copy").await);
    town.service("copy");
    town.add("shop", &live, "v1");
    town.add("copy", &copy, "v2");
    town.publish().await;
    (town, live, copy)
}

/// After every copy has ended: the mirror's own counts, and how many live requests each version had.
async fn counts(mut town: Town, copy: &Backend) -> (MirrorCounts, [u64; 2]) {
    town.remove(copy);
    town.publish().await;
    town.drained().await;
    let mirrors = town.plane().mirrors();
    let counts = mirrors.into_iter().find(|(key, _)| key.hash == "v2").map(|(_, counts)| counts).expect("counted");
    let requests = town.requests();
    (counts, ["v1", "v2"].map(|hash| requests.get(hash).copied().unwrap_or(0)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_sees_what_the_backend_sees_and_the_client_hears_only_the_backend() {
    let filters =
        json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]}}]);
    let own = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x-b"]}}]);
    let (town, _live, mut copy) = town(mirrored(&filters, &own)).await;
    let mut client = town.client().await;
    let request = Request::post("/echo?x=1").header("x-b", "2").header("x-sluice-mirror", "a lie");
    let (status, text) = client.send(request, "hello").await;
    let mut live: Value = serde_json::from_str(&text).expect("an echo");
    assert_eq!(
        (status, &live["headers"]["x-sluice-mirror"], &live["headers"]["x-b"]),
        (200, &Value::Null, &Value::Null)
    );
    live["headers"]["x-sluice-mirror"] = json!("default/r");
    live["headers"]["x-b"] = json!("2");
    assert_eq!(copy.copy().await, live);
    assert_eq!(client.get("/status/500").await, (500, "live".into()));
    assert_eq!(copy.copy().await["method"], "GET");
    let found = counts(town, &copy).await;
    assert_eq!(found, (MirrorCounts { answered: 2, dropped: 0, failed: 0 }, [2, 0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_hangs_holds_up_nobody_and_gets_no_more_than_it_may() {
    let own =
        json!([{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/"}}}]);
    let (town, _live, copy) = town(mirrored(&json!([]), &own)).await;
    let mut client = town.client().await;
    let requests = limits::MIRRORS + 2;
    for _ in 0..requests {
        assert_eq!(client.get("/hold").await, (200, "live".into()));
    }
    copy.kill().await;
    let copy = Backend::start("copy").await;
    let found = counts(town, &copy).await;
    let expected = MirrorCounts { answered: 0, dropped: 2, failed: limits::MIRRORS as u64 };
    assert_eq!(found, (expected, [requests as u64, 0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_gone_is_counted_and_a_long_body_is_not_copied() {
    let (town, _live, mut copy) = town(mirrored(&json!([]), &json!([]))).await;
    let mut client = town.client().await;
    let long = "x".repeat(limits::KEPT_BODY + 1);
    assert_eq!(client.post("/", &long).await, (200, "live".into()));
    assert_eq!(client.post("/echo", &long[1..]).await.0, 200);
    assert_eq!(copy.copy().await["body"].as_str().map(str::len), Some(limits::KEPT_BODY));
    copy.kill().await;
    assert_eq!(client.post("/", "short").await, (200, "live".into()));
    let copy = Backend::start("copy").await;
    let found = counts(town, &copy).await;
    assert_eq!(found, (MirrorCounts { answered: 1, dropped: 1, failed: 1 }, [3, 0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_s_share_of_copies_follows_its_exposure() {
    let mut town = Town::with_rules(
        1,
        json!([{"backendRefs": [{"name": "shop", "port": 80, "filters":
        [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]}}]}]}]),
    );
    let (old, mut new) = (Backend::start("old").await, Backend::start("new").await);
    town.add("shop", &old, "v1");
    town.add("shop", &new, "v2");
    let mut client = town.client().await;
    let mut copied = 0;
    for (share, expected) in [(10_000, 20), (2500, 5), (0, 0), (5000, 10)] {
        town.expose(json!({"stable": "v1", "candidate": "v2", "copies": {"share": share, "methods": ["GET"]}}));
        town.publish().await;
        for _ in 0..20 {
            assert_eq!(client.get("/").await, (200, "old".into()));
            assert_eq!(client.post("/", "written").await, (200, "old".into()));
        }
        copied += expected;
        for _ in 0..expected {
            let copy = new.copy().await;
            let headers = &copy["headers"];
            assert_eq!(
                (&copy["method"], &headers["x-sluice-mirror"], &headers["x-a"]),
                (&json!("GET"), &json!("default/r"), &json!("1"))
            );
        }
    }
    town.expose(json!({"stable": "v1"}));
    let found = counts(town, &new).await;
    assert_eq!(found, (MirrorCounts { answered: copied, dropped: 0, failed: 0 }, [160, 0]));
}
