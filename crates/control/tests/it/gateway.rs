//! A gateway without sockets: it acknowledges what it reads, and sends made-up requests to whom the exposure names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;
use sluice_control::release::Measure;
use sluice_stats::VersionSnapshot;

/// Requests of one beat, and how long a beat is: 500 a second.
const REQUESTS: u64 = 10;
const BEAT: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(crate) struct Gateway {
    state: Mutex<State>,
    /// Acknowledges nothing while true.
    pub(crate) deaf: AtomicBool,
}

#[derive(Default)]
struct State {
    rollouts: u64,
    slices: u64,
    /// Hash and weight of the candidate; hash of the stable version.
    exposure: Option<(String, Option<String>, u64)>,
    /// Every n-th request to this version fails.
    faults: BTreeMap<String, u64>,
    counters: BTreeMap<String, VersionSnapshot>,
    beats: u64,
}

impl Gateway {
    /// Every n-th request to pods of this version fails from now on.
    pub(crate) fn break_version(&self, hash: &str, every: u64) {
        self.with(|state| state.faults.insert(hash.to_owned(), every));
    }

    pub(crate) fn counted(&self, hash: &str) -> VersionSnapshot {
        self.with(|state| state.counters.get(hash).cloned().unwrap_or_default())
    }

    pub(crate) async fn run(self: Arc<Self>, client: Client) {
        let rollout = ApiResource::from_gvk(&GroupVersionKind::gvk("sluice.dev", "v1alpha1", "Rollout"));
        let rollouts: Api<DynamicObject> = Api::all_with(client.clone(), &rollout);
        let slices: Api<EndpointSlice> = Api::all(client.clone());
        let rollouts = watcher(rollouts, watcher::Config::default()).default_backoff().applied_objects();
        let slices = watcher(slices, watcher::Config::default()).default_backoff().applied_objects();
        let news = stream::select(
            rollouts.map(|rollout| rollout.map(|rollout| self.learn_rollout(&rollout))),
            slices.map(|slice| slice.map(|slice| self.with(|state| state.slices = state.slices.max(revision(&slice))))),
        );
        let mut news = std::pin::pin!(news);
        let mut beat = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                Some(_) = news.next() => {}
                _ = beat.tick() => self.with(State::serve),
            }
            if !self.deaf.load(Ordering::Relaxed) {
                self.acknowledge(&client).await;
            }
        }
    }

    fn learn_rollout(&self, rollout: &DynamicObject) {
        let exposure = &rollout.data["status"]["exposure"];
        let text = |field: &str| exposure[field].as_str().map(str::to_owned);
        self.with(|state| {
            state.rollouts = state.rollouts.max(revision(rollout));
            let weight = exposure["candidateWeight"].as_u64().unwrap_or(0);
            state.exposure = text("stable").map(|stable| (stable, text("candidate"), weight));
        });
    }

    async fn acknowledge(&self, client: &Client) {
        let acknowledged = self.with(|state| {
            json!({"rollouts": state.rollouts.to_string(), "endpointslices": state.slices.to_string()}).to_string()
        });
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "gateway-test", "labels": {"sluice.dev/component": "gateway"},
                         "annotations": {"sluice.dev/acknowledged": acknowledged}},
            "spec": {"holderIdentity": "test", "leaseDurationSeconds": 40, "renewTime": now}});
        let leases: Api<Lease> = Api::namespaced(client.clone(), "sluice-system");
        // Refused until the namespace is there; the next beat tries again.
        let _ = leases.patch("gateway-test", &PatchParams::apply("gateway").force(), &Patch::Apply(&lease)).await;
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// One beat of requests, split as the exposure says.
    fn serve(&mut self) {
        let Some((stable, candidate, weight)) = self.exposure.clone() else { return };
        for _ in 0..REQUESTS {
            self.beats += 1;
            // 7 is prime to 10: the share is met exactly over each ten requests.
            let to_candidate = self.beats * 7 % 10 * 1000 < weight;
            let hash = candidate.clone().filter(|_| to_candidate).unwrap_or_else(|| stable.clone());
            let every = self.faults.get(&hash).copied();
            let counters = self.counters.entry(hash).or_default();
            counters.requests += 1;
            counters.errors_5xx += u64::from(every.is_some_and(|every| counters.requests.is_multiple_of(every)));
            counters.latency.record(Duration::from_millis(2));
        }
    }
}

impl Measure for Gateway {
    fn snapshot(&self, _namespace: &str, hash: &str) -> VersionSnapshot {
        self.counted(hash)
    }
}

fn revision<K: Resource>(object: &K) -> u64 {
    object.resource_version().and_then(|text| text.parse().ok()).unwrap_or(0)
}
