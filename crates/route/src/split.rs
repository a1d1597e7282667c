//! Weights become an exact and even sequence of picks.
//!
//! A split with weights `w[i]`, sum `W`, hands out picks in periods of `W / gcd` so that after every `n` picks of a period each
//! target got at least `floor(n * w[i] / W)` and at most `ceil(n * w[i] / W)` of them. It is a single machine serving unit
//! jobs: job `j` of target `i` may be served from pick `floor(j * W / w[i])` on and must be before `ceil((j + 1) * W / w[i])`,
//! and the served job is the one with the earliest deadline, which meets every deadline because the shares add to one.
//!
//! So in *any* window of `L` picks of one worker a target's count is less than 2 away from `L * w[i] / W`, after whole
//! periods it is exact, and over `N` workers together less than `2 N` away. Weight 0 is never picked.

use std::collections::HashMap;

/// So many splits keep their place in the sequence per worker; beyond that all of them start anew.
const MAX_REMEMBERED: usize = 65_536;
/// A worker's sequence starts at most so many picks into the period.
const MAX_PHASE: u64 = 10_000;

/// Immutable weights with an identity: a split that did not change keeps its `id`, and with it the place in its sequence.
#[derive(Debug, Clone, Default)]
pub struct Split {
    id: u64,
    weights: Box<[u32]>,
    total: u64,
    /// The only target with a weight, when there is just one.
    only: Option<usize>,
}

impl Split {
    pub fn new(id: u64, weights: impl Into<Box<[u32]>>) -> Self {
        let mut weights = weights.into();
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        weights.iter_mut().for_each(|weight| *weight /= divisor);
        let total = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut weighted = weights.iter().enumerate().filter(|&(_, &weight)| weight > 0).map(|(at, _)| at);
        let only = match (weighted.next(), weighted.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        };
        Self { id, weights, total, only }
    }

    pub(crate) fn renamed(self, id: u64) -> Self {
        Self { id, ..self }
    }

    /// Equal shares, whatever the identities.
    pub(crate) fn same_weights(&self, other: &Self) -> bool {
        self.weights == other.weights
    }

    /// Whether this target is ever picked.
    pub(crate) fn has_share(&self, target: usize) -> bool {
        self.weights.get(target).is_some_and(|weight| *weight > 0)
    }

    /// After how many picks every target got exactly its share.
    pub fn period(&self) -> u64 {
        self.total
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Where one worker stands in the sequence of each split.
#[derive(Debug, Default)]
pub struct Draws {
    places: HashMap<u64, Place>,
    worker: u64,
    workers: u64,
    random: u64,
}

#[derive(Debug)]
struct Place {
    picks: u64,
    taken: Box<[u64]>,
}

impl Draws {
    /// Workers start at different points of each sequence, so that together they are even from the first request on.
    pub fn new(worker: usize, workers: usize) -> Self {
        Self { places: HashMap::new(), worker: worker as u64, workers: workers.max(1) as u64, random: worker as u64 }
    }

    /// Another `seed` makes other names.
    pub fn seeded(self, seed: u64) -> Self {
        Self { random: seed, ..self }
    }

    /// A name that nobody had before, up to chance.
    pub(crate) fn fresh_name(&mut self) -> String {
        format!("{:016x}{:016x}", self.next_random(), self.next_random())
    }

    /// SplitMix64: as many different numbers as there are, and no secret.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next target; `None` when all weights are 0.
    pub fn draw(&mut self, split: &Split) -> Option<usize> {
        if split.only.is_some() || split.total == 0 {
            return split.only;
        }
        if !self.places.contains_key(&split.id) {
            self.remember(split);
        }
        self.places.get_mut(&split.id).map(|place| place.advance(split))
    }

    fn remember(&mut self, split: &Split) {
        if self.places.len() >= MAX_REMEMBERED {
            self.places.clear();
        }
        let mut place = Place { picks: 0, taken: vec![0; split.weights.len()].into() };
        let phase = split.total.saturating_mul(self.worker) / self.workers.max(1);
        for _ in 0..phase.min(MAX_PHASE) {
            place.advance(split);
        }
        self.places.insert(split.id, place);
    }
}

impl Place {
    fn advance(&mut self, split: &Split) -> usize {
        let total = split.total;
        let (mut chosen, mut earliest) = (None, u64::MAX);
        for (target, (&weight, &taken)) in split.weights.iter().zip(&self.taken).enumerate() {
            let weight = u64::from(weight);
            if weight == 0 || taken * total >= (self.picks + 1) * weight {
                continue;
            }
            let deadline = ((taken + 1) * total).div_ceil(weight);
            if deadline < earliest {
                (chosen, earliest) = (Some(target), deadline);
            }
        }
        let chosen = chosen.expect("picks so far are fewer than the shares of all targets add up to");
        self.taken[chosen] += 1;
        self.picks += 1;
        if self.picks == total {
            self.picks = 0;
            self.taken.fill(0);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sequence(weights: &[u32], length: usize) -> Vec<usize> {
        let split = Split::new(1, weights);
        let mut draws = Draws::new(0, 1);
        (0..length).filter_map(|_| draws.draw(&split)).collect()
    }

    #[test]
    fn small_splits_read_as_one_would_write_them() {
        assert_eq!(sequence(&[1, 1], 6), [0, 1, 0, 1, 0, 1]);
        assert_eq!(sequence(&[3, 1], 8), [0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(sequence(&[0, 5, 0], 3), [1, 1, 1]);
        assert_eq!(sequence(&[0, 0], 3), [0; 0]);
        assert_eq!(sequence(&[], 3), [0; 0]);
        assert_eq!(Split::new(1, [9000, 1000]).period(), 10);
    }

    #[test]
    fn a_changed_identity_starts_anew_and_an_unchanged_one_goes_on() {
        let split = Split::new(7, [1, 1]);
        let mut draws = Draws::new(0, 1);
        assert_eq!((draws.draw(&split), draws.draw(&split.clone())), (Some(0), Some(1)));
        assert_eq!((draws.draw(&Split::new(8, [1, 1])), draws.draw(&split)), (Some(0), Some(0)));
    }

    #[test]
    fn workers_start_apart_so_that_together_they_are_even() {
        let split = Split::new(1, [9, 1]);
        let firsts =
            (0..10).map(|worker| Draws::new(worker, 10).draw(&split)).filter(|&first| first == Some(1)).count();
        assert_eq!(firsts, 1);
    }

    fn weights() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![Just(0), 0..20u32, 0..2000u32], 1..6)
            .prop_filter("some weight", |weights| weights.iter().any(|&weight| weight > 0))
    }

    proptest! {
        #[test]
        fn every_prefix_keeps_to_the_quota(weights in weights(), periods in 1..3u64) {
            let split = Split::new(1, weights.clone());
            let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let length = (split.period() * periods).min(5000);
            let mut draws = Draws::new(0, 1);
            let mut taken = vec![0u64; weights.len()];
            for pick in 1..=length {
                taken[draws.draw(&split).expect("some weight")] += 1;
                for (&count, &weight) in taken.iter().zip(&weights) {
                    let (floor, ceil) = (pick * u64::from(weight) / total, (pick * u64::from(weight)).div_ceil(total));
                    prop_assert!((floor..=ceil).contains(&count), "after {pick}: {count} not in {floor}..={ceil}");
                }
            }
        }

        #[test]
        fn any_window_is_less_than_two_off(weights in weights(), start in 0..500usize, length in 1..1500usize) {
            let picks = sequence(&weights, start + length);
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            for (target, &weight) in weights.iter().enumerate() {
                let count = picks[start..].iter().filter(|&&pick| pick == target).count() as f64;
                let share = length as f64 * f64::from(weight) / total;
                prop_assert!((count - share).abs() < 2.0, "{count} of {share}");
                prop_assert!(weight > 0 || count == 0.0);
            }
        }

        #[test]
        fn a_larger_share_never_gets_less(share in 0..10_000u32, more in 0..10_000u32, picks in 1..3000usize) {
            let of = |share: u32| {
                let share = share.min(10_000);
                sequence(&[10_000 - share, share], picks).iter().filter(|&&pick| pick == 1).count()
            };
            // Each count is the quota rounded one way or the other.
            prop_assert!(of(share) <= of(share + more) + 1);
            prop_assert!(of(0) == 0 && of(10_000) == picks);
        }
    }
}
