//! What a gateway has seen, counted: by version with exact latencies, by route in a few numbers, and what it refused. Each counter is
//! written by one worker and read by whoever takes a snapshot: no shared writes on a request's way.

mod ledger;
mod route;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;
use sluice_route::{RouteId, Version, VersionId};
use sluice_stats::{BUCKETS, Histogram, VersionSnapshot, bucket_of};

pub(crate) use self::ledger::Tally;
use self::ledger::{Cell, Ledger};
pub(crate) use self::route::{BOUNDS, RouteCounts, RouteKey, RouteMeter};
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
    circuit_openings: Cell,
    circuit_diverted: Cell,
    circuit_refused: Cell,
}

/// What became of a version that failed too much to be asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CircuitCounts {
    /// How often it was found to be so, by any worker.
    pub openings: u64,
    /// Requests that another version took instead.
    pub diverted: u64,
    /// Requests that nobody could take.
    pub refused: u64,
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

impl CircuitCounts {
    fn merge(&mut self, other: Self) {
        let Self { openings, diverted, refused } = other;
        self.openings += openings;
        self.diverted += diverted;
        self.refused += refused;
    }
}

/// Everything that was counted for a version.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    served: VersionSnapshot,
    mirrors: MirrorCounts,
    circuits: CircuitCounts,
}

impl Default for Meter {
    fn default() -> Self {
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
            circuit_openings: Cell::default(),
            circuit_diverted: Cell::default(),
            circuit_refused: Cell::default(),
        }
    }
}

impl Meter {
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

    pub(crate) fn circuit_opened(&self) {
        self.circuit_openings.increment();
    }

    pub(crate) fn diverted(&self) {
        self.circuit_diverted.increment();
    }

    pub(crate) fn circuit_refused(&self) {
        self.circuit_refused.increment();
    }
}

impl Tally for Meter {
    type Counts = Counts;

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
        let circuits = CircuitCounts {
            openings: self.circuit_openings.get(),
            diverted: self.circuit_diverted.get(),
            refused: self.circuit_refused.get(),
        };
        Counts { served, mirrors, circuits }
    }

    fn merge(sum: &mut Counts, more: &Counts) {
        sum.served.merge(&more.served);
        sum.mirrors.merge(more.mirrors);
        sum.circuits.merge(more.circuits);
    }
}

/// The meters of all workers.
#[derive(Default)]
pub(crate) struct Meters {
    versions: Ledger<VersionKey, Meter>,
    routes: Ledger<RouteKey, RouteMeter>,
    /// Requests that were answered without a backend, by the reason.
    refusals: Ledger<&'static str, Cell>,
}

impl Meters {
    pub(crate) fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        self.versions.counts(|_| true).into_iter().map(|(key, counts)| (key, counts.served)).collect()
    }

    pub(crate) fn mirrors(&self) -> BTreeMap<VersionKey, MirrorCounts> {
        self.versions.counts(|_| true).into_iter().map(|(key, counts)| (key, counts.mirrors)).collect()
    }

    pub(crate) fn circuits(&self) -> BTreeMap<VersionKey, CircuitCounts> {
        self.versions.counts(|_| true).into_iter().map(|(key, counts)| (key, counts.circuits)).collect()
    }

    pub(crate) fn snapshot_of(&self, namespace: &str, hash: &str) -> VersionSnapshot {
        let mut counts = self.versions.counts(|key| key.namespace == namespace && key.hash == hash);
        counts.pop_first().map(|(_, counts)| counts.served).unwrap_or_default()
    }

    pub(crate) fn routes(&self) -> BTreeMap<RouteKey, RouteCounts> {
        self.routes.counts(|_| true)
    }

    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.counts(|_| true)
    }
}

/// One worker's meters.
#[derive(Default)]
pub(crate) struct LocalMeters {
    versions: HashMap<VersionId, OfVersion>,
    refusals: HashMap<&'static str, Arc<Cell>>,
    /// Of routes, over all versions.
    routes: usize,
}

struct OfVersion {
    meter: Arc<Meter>,
    routes: HashMap<RouteId, Arc<RouteMeter>>,
}

impl LocalMeters {
    pub(crate) fn version(&mut self, version: &Version, all: &Meters) -> Arc<Meter> {
        self.of(version, all).meter.clone()
    }

    /// Those of a request: of its version, and of its route with that.
    pub(crate) fn route(&mut self, route: &RouteId, version: &Version, all: &Meters) -> (Arc<Meter>, Arc<RouteMeter>) {
        if let Some(of) = self.versions.get(&version.id)
            && let Some(known) = of.routes.get(route)
        {
            return (of.meter.clone(), known.clone());
        }
        if self.routes >= limits::METERED {
            self.versions.clear();
            self.routes = 0;
        }
        self.routes += 1;
        let meter = all.routes.register(RouteKey { route: route.clone(), version: key(version) });
        let of = self.of(version, all);
        of.routes.insert(route.clone(), meter.clone());
        (of.meter.clone(), meter)
    }

    pub(crate) fn refused(&mut self, reason: &'static str, all: &Meters) {
        self.refusals.entry(reason).or_insert_with(|| all.refusals.register(reason)).increment();
    }

    fn of(&mut self, version: &Version, all: &Meters) -> &mut OfVersion {
        if self.versions.len() >= limits::METERED && !self.versions.contains_key(&version.id) {
            self.versions.clear();
            self.routes = 0;
        }
        self.versions.entry(version.id).or_insert_with(|| {
            let meter = all.versions.register(key(version));
            OfVersion { meter, routes: HashMap::default() }
        })
    }
}

fn key(version: &Version) -> VersionKey {
    VersionKey { namespace: version.namespace.clone(), hash: version.hash.clone() }
}
