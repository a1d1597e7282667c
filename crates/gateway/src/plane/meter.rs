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
    mirrored: Cell,
    mirrors_dropped: Cell,
    mirrors_failed: Cell,
}

/// Copies of requests, which count nowhere else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MirrorCounts {
    /// The version answered, whatever it was.
    pub answered: u64,
    /// Never sent: too many were on their way, or the request's body was too long to be kept or broke off.
    pub dropped: u64,
    /// Sent without a whole answer in time, or not to be sent.
    pub failed: u64,
}

impl MirrorCounts {
    fn merge(&mut self, other: Self) {
        let Self { answered, dropped, failed } = other;
        self.answered += answered;
        self.dropped += dropped;
        self.failed += failed;
    }
}

/// Everything that was counted for a version.
#[derive(Clone, Default)]
struct Counts {
    served: VersionSnapshot,
    mirrors: MirrorCounts,
}

impl Counts {
    fn merge(&mut self, other: &Self) {
        self.served.merge(&other.served);
        self.mirrors.merge(other.mirrors);
    }
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
            mirrored: Cell::default(),
            mirrors_dropped: Cell::default(),
            mirrors_failed: Cell::default(),
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

    pub(crate) fn mirrored(&self) {
        self.mirrored.increment();
    }

    pub(crate) fn mirror_dropped(&self) {
        self.mirrors_dropped.increment();
    }

    pub(crate) fn mirror_failed(&self) {
        self.mirrors_failed.increment();
    }

    fn counts(&self) -> Counts {
        let served = VersionSnapshot {
            requests: self.requests.get(),
            errors_5xx: self.errors_5xx.get(),
            errors_4xx: self.errors_4xx.get(),
            connection_failures: self.connection_failures.get(),
            broken_answers: self.broken_answers.get(),
            latency: Histogram::from_counts(self.latency.iter().map(Cell::get)),
        };
        let mirrors = MirrorCounts {
            answered: self.mirrored.get(),
            dropped: self.mirrors_dropped.get(),
            failed: self.mirrors_failed.get(),
        };
        Counts { served, mirrors }
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
    retired: BTreeMap<VersionKey, Counts>,
}

impl Meters {
    pub(crate) fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        self.counts(|_| true).into_iter().map(|(key, counts)| (key, counts.served)).collect()
    }

    pub(crate) fn mirrors(&self) -> BTreeMap<VersionKey, MirrorCounts> {
        self.counts(|_| true).into_iter().map(|(key, counts)| (key, counts.mirrors)).collect()
    }

    pub(crate) fn snapshot_of(&self, namespace: &str, hash: &str) -> VersionSnapshot {
        let mut counts = self.counts(|key| key.namespace == namespace && key.hash == hash);
        counts.pop_first().map(|(_, counts)| counts.served).unwrap_or_default()
    }

    fn counts(&self, wanted: impl Fn(&VersionKey) -> bool) -> BTreeMap<VersionKey, Counts> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let retired = state.retired.iter().filter(|(key, _)| wanted(key));
        let mut all: BTreeMap<_, _> = retired.map(|(key, counts)| (key.clone(), counts.clone())).collect();
        for (key, meter) in state.live.iter().filter(|(key, _)| wanted(key)) {
            all.entry(key.clone()).or_default().merge(&meter.counts());
        }
        all
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
            self.retired.entry(key).or_default().merge(&meter.counts());
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
