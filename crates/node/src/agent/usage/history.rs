//! Counters of processor time over time, and their rise. Pure.

use std::{collections::BTreeMap, time::Duration};

/// Over less than this, what something uses is noise.
const MIN_WINDOW_MS: u64 = 5000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Node,
    Container { uid: String, name: String },
}

/// A counter as it was read.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) whose: Whose,
    /// A counter of another run is another counter.
    pub(super) run: u64,
    pub(super) cpu: Duration,
    /// It was zero this long ago.
    pub(super) from_zero_ms: Option<u64>,
}

/// Processor time per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) nanocores: u64,
    pub(super) window: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at_ms: u64,
    cpu: Duration,
}

/// Windows begin at the tick before the last one, so that they are never short and never long.
#[derive(Debug, Clone, Copy)]
struct Track {
    run: u64,
    begin: Reading,
    last_tick: Reading,
    newest: Reading,
}

/// As large as what runs: what is not read any more is forgotten.
#[derive(Debug, Default)]
pub(super) struct History {
    newest_ms: Option<u64>,
    tracks: BTreeMap<Whose, Track>,
}

impl History {
    pub(super) fn newest_ms(&self) -> Option<u64> {
        self.newest_ms
    }

    /// A reading at the regular time: windows move on.
    pub(super) fn tick(&mut self, now_ms: u64, counted: Vec<Counted>) {
        self.look(now_ms, counted);
        for track in self.tracks.values_mut().filter(|track| track.last_tick.at_ms < now_ms) {
            (track.begin, track.last_tick) = (track.last_tick, track.newest);
        }
    }

    /// A reading in between.
    pub(super) fn look(&mut self, now_ms: u64, counted: Vec<Counted>) {
        self.newest_ms = Some(now_ms);
        let mut before = std::mem::take(&mut self.tracks);
        self.tracks = counted
            .into_iter()
            .map(|one| {
                let newest = Reading { at_ms: now_ms, cpu: one.cpu };
                let known = before.remove(&one.whose);
                // A counter that has fallen is a new one, whatever it says.
                let track = match known.filter(|track| track.run == one.run && track.newest.cpu <= one.cpu) {
                    Some(track) => Track { newest, ..track },
                    None => Track::new(&one, newest),
                };
                (one.whose, track)
            })
            .collect();
    }

    pub(super) fn rates(&self) -> BTreeMap<Whose, Rate> {
        self.tracks.iter().filter_map(|(whose, track)| Some((whose.clone(), track.rate()?))).collect()
    }
}

impl Track {
    fn new(one: &Counted, newest: Reading) -> Self {
        let begin = match one.from_zero_ms {
            Some(ago_ms) => Reading { at_ms: newest.at_ms.saturating_sub(ago_ms), cpu: Duration::ZERO },
            None => newest,
        };
        Self { run: one.run, begin, last_tick: begin, newest }
    }

    fn rate(&self) -> Option<Rate> {
        let window_ms = self.newest.at_ms - self.begin.at_ms;
        if window_ms < MIN_WINDOW_MS {
            return None;
        }
        let used = self.newest.cpu.saturating_sub(self.begin.cpu);
        // Nanoseconds per second are billionths of a core.
        let nanocores = used.as_nanos() * 1000 / u128::from(window_ms);
        Some(Rate { nanocores: u64::try_from(nanocores).unwrap_or(u64::MAX), window: Duration::from_millis(window_ms) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(run: u64, cpu_ms: u64, from_zero_ms: Option<u64>) -> Vec<Counted> {
        vec![Counted { whose: Whose::Node, run, cpu: Duration::from_millis(cpu_ms), from_zero_ms }]
    }

    /// Millicores and seconds of the window.
    fn rate(history: &History) -> Option<(u64, u64)> {
        history.rates().get(&Whose::Node).map(|rate| (rate.nanocores / 1_000_000, rate.window.as_secs()))
    }

    #[test]
    fn use_is_the_rise_of_a_counter_over_one_to_two_ticks() {
        let mut history = History::default();
        history.tick(0, counted(1, 1000, None));
        assert_eq!(rate(&history), None, "one reading is no window");
        history.look(4000, counted(1, 1400, None));
        assert_eq!(rate(&history), None, "too short to say anything");
        history.look(10_000, counted(1, 2000, None));
        assert_eq!(rate(&history), Some((100, 10)));
        history.tick(15_000, counted(1, 2500, None));
        assert_eq!(rate(&history), Some((100, 15)));
        history.tick(30_000, counted(1, 17_500, None));
        assert_eq!(rate(&history), Some((1000, 15)), "what was before does not count any more");
        history.look(45_000, counted(1, 17_500, None));
        assert_eq!(rate(&history), Some((500, 30)));
    }

    #[test]
    fn what_has_just_been_started_counts_from_its_start() {
        let mut history = History::default();
        history.look(60_000, counted(1, 1500, Some(10_000)));
        assert_eq!(rate(&history), Some((150, 10)));
        history.look(61_000, counted(2, 10, Some(500)));
        assert_eq!(rate(&history), None, "another run is another counter");
    }

    #[test]
    fn a_counter_that_falls_begins_anew_and_one_that_is_gone_is_forgotten() {
        let mut history = History::default();
        history.tick(0, counted(1, 9000, None));
        history.tick(15_000, counted(1, 100, None));
        assert_eq!(rate(&history), None);
        history.tick(30_000, Vec::new());
        assert!(history.tracks.is_empty());
    }
}
