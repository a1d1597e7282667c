//! Counters by key: each set of them is written by one worker, and read by whoever adds them up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::plane::limits;

/// A counter with a single writer: load and store instead of a locked addition.
#[derive(Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A set of counters, and what they come to.
pub(crate) trait Tally: Default {
    type Counts: Clone + Default;

    fn counts(&self) -> Self::Counts;
    fn merge(sum: &mut Self::Counts, more: &Self::Counts);
}

impl Tally for Cell {
    type Counts = u64;

    fn counts(&self) -> u64 {
        self.get()
    }

    fn merge(sum: &mut u64, more: &u64) {
        *sum += more;
    }
}

/// The tallies of all workers.
pub(crate) struct Ledger<K, T: Tally> {
    state: Mutex<State<K, T>>,
}

struct State<K, T: Tally> {
    live: Vec<(K, Arc<T>)>,
    /// What tallies had counted that no worker holds any more.
    retired: BTreeMap<K, T::Counts>,
}

impl<K, T: Tally> Default for Ledger<K, T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { live: Vec::new(), retired: BTreeMap::new() }) }
    }
}

impl<K: Ord + Clone, T: Tally> Ledger<K, T> {
    pub(crate) fn counts(&self, wanted: impl Fn(&K) -> bool) -> BTreeMap<K, T::Counts> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let retired = state.retired.iter().filter(|(key, _)| wanted(key));
        let mut all: BTreeMap<_, _> = retired.map(|(key, counts)| (key.clone(), counts.clone())).collect();
        for (key, tally) in state.live.iter().filter(|(key, _)| wanted(key)) {
            T::merge(all.entry(key.clone()).or_default(), &tally.counts());
        }
        all
    }

    /// A tally for one worker to write.
    pub(crate) fn register(&self, key: K) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.live.len() >= limits::METERED {
            state.retire();
        }
        let tally = Arc::new(T::default());
        state.live.push((key, tally.clone()));
        tally
    }
}

impl<K: Ord, T: Tally> State<K, T> {
    fn retire(&mut self) {
        let (live, gone) =
            std::mem::take(&mut self.live).into_iter().partition(|(_, tally)| Arc::strong_count(tally) > 1);
        self.live = live;
        for (key, tally) in gone {
            T::merge(self.retired.entry(key).or_default(), &tally.counts());
        }
        while self.retired.len() > limits::METERED {
            self.retired.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_when_tallies_are_let_go() {
        let ledger = Ledger::<usize, Cell>::default();
        for round in 0..3 * limits::METERED {
            ledger.register(round % 7).increment();
        }
        let held = ledger.register(100);
        held.add(5);
        let all = ledger.counts(|_| true);
        assert_eq!(all.values().sum::<u64>(), 3 * limits::METERED as u64 + 5);
        assert_eq!(ledger.counts(|key| *key == 100), BTreeMap::from([(100, 5)]));
        assert!(ledger.state.lock().expect("whole").live.len() <= limits::METERED);
    }
}
