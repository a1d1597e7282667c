//! Counters per version: each written by one worker, read by whoever takes a snapshot. No shared writes on a request's way.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_route::{Version, VersionId};
use sluice_stats::{BUCKETS, Histogram, VersionSnapshot, bucket_of};

use super::limits;

/// A version as the gateway tells them apart: the namespace and `pod-template-hash` of its pods (empty when unlabelled).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey {
    pub namespace: String,
    pub hash: String,
}

/// Counters of one version on one worker.
pub(crate) struct Meter {
    requests: Cell,
    errors_5xx: Cell,
    errors_4xx: Cell,
    connection_failures: Cell,
    broken_answers: Cell,
    latency: Box<[Cell]>,
}

/// A counter with a single writer: load and store instead of a locked addition.
#[derive(Default)]
struct Cell(AtomicU64);

impl Cell {
    fn increment(&self) {
        self.0.store(self.get() + 1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Meter {
    fn new() -> Self {
        Self {
            requests: Cell::default(),
            errors_5xx: Cell::default(),
            errors_4xx: Cell::default(),
            connection_failures: Cell::default(),
            broken_answers: Cell::default(),
            latency: (0..BUCKETS).map(|_| Cell::default()).collect(),
        }
    }

    pub(crate) fn answered(&self, status: u16, took: Duration) {
        self.requests.increment();
        match status {
            500.. => self.errors_5xx.increment(),
            400.. => self.errors_4xx.increment(),
            _ => {}
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency[bucket_of(micros)].increment();
    }

    pub(crate) fn connection_failed(&self) {
        self.connection_failures.increment();
    }

    pub(crate) fn broke_off(&self) {
        self.broken_answers.increment();
    }

    fn snapshot(&self) -> VersionSnapshot {
        VersionSnapshot {
            requests: self.requests.get(),
            errors_5xx: self.errors_5xx.get(),
            errors_4xx: self.errors_4xx.get(),
            connection_failures: self.connection_failures.get(),
            broken_answers: self.broken_answers.get(),
            latency: Histogram::from_counts(self.latency.iter().map(Cell::get)),
        }
    }
}

/// The meters of all workers.
#[derive(Default)]
pub(crate) struct Meters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Vec<(VersionKey, Arc<Meter>)>,
    /// What meters had counted that no worker holds any more.
    retired: BTreeMap<VersionKey, VersionSnapshot>,
}

impl Meters {
    pub(crate) fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = state.retired.clone();
        for (key, meter) in &state.live {
            all.entry(key.clone()).or_default().merge(&meter.snapshot());
        }
        all
    }

    pub(crate) fn snapshot_of(&self, namespace: &str, hash: &str) -> VersionSnapshot {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let key = VersionKey { namespace: namespace.to_owned(), hash: hash.to_owned() };
        let mut sum = state.retired.get(&key).cloned().unwrap_or_default();
        for (_, meter) in state.live.iter().filter(|(known, _)| *known == key) {
            sum.merge(&meter.snapshot());
        }
        sum
    }

    fn register(&self, version: &Version) -> Arc<Meter> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.live.len() >= limits::METERED_VERSIONS {
            state.retire();
        }
        let meter = Arc::new(Meter::new());
        let key = VersionKey { namespace: version.namespace.clone(), hash: version.hash.clone() };
        state.live.push((key, meter.clone()));
        meter
    }
}

impl State {
    fn retire(&mut self) {
        let (live, gone) =
            std::mem::take(&mut self.live).into_iter().partition(|(_, meter)| Arc::strong_count(meter) > 1);
        self.live = live;
        for (key, meter) in gone {
            self.retired.entry(key).or_default().merge(&meter.snapshot());
        }
        while self.retired.len() > limits::METERED_VERSIONS {
            self.retired.pop_first();
        }
    }
}

/// One worker's meters by version.
#[derive(Default)]
pub(crate) struct LocalMeters(HashMap<VersionId, Arc<Meter>>);

impl LocalMeters {
    pub(crate) fn get(&mut self, version: &Version, all: &Meters) -> Arc<Meter> {
        if let Some(meter) = self.0.get(&version.id) {
            return meter.clone();
        }
        if self.0.len() >= limits::METERED_VERSIONS {
            self.0.clear();
        }
        let meter = all.register(version);
        self.0.insert(version.id, meter.clone());
        meter
    }
}
