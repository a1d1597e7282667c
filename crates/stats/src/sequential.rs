//! Evidence about failure rates that may be looked at any time.
//!
//! Ordinary tests are right once, at a size fixed beforehand; a release controller looks many times a second and stops
//! at the first alarm. Here the evidence is a likelihood ratio of "worse" to "not worse" whose expectation never exceeds 1
//! while the version is not worse. The chance that it *ever* reaches `1/a` is then at most `a` (Ville), at any number of looks.
//!
//! "Worse" is not one value but a mixture over a grid of sizes, so that a gross fault is found after a few dozen
//! requests and a small one after some thousands. The ratio is taken to the member of "not worse" that lies nearest to
//! the assumed fault: as the set of rates that are "not worse" is convex, the ratio's expectation is then at most 1 for every
//! member of that set. (The logarithm of the expectation is concave in the rates, 0 at the nearest member, and falls
//! from there into the set.)

/// How often a healthy version may be accused: once in a thousand windows, however often one looks.
pub const FALSE_ALARMS: f64 = 0.001;

/// Requests, and how many of them were bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub bad: u64,
    pub all: u64,
}

impl Count {
    pub fn rate(self) -> Option<f64> {
        (self.all > 0).then(|| self.bad as f64 / self.all as f64)
    }

    /// The upper end of the Wilson interval, `deviations` standard deviations wide.
    pub(crate) fn upper_rate(self, deviations: f64) -> f64 {
        let n = self.all as f64;
        let Some(rate) = self.rate() else { return 1.0 };
        let square = deviations * deviations;
        let spread = (rate * (1.0 - rate) / n + square / (4.0 * n * n)).sqrt();
        ((rate + square / (2.0 * n) + deviations * spread) / (1.0 + square / n)).min(1.0)
    }

    fn good(self) -> f64 {
        self.all.saturating_sub(self.bad) as f64
    }
}

/// How many times the odds of a failure may have grown, in the one-sample test.
const ODDS: [f64; 10] = [1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 25.0, 50.0, 100.0, 400.0];

/// The logarithm of the evidence that the rate behind `count` is above `limit`.
pub fn evidence_above(limit: f64, count: Count) -> f64 {
    if limit >= 1.0 {
        return 0.0;
    }
    if limit <= 0.0 {
        return if count.bad > 0 { f64::INFINITY } else { 0.0 };
    }
    let ratio = |times: &f64| {
        let odds = limit / (1.0 - limit) * times;
        let worse = odds / (1.0 + odds);
        count.bad as f64 * (worse / limit).ln() + count.good() * ((1.0 - worse) / (1.0 - limit)).ln()
    };
    mean_of_exponentials(ODDS.iter().map(ratio))
}

/// Halvings in which an end of an interval is searched.
const ENDS: usize = 30;

/// The rates that `count` leaves possible, whatever the number of looks: both below and above there is evidence enough for an alarm.
pub fn interval(count: Count) -> (f64, f64) {
    let good = Count { bad: count.all.saturating_sub(count.bad), all: count.all };
    (least_possible(count), 1.0 - least_possible(good))
}

/// The largest rate that is surely exceeded.
fn least_possible(count: Count) -> f64 {
    let (mut low, mut high) = (0.0, count.rate().unwrap_or(0.0));
    for _ in 0..ENDS {
        let middle = f64::midpoint(low, high);
        if is_alarm(evidence_above(middle, count)) { low = middle } else { high = middle }
    }
    low
}

/// How much worse than allowed a candidate may be, in the two-sample test.
const FAULTS: [f64; 8] = [0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64];
/// Rates are kept away from 0 and 1, where a single surprise would count infinitely.
const LEAST_RATE: f64 = 0.0005;
const MOST_RATE: f64 = 0.995;
/// Halvings of the interval in which the nearest healthy pair of rates is searched.
const HALVINGS: usize = 40;

/// Gathers evidence that the candidate fails more often than the stable version, by more than a margin.
#[derive(Debug, Clone)]
pub struct Sequential {
    margin: f64,
    /// What the stable version did before the present block; only the past may shape the next bet.
    stable: Count,
    /// Per fault of the grid, the logarithm of its evidence.
    logs: [f64; FAULTS.len()],
}

impl Sequential {
    /// `history` is what is known of the stable version from before; it sharpens the test but cannot bias it.
    pub fn new(margin: f64, history: Count) -> Self {
        Self { margin: margin.max(0.0), stable: history, logs: [0.0; FAULTS.len()] }
    }

    /// Takes in what happened since the last call. The split of requests between the two must not depend on how they end.
    pub fn observe(&mut self, candidate: Count, stable: Count) {
        let usual = (self.stable.bad as f64 + 0.5) / (self.stable.all as f64 + 100.0);
        let usual = usual.clamp(LEAST_RATE, MOST_RATE - self.margin.min(0.5));
        for (log, fault) in self.logs.iter_mut().zip(FAULTS) {
            let worse = (usual + self.margin + fault).min(MOST_RATE);
            *log += Bet { usual, worse, margin: self.margin }.log_ratio(candidate, stable);
        }
        self.stable.bad += stable.bad;
        self.stable.all += stable.all;
    }

    /// The logarithm of the evidence so far.
    pub fn evidence(&self) -> f64 {
        mean_of_exponentials(self.logs.iter().copied())
    }
}

/// Whether evidence (its logarithm) is enough for an alarm.
pub fn is_alarm(evidence: f64) -> bool {
    evidence >= -FALSE_ALARMS.ln()
}

/// One assumption about both versions.
struct Bet {
    usual: f64,
    worse: f64,
    margin: f64,
}

impl Bet {
    fn log_ratio(&self, candidate: Count, stable: Count) -> f64 {
        if self.worse - self.margin <= self.usual {
            return 0.0;
        }
        let healthy = self.nearest_healthy(candidate.all as f64, stable.all as f64);
        let bound = healthy + self.margin;
        candidate.bad as f64 * (self.worse / bound).ln()
            + candidate.good() * ((1.0 - self.worse) / (1.0 - bound)).ln()
            + stable.bad as f64 * (self.usual / healthy).ln()
            + stable.good() * ((1.0 - self.usual) / (1.0 - healthy)).ln()
    }

    /// The stable version's rate in the healthy pair `(rate, rate + margin)` that is hardest to tell from this bet, for
    /// blocks of these sizes: where the derivative of the summed divergences is zero.
    fn nearest_healthy(&self, candidates: f64, stables: f64) -> f64 {
        let slope = |rate: f64| {
            let bound = rate + self.margin;
            candidates * (bound - self.worse) / (bound * (1.0 - bound))
                + stables * (rate - self.usual) / (rate * (1.0 - rate))
        };
        let (mut low, mut high) = (self.usual, self.worse - self.margin);
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if slope(middle) < 0.0 { low = middle } else { high = middle }
        }
        // Rounding must not put it above what is nearest: both ends are within 2^-40 of it.
        f64::midpoint(low, high)
    }
}

/// `ln(mean(exp(x)))` without overflow.
fn mean_of_exponentials(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    let (sum, count) = logs.fold((0.0, 0.0), |(sum, count), log| (sum + (log - largest).exp(), count + 1.0));
    largest + (sum / count).ln()
}

#[cfg(test)]
mod tests;
