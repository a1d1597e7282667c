//! Counts of what came back.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// How one request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered { status: u16, version: Option<String> },
    Failed(Failure),
}

/// A request that got no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    Refused,
    Connect,
    Closed,
    Reset,
    Truncated,
    Protocol,
    Timeout,
    /// Too many were in flight to send it at its time.
    Overload,
}

impl Failure {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::Connect => "cannot connect",
            Self::Closed => "connection closed",
            Self::Reset => "connection lost before the answer",
            Self::Truncated => "answer cut off",
            Self::Protocol => "protocol error",
            Self::Timeout => "no answer in time",
            Self::Overload => "too many in flight",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VersionTally {
    pub answers: u64,
    pub not_2xx: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub requests: u64,
    pub by_status: BTreeMap<u16, u64>,
    /// Answers that name no version stand under the empty string.
    pub by_version: BTreeMap<String, VersionTally>,
    pub failures: BTreeMap<Failure, u64>,
    /// Microseconds from when a request was due.
    pub latency: Histogram<u64>,
    /// How long requests were sent for.
    pub sending: Duration,
}

/// Latencies above are recorded as this.
const MAX_LATENCY_US: u64 = 120_000_000;

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            requests: 0,
            by_status: BTreeMap::new(),
            by_version: BTreeMap::new(),
            failures: BTreeMap::new(),
            latency: Histogram::new_with_bounds(1, MAX_LATENCY_US, 3).expect("the bounds are valid"),
            sending: Duration::ZERO,
        }
    }

    pub(crate) fn count(&mut self, outcome: Outcome, latency: Duration) {
        self.requests += 1;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).clamp(1, MAX_LATENCY_US);
        self.latency.saturating_record(micros);
        match outcome {
            Outcome::Answered { status, version } => {
                *self.by_status.entry(status).or_default() += 1;
                let version = self.by_version.entry(version.unwrap_or_default()).or_default();
                version.answers += 1;
                version.not_2xx += u64::from(!is_success(status));
            }
            Outcome::Failed(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }

    /// A request that could not even be sent.
    pub(crate) fn overflow(&mut self) {
        self.requests += 1;
        *self.failures.entry(Failure::Overload).or_default() += 1;
    }

    pub(crate) fn not_2xx(&self) -> u64 {
        self.by_status.iter().filter(|(status, _)| !is_success(**status)).map(|(_, n)| n).sum()
    }

    pub(crate) fn connection_errors(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Everything that is not a 2xx answer.
    pub(crate) fn failed(&self) -> u64 {
        self.not_2xx() + self.connection_errors()
    }

    /// Answers of `version` that were no 2xx.
    pub(crate) fn not_2xx_of(&self, version: &str) -> u64 {
        self.by_version.get(version).map_or(0, |v| v.not_2xx)
    }
}

pub(super) fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_2xx_is_a_failure() {
        let mut tally = Tally::new();
        let answered = |status, version: &str| Outcome::Answered { status, version: Some(version.into()) };
        tally.count(answered(200, "v1"), Duration::from_millis(1));
        tally.count(answered(204, "v1"), Duration::from_millis(1));
        tally.count(answered(302, "v1"), Duration::from_millis(1));
        tally.count(answered(500, "v2"), Duration::from_millis(1));
        tally.count(Outcome::Failed(Failure::Refused), Duration::from_millis(1));
        tally.overflow();
        assert_eq!((tally.requests, tally.not_2xx(), tally.connection_errors(), tally.failed()), (6, 2, 2, 4));
        assert_eq!(tally.by_version["v1"], VersionTally { answers: 3, not_2xx: 1 });
        assert_eq!(tally.not_2xx_of("v2"), 1);
    }
}
