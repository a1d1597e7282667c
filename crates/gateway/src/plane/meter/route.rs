//! What requests of one route came to, by the version that answered: few numbers, for there may be many routes.

use std::time::Duration;

use sluice_route::RouteId;

use super::VersionKey;
use super::ledger::{Cell, Tally};

/// Upper bounds of the buckets, in microseconds; what takes longer has one more.
pub(crate) const BOUNDS: [u64; 12] =
    [1_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000];
/// Answers by the hundreds of their codes, from 1xx.
pub(crate) const CLASSES: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteKey {
    pub(crate) route: RouteId,
    pub(crate) version: VersionKey,
}

/// Counters of one route and version on one worker.
#[derive(Default)]
pub(crate) struct RouteMeter {
    begun: Cell,
    ended: Cell,
    classes: [Cell; CLASSES],
    micros: Cell,
    buckets: [Cell; BOUNDS.len() + 1],
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RouteCounts {
    pub(crate) in_flight: u64,
    pub(crate) classes: [u64; CLASSES],
    pub(crate) micros: u64,
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
}

impl RouteMeter {
    pub(crate) fn begin(&self) {
        self.begun.increment();
    }

    /// Without a status nobody was answered.
    pub(crate) fn end(&self, status: Option<u16>, took: Duration) {
        self.ended.increment();
        let Some(status) = status else { return };
        self.classes[usize::from(status / 100).clamp(1, CLASSES) - 1].increment();
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.add(micros);
        self.buckets[BOUNDS.partition_point(|bound| *bound < micros)].increment();
    }
}

impl Tally for RouteMeter {
    type Counts = RouteCounts;

    fn counts(&self) -> RouteCounts {
        // Read first, so that what ends meanwhile does not seem to have ended before it began.
        let ended = self.ended.get();
        RouteCounts {
            in_flight: self.begun.get().saturating_sub(ended),
            classes: std::array::from_fn(|at| self.classes[at].get()),
            micros: self.micros.get(),
            buckets: std::array::from_fn(|at| self.buckets[at].get()),
        }
    }

    fn merge(sum: &mut RouteCounts, more: &RouteCounts) {
        sum.in_flight += more.in_flight;
        sum.micros += more.micros;
        sum.classes.iter_mut().zip(more.classes).for_each(|(sum, more)| *sum += more);
        sum.buckets.iter_mut().zip(more.buckets).for_each(|(sum, more)| *sum += more);
    }
}
