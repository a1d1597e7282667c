use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_store::{Expect, Write};

use crate::town::{Town, pod};

/// What a list of 5 000 pods may take, without optimisation, too.
const LIST_TIME: Duration = Duration::from_millis(50);
const PODS: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_pods_are_listed_at_once() {
    let town = Town::new().await;
    let path = "/api/v1/namespaces/ns/pods";
    town.post(path, pod("p")).await.created();
    let one: Bytes = town.store.get("/core/pods/ns/p").expect("the pod is stored").bytes.clone();
    // Their contents do not matter here, so they need not go through all that a creation is.
    let copies = (1..PODS).map(|n| {
        let bytes = one.clone();
        town.store.commit(Write::put(format!("/core/pods/ns/p{n}"), Expect::Absent, move |_| bytes))
    });
    futures::future::join_all(copies).await.into_iter().for_each(|made| drop(made.expect("the store takes it")));
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        let bytes = town.bytes(path).await;
        best = best.min(start.elapsed());
        assert!(bytes > PODS * 1_000, "{bytes} bytes cannot be {PODS} pods");
    }
    println!("list of {PODS} pods: {best:?}");
    assert!(best <= LIST_TIME, "{best:?}");
}
