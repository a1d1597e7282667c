//! What one call costs without sockets: `cargo run --release -p sluice-api --example latency`. One JSON line for each.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use sluice_api::{Identity, InProcess, Options, Server};
use sluice_store::Store;
use tower::ServiceExt;

const PODS: usize = 5_000;
const CALLS: usize = 2_000;
const MAP: &str = "/api/v1/namespaces/default/configmaps/a";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(Store::in_memory(), Options::default()).await?;
    let api = server.in_process(Identity::system("latency"));
    let namespace = "/api/v1/namespaces/default";
    call(&api, "POST", &format!("{namespace}/serviceaccounts"), Some(json!({"metadata": {"name": "default"}}))).await;
    let data = json!({"metadata": {"name": "a"}, "data": {"text": "x".repeat(1_600)}});
    call(&api, "POST", &format!("{namespace}/configmaps"), Some(data)).await;

    measure("get", CALLS, async |_| call(&api, "GET", MAP, None).await).await?;
    measure("merge_patch", CALLS, async |n| {
        call(&api, "PATCH", MAP, Some(json!({"metadata": {"labels": {"n": n.to_string()}}}))).await;
    })
    .await?;
    measure("create_pod", PODS, async |n| {
        let pod =
            json!({"metadata": {"name": format!("p{n}")}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
        call(&api, "POST", &format!("{namespace}/pods"), Some(pod)).await;
    })
    .await?;
    measure("list_5000_pods", 20, async |_| call(&api, "GET", &format!("{namespace}/pods"), None).await).await?;
    measure("list_5000_pods_by_label", 20, async |_| {
        call(&api, "GET", &format!("{namespace}/pods?labelSelector=app=web"), None).await;
    })
    .await
}

/// Calls so many times, and prints the middle and the slow end.
async fn measure(name: &str, calls: usize, call: impl AsyncFn(usize)) -> Result<(), Box<dyn Error>> {
    let mut times: Vec<Duration> = Vec::with_capacity(calls);
    for n in 0..calls {
        let start = Instant::now();
        call(n).await;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let micros = |at: usize| times[at.min(calls - 1)].as_secs_f64() * 1e6;
    let line = json!({"name": name, "p50": micros(calls / 2), "p99": micros(calls * 99 / 100), "unit": "us"});
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

async fn call(api: &InProcess, method: &str, path: &str, body: Option<Value>) {
    let mut request = Request::builder().method(method).uri(path).header("user-agent", "latency");
    if method == "PATCH" {
        request = request.header("content-type", "application/merge-patch+json");
    }
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let request = request.body(Full::new(body)).expect("the request is well-formed");
    let Ok(response) = api.clone().oneshot(request).await;
    assert!(response.status().is_success(), "{method} {path}: {}", response.status());
    let Ok(_) = response.into_body().collect().await;
}
