//! A histogram of durations with one fixed layout, so that any two can be merged and subtracted bucket by bucket.
//!
//! The layout is log-linear over microseconds: the first [`LINEAR`] values have a bucket each, and every later doubling is
//! cut into [`LINEAR`] equal parts. A value is therefore known to 1/32 (3.1 %) or better, from 1 us to [`MAX_MICROS`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Each doubling has 2^5 buckets.
const LINEAR_BITS: u32 = 5;
const LINEAR: u64 = 1 << LINEAR_BITS;
/// The last doubling ends at 2^32 us, about 71 minutes; longer durations count into the last bucket.
const MAX_BITS: u32 = 32;
pub const MAX_MICROS: u64 = (1 << MAX_BITS) - 1;
/// How many buckets the layout has.
pub const BUCKETS: usize = ((MAX_BITS - LINEAR_BITS + 1) as usize) << LINEAR_BITS;

/// Which bucket a duration falls into.
pub fn bucket_of(micros: u64) -> usize {
    let micros = micros.min(MAX_MICROS);
    if micros < LINEAR {
        return micros as usize;
    }
    let doubling = micros.ilog2() - LINEAR_BITS;
    let part = (micros >> doubling) - LINEAR;
    ((u64::from(doubling + 1) << LINEAR_BITS) + part) as usize
}

/// The largest value, in microseconds, that falls into this bucket.
pub fn upper_bound_micros(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < LINEAR {
        return bucket;
    }
    let doubling = (bucket >> LINEAR_BITS) - 1;
    let part = bucket & (LINEAR - 1);
    ((LINEAR + part + 1) << doubling) - 1
}

/// Counts per bucket. An empty histogram holds no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram {
    /// Either empty (nothing recorded) or [`BUCKETS`] long.
    counts: Vec<u64>,
}

impl Histogram {
    /// From counts in the fixed layout; missing buckets at the end count as zero, surplus ones are a mistake of the caller.
    pub fn from_counts(counts: impl IntoIterator<Item = u64>) -> Self {
        let mut counts: Vec<u64> = counts.into_iter().collect();
        assert!(counts.len() <= BUCKETS, "a histogram has {BUCKETS} buckets, not {}", counts.len());
        if counts.iter().all(|&count| count == 0) {
            return Self::default();
        }
        counts.resize(BUCKETS, 0);
        Self { counts }
    }

    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(MAX_MICROS);
        self.filled()[bucket_of(micros)] += 1;
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Non-empty buckets as `(bucket, count)`, smallest durations first.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.counts.iter().copied().enumerate().filter(|&(_, count)| count > 0)
    }

    pub fn merge(&mut self, other: &Self) {
        if other.counts.is_empty() {
            return;
        }
        for (mine, theirs) in self.filled().iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// What was recorded since an earlier state of the same histogram. Should the earlier one hold more (its source was
    /// restarted), the bucket counts as zero instead of going below it.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (mine, before) in difference.counts.iter_mut().zip(&earlier.counts) {
            *mine = mine.saturating_sub(*before);
        }
        difference
    }

    /// The smallest recorded value that at least `quantile` (0 to 1) of all values do not exceed, rounded up to the end of
    /// its bucket; `None` when nothing was recorded.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = ((quantile.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        self.buckets()
            .find(|&(_, count)| {
                seen += count;
                seen >= rank
            })
            .map(|(bucket, _)| Duration::from_micros(upper_bound_micros(bucket)))
    }

    fn filled(&mut self) -> &mut [u64] {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        &mut self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(micros: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for &value in micros {
            histogram.record(Duration::from_micros(value));
        }
        histogram
    }

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for bucket in 0..BUCKETS {
            let last = upper_bound_micros(bucket);
            assert_eq!(bucket_of(last), bucket);
            if bucket + 1 < BUCKETS {
                assert_eq!(bucket_of(last + 1), bucket + 1);
            }
        }
        assert_eq!(upper_bound_micros(BUCKETS - 1), MAX_MICROS);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_name_the_bucket_of_the_ranked_value() {
        let values: Vec<u64> = (1..=100).collect();
        let all = histogram(&values);
        assert_eq!(all.quantile(0.0), Some(Duration::from_micros(1)));
        assert_eq!(all.quantile(0.25), Some(Duration::from_micros(25)));
        assert_eq!(all.quantile(0.5), Some(Duration::from_micros(50)));
        assert_eq!(all.quantile(0.99), Some(Duration::from_micros(99)));
        assert_eq!(all.quantile(1.0), Some(Duration::from_micros(101)));
        assert_eq!(Histogram::default().quantile(0.5), None);
    }

    #[test]
    fn a_difference_forgets_what_came_before() {
        let early = histogram(&[10, 10, 5000]);
        let mut late = early.clone();
        late.merge(&histogram(&[20]));
        assert_eq!(late.since(&early), { histogram(&[20]) });
        assert_eq!(late.since(&Histogram::default()), late);
        assert_eq!(early.since(&late).count(), 0);
        assert_eq!(Histogram::default().since(&early).count(), 0);
    }

    proptest! {
        #[test]
        fn a_quantile_is_right_to_one_part_in_thirty_two(
            mut values in prop::collection::vec(0..=MAX_MICROS, 1..200), quantile in 0.0..=1.0,
        ) {
            let found = histogram(&values).quantile(quantile).expect("not empty").as_micros() as u64;
            values.sort_unstable();
            let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            prop_assert!(found >= exact && found - exact <= exact / 32, "exact {exact}, found {found}");
        }

        #[test]
        fn merging_adds_and_subtracting_takes_away(
            a in prop::collection::vec(0..=MAX_MICROS, 0..50), b in prop::collection::vec(0..=MAX_MICROS, 0..50),
        ) {
            let (a, b) = (histogram(&a), histogram(&b));
            let mut both = a.clone();
            both.merge(&b);
            prop_assert_eq!(both.count(), a.count() + b.count());
            prop_assert_eq!(both.since(&a).buckets().collect::<Vec<_>>(), b.buckets().collect::<Vec<_>>());
        }
    }
}
