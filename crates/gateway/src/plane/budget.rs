//! How many requests one worker may send once more: a share of those that come in, so that retries never become the load that
//! keeps a backend down, and a few per second besides, so that single ones work.

use std::cell::Cell;
use std::time::Instant;

use super::limits::{REQUESTS_PER_RETRY, RETRIES_PER_SECOND, RETRIES_SAVED};

pub(crate) struct Budget {
    /// In requests: so many of them pay for a retry.
    saved: Cell<u64>,
    /// Up to when time has paid.
    paid: Cell<Instant>,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { saved: Cell::new(RETRIES_SAVED * REQUESTS_PER_RETRY), paid: Cell::new(now) }
    }

    /// For each request, once.
    pub(crate) fn deposit(&self) {
        self.add(1);
    }

    /// Whether a request may be sent once more.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        let per_second = RETRIES_PER_SECOND * REQUESTS_PER_RETRY;
        let millis = u64::try_from(now.duration_since(self.paid.get()).as_millis()).unwrap_or(u64::MAX);
        let earned = millis.saturating_mul(per_second) / 1000;
        if earned > 0 {
            self.paid.set(now);
            self.add(earned);
        }
        let Some(left) = self.saved.get().checked_sub(REQUESTS_PER_RETRY) else { return false };
        self.saved.set(left);
        true
    }

    fn add(&self, requests: u64) {
        self.saved.set(self.saved.get().saturating_add(requests).min(RETRIES_SAVED * REQUESTS_PER_RETRY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn spend(budget: &Budget, now: Instant) -> u64 {
        (0..).take_while(|_| budget.withdraw(now)).count() as u64
    }

    #[test]
    fn retries_are_a_share_of_requests_and_a_few_per_second() {
        let start = Instant::now();
        let budget = Budget::new(start);
        assert_eq!(spend(&budget, start), RETRIES_SAVED);
        for _ in 0..REQUESTS_PER_RETRY * 7 {
            budget.deposit();
        }
        assert_eq!(spend(&budget, start), 7);
        assert_eq!(spend(&budget, start + Duration::from_secs(1)), RETRIES_PER_SECOND);
        assert_eq!(spend(&budget, start + Duration::from_secs(1_000_000)), RETRIES_SAVED);
    }
}
