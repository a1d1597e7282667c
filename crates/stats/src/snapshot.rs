//! What a gateway counted for one version since it started.

use serde::{Deserialize, Serialize};

use crate::Histogram;

/// All counters only grow; what happened in between is the difference of two snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionSnapshot {
    /// Requests that ended: with an answer of this version, or with one that the gateway gave in its place.
    pub requests: u64,
    /// Of these, answered with 5xx, by the version or in its place.
    pub errors_5xx: u64,
    /// Of these, answered with 4xx.
    pub errors_4xx: u64,
    /// Connections that could not be made or died before an answer, also where a retry elsewhere hid it from the caller.
    pub connection_failures: u64,
    /// Answers that broke off after their head was sent on.
    pub broken_answers: u64,
    /// From the request's head to the end of the answer's body, one entry for each of `requests`.
    pub latency: Histogram,
}

impl VersionSnapshot {
    pub fn merge(&mut self, other: &Self) {
        let Self { requests, errors_5xx, errors_4xx, connection_failures, broken_answers, latency } = other;
        self.requests += requests;
        self.errors_5xx += errors_5xx;
        self.errors_4xx += errors_4xx;
        self.connection_failures += connection_failures;
        self.broken_answers += broken_answers;
        self.latency.merge(latency);
    }

    /// What happened after `earlier`, a former snapshot of the same version; never below zero.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors_5xx: self.errors_5xx.saturating_sub(earlier.errors_5xx),
            errors_4xx: self.errors_4xx.saturating_sub(earlier.errors_4xx),
            connection_failures: self.connection_failures.saturating_sub(earlier.connection_failures),
            broken_answers: self.broken_answers.saturating_sub(earlier.broken_answers),
            latency: self.latency.since(&earlier.latency),
        }
    }

    /// The share of requests that ended in 5xx, 0 to 1; `None` without requests.
    pub fn error_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.errors_5xx as f64 / self.requests as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_difference_of_two_snapshots_is_what_happened_in_between() {
        let mut early = VersionSnapshot { requests: 10, errors_5xx: 1, ..Default::default() };
        early.latency.record(Duration::from_millis(3));
        let mut between = VersionSnapshot { requests: 4, errors_5xx: 2, connection_failures: 1, ..Default::default() };
        between.latency.record(Duration::from_millis(7));
        let mut late = early.clone();
        late.merge(&between);
        let found = late.since(&early);
        assert_eq!((found.requests, found.errors_5xx, found.connection_failures), (4, 2, 1));
        assert_eq!(found.latency.count(), 1);
        assert_eq!(found.error_rate(), Some(0.5));
        assert_eq!(VersionSnapshot::default().error_rate(), None);
    }
}
