//! Limits on what a version does, and the verdict when one looks.

use std::fmt;
use std::time::Duration;

use crate::sequential::{Count, Sequential, evidence_above, is_alarm};
use crate::{Histogram, VersionSnapshot, bucket_of};

/// What a metric may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    pub metric: Metric,
    /// Fewer requests than this say nothing good.
    pub min_requests: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// The share of requests that fail: 5xx answers and answers that break off.
    ErrorRate { at_most: f64 },
    /// The same, in points above the stable version's.
    ErrorRateOverStable { by_at_most: f64 },
    /// A latency quantile, such as 0.99.
    Latency { quantile: f64, at_most: Duration },
    /// The same, as a multiple of the stable version's.
    LatencyOverStable { quantile: f64, times_at_most: f64 },
    /// Requests a second.
    Throughput { at_least: f64 },
}

/// Where the check does not say how many requests it needs.
pub const MIN_REQUESTS: u64 = 100;
/// A rate per second needs some seconds.
const THROUGHPUT_AFTER: Duration = Duration::from_secs(5);
/// How far the stable version's numbers are moved in the candidate's favour where they are only an estimate.
const DEVIATIONS: f64 = 3.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    /// Too little traffic to say anything.
    NoData,
    /// Worse than the limit so far, but it may be chance.
    Unsure,
}

/// One look: the verdict and, for people, the numbers behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub verdict: Verdict,
    pub evidence: String,
}

/// Watches one limit from the moment the candidate was exposed.
#[derive(Debug, Clone)]
pub struct Watch {
    limit: Limit,
    start: Pair,
    last: Pair,
    /// The stable version until the exposure, where it gets no traffic any more.
    history: VersionSnapshot,
    sequential: Option<Sequential>,
}

#[derive(Debug, Clone, Default)]
struct Pair {
    candidate: VersionSnapshot,
    stable: VersionSnapshot,
}

impl Watch {
    pub fn start(limit: Limit, candidate: &VersionSnapshot, stable: &VersionSnapshot) -> Self {
        let now = Pair { candidate: candidate.clone(), stable: stable.clone() };
        let sequential = match limit.metric {
            Metric::ErrorRateOverStable { by_at_most } => Some(Sequential::new(by_at_most, failures(stable))),
            _ => None,
        };
        Self { limit, start: now.clone(), last: now, history: stable.clone(), sequential }
    }

    /// Judges what happened since the start. `elapsed` is the time since then.
    pub fn look(&mut self, candidate: &VersionSnapshot, stable: &VersionSnapshot, elapsed: Duration) -> Look {
        if candidate.requests < self.last.candidate.requests || stable.requests < self.last.stable.requests {
            // The gateway was started again and counts from zero; so does the window. The evidence stays.
            self.start = Pair::default();
            self.last = Pair::default();
        }
        if let Some(sequential) = &mut self.sequential {
            let block = |now: &VersionSnapshot, last: &VersionSnapshot| failures(&now.since(last));
            sequential.observe(block(candidate, &self.last.candidate), block(stable, &self.last.stable));
        }
        self.last = Pair { candidate: candidate.clone(), stable: stable.clone() };
        let window = Window {
            candidate: candidate.since(&self.start.candidate),
            stable: stable.since(&self.start.stable),
            history: &self.history,
            enough: self.limit.min_requests,
        };
        match self.limit.metric {
            Metric::ErrorRate { at_most } => window.error_rate(at_most),
            Metric::ErrorRateOverStable { by_at_most } => {
                window.error_rate_over_stable(by_at_most, self.sequential.as_ref().map_or(0.0, Sequential::evidence))
            }
            Metric::Latency { quantile, at_most } => window.latency(quantile, at_most),
            Metric::LatencyOverStable { quantile, times_at_most } => {
                window.latency_over_stable(quantile, times_at_most)
            }
            Metric::Throughput { at_least } => window.throughput(at_least, elapsed),
        }
    }
}

struct Window<'a> {
    candidate: VersionSnapshot,
    stable: VersionSnapshot,
    history: &'a VersionSnapshot,
    enough: u64,
}

impl Window<'_> {
    fn error_rate(&self, at_most: f64) -> Look {
        let count = failures(&self.candidate);
        let over = count.rate().is_some_and(|rate| rate > at_most);
        let alarm = is_alarm(evidence_above(at_most, count));
        let verdict = self.by_plain_limit(over, alarm);
        self.say(verdict, format!("error-rate {}, limit {}", Rate(count), Percent(at_most)))
    }

    fn error_rate_over_stable(&self, by_at_most: f64, evidence: f64) -> Look {
        let count = failures(&self.candidate);
        let (stable, when, alarm) = if self.stable.requests > 0 {
            (failures(&self.stable), "stable", is_alarm(evidence))
        } else {
            let before = failures(self.history);
            let bound = if before.all > 0 { before.upper_rate(DEVIATIONS) } else { 0.0 } + by_at_most;
            (before, "stable before", is_alarm(evidence) || is_alarm(evidence_above(bound, count)))
        };
        let over = count.rate().is_some_and(|rate| rate > stable.rate().unwrap_or(0.0) + by_at_most);
        let verdict = self.by_evidence(over, alarm);
        self.say(
            verdict,
            format!("error-rate {}, {when} {}, limit +{}", Rate(count), Rate(stable), Percent(by_at_most)),
        )
    }

    fn latency(&self, quantile: f64, at_most: Duration) -> Look {
        let slow = slower_than(&self.candidate.latency, at_most);
        let over = slow.rate().is_some_and(|rate| rate > 1.0 - quantile);
        let verdict = self.by_plain_limit(over, is_alarm(evidence_above(1.0 - quantile, slow)));
        let found = Quantile { latency: &self.candidate.latency, quantile };
        self.say(verdict, format!("{found} of {} requests, limit {}", slow.all, Millis(at_most)))
    }

    fn latency_over_stable(&self, quantile: f64, times_at_most: f64) -> Look {
        let paired = self.stable.latency.count() >= self.enough;
        let (stable, when) =
            if paired { (&self.stable.latency, "stable") } else { (&self.history.latency, "stable before") };
        let found = Quantile { latency: &self.candidate.latency, quantile };
        let (Some(usual), true) = (stable.quantile(quantile), stable.count() >= self.enough) else {
            return self
                .say(Verdict::NoData, format!("{found}, too few requests of the stable version to compare with"));
        };
        let limit = usual.mul_f64(times_at_most);
        let over = slower_than(&self.candidate.latency, limit).rate().is_some_and(|rate| rate > 1.0 - quantile);
        let surely = slower_than(&self.candidate.latency, upper_quantile(stable, quantile).mul_f64(times_at_most));
        let verdict = self.by_evidence(over, is_alarm(evidence_above(1.0 - quantile, surely)));
        let count = self.candidate.requests;
        self.say(
            verdict,
            format!("{found} of {count} requests, {when} {}, limit {}", Millis(usual), Percent(times_at_most)),
        )
    }

    fn throughput(&self, at_least: f64, elapsed: Duration) -> Look {
        if elapsed < THROUGHPUT_AFTER {
            return self.say(Verdict::NoData, "throughput not measured yet".to_owned());
        }
        let rate = self.candidate.requests as f64 / elapsed.as_secs_f64();
        let verdict = if rate < at_least { Verdict::Fail } else { Verdict::Pass };
        Look { verdict, evidence: format!("throughput {rate:.1}/s, at least {at_least}/s wanted") }
    }

    /// A plain limit: once there are enough requests, what is over is over. Before that only strong evidence counts.
    fn by_plain_limit(&self, over: bool, alarm: bool) -> Verdict {
        match (self.candidate.requests >= self.enough, over, alarm) {
            (_, true, true) | (true, true, false) => Verdict::Fail,
            (true, false, _) => Verdict::Pass,
            (false, _, _) => Verdict::NoData,
        }
    }

    /// A comparison of two estimates: only evidence accuses.
    fn by_evidence(&self, over: bool, alarm: bool) -> Verdict {
        match (self.candidate.requests >= self.enough, over, alarm) {
            (_, true, true) => Verdict::Fail,
            (true, true, false) => Verdict::Unsure,
            (true, false, _) => Verdict::Pass,
            (false, _, _) => Verdict::NoData,
        }
    }

    fn say(&self, verdict: Verdict, numbers: String) -> Look {
        let evidence = match verdict {
            Verdict::NoData if self.candidate.requests < self.enough => {
                format!("{numbers}; {} of {} requests needed", self.candidate.requests, self.enough)
            }
            Verdict::Unsure => format!("{numbers}; this may still be chance"),
            Verdict::Pass | Verdict::Fail | Verdict::NoData => numbers,
        };
        Look { verdict, evidence }
    }
}

/// Requests that failed: answered with 5xx or broken off.
fn failures(snapshot: &VersionSnapshot) -> Count {
    let bad = snapshot.errors_5xx + snapshot.broken_answers;
    Count { bad: bad.min(snapshot.requests), all: snapshot.requests }
}

/// Requests surely slower than `limit`; those in its own bucket are given the benefit.
fn slower_than(latency: &Histogram, limit: Duration) -> Count {
    let limit = bucket_of(u64::try_from(limit.as_micros()).unwrap_or(u64::MAX));
    let bad = latency.buckets().filter(|(bucket, _)| *bucket > limit).map(|(_, count)| count).sum();
    Count { bad, all: latency.count() }
}

/// A quantile that the true one hardly exceeds: its rank moved up by some standard deviations.
fn upper_quantile(latency: &Histogram, quantile: f64) -> Duration {
    let n = latency.count() as f64;
    let rank = n * quantile + DEVIATIONS * (n * quantile * (1.0 - quantile)).sqrt() + 1.0;
    latency.quantile((rank / n).min(1.0)).unwrap_or_default()
}

/// `4.8% of 230 requests`
struct Rate(Count);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.rate() {
            Some(rate) => write!(f, "{:.1}% of {} requests", rate * 100.0, self.0.all),
            None => f.write_str("unknown (no requests)"),
        }
    }
}

/// `1%`, `0.25%`
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 10_000.0).round() / 100.0)
    }
}

/// `p99 41.2ms`
struct Quantile<'a> {
    latency: &'a Histogram,
    quantile: f64,
}

impl fmt::Display for Quantile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = (self.quantile * 100.0).round();
        match self.latency.quantile(self.quantile) {
            Some(found) => write!(f, "p{name} {}", Millis(found)),
            None => write!(f, "p{name} unknown"),
        }
    }
}

struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_secs_f64() * 1000.0;
        if millis >= 100.0 { write!(f, "{millis:.0}ms") } else { write!(f, "{millis:.1}ms") }
    }
}

#[cfg(test)]
mod tests;
