//! When to probe and what the results add up to. Pure.
//!
//! The first probe comes milliseconds after the start, when hardly any process listens already: a failure never counts before
//! the first period is over.

use std::time::Duration;

/// After an eager probe has failed for the first time, the next one follows this soon.
const EAGER_FIRST: Duration = Duration::from_millis(10);
/// Eager probes come further apart by this factor, in percent, until they reach the period.
const EAGER_GROWTH_PERCENT: u32 = 125;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule {
    pub(super) initial_delay: Duration,
    pub(super) period: Duration,
    pub(super) failure_threshold: u32,
    pub(super) success_threshold: u32,
    /// Startup and readiness: until the first success, probe as fast as is cheap, so that a process counts as ready
    /// milliseconds after it is. Failures still count once a period only.
    pub(super) eager: bool,
}

#[derive(Debug)]
pub(super) struct Judge {
    schedule: Schedule,
    verdict: Option<bool>,
    successes: u32,
    failures: u32,
    eager_delay: Option<Duration>,
    /// From here on a failure counts; measured from the first probe.
    next_count: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Set when the verdict is another one than before.
    pub(super) verdict: Option<bool>,
    /// A failure that counts, and so is worth an event.
    pub(super) counted: bool,
    pub(super) next_in: Duration,
}

impl Judge {
    pub(super) fn new(schedule: Schedule) -> Self {
        let eager_delay = schedule.eager.then_some(EAGER_FIRST).filter(|delay| *delay < schedule.period);
        Self { next_count: schedule.period, schedule, verdict: None, successes: 0, failures: 0, eager_delay }
    }

    /// Takes in a result; `at` is the time since the first probe.
    pub(super) fn observe(&mut self, at: Duration, good: bool) -> Judgement {
        let counted = good || at >= self.next_count;
        if good {
            self.eager_delay = None;
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
        } else if counted {
            self.next_count = at + self.schedule.period;
            self.successes = 0;
            self.failures = self.failures.saturating_add(1);
        }
        let reached = (good && self.successes >= self.schedule.success_threshold)
            || (!good && counted && self.failures >= self.schedule.failure_threshold);
        let changed = reached && self.verdict != Some(good);
        if changed {
            self.verdict = Some(good);
        }
        Judgement { verdict: changed.then_some(good), counted: counted && !good, next_in: self.next_in(at) }
    }

    fn next_in(&mut self, at: Duration) -> Duration {
        let Some(delay) = self.eager_delay else { return self.schedule.period };
        let longer = delay * EAGER_GROWTH_PERCENT / 100;
        self.eager_delay = (longer < self.schedule.period).then_some(longer);
        // A failure must be able to count on time.
        delay.min(self.next_count.saturating_sub(at)).max(EAGER_FIRST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(eager: bool) -> Schedule {
        Schedule {
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(1),
            failure_threshold: 3,
            success_threshold: 1,
            eager,
        }
    }

    /// Feeds results (`+` good, `-` bad) each when it is due; the verdicts with their times, and how many failures counted.
    fn check(schedule: Schedule, results: &str, expected: &str) {
        let (mut judge, mut at, mut told, mut counted) = (Judge::new(schedule), Duration::ZERO, Vec::new(), 0);
        for result in results.chars() {
            let judgement = judge.observe(at, result == '+');
            if let Some(verdict) = judgement.verdict {
                told.push(format!("{}@{}ms", if verdict { "good" } else { "bad" }, at.as_millis()));
            }
            counted += u32::from(judgement.counted);
            at += judgement.next_in;
        }
        assert_eq!(format!("{} ({counted})", told.join(" ")), expected, "{results}");
    }

    #[test]
    fn verdicts_need_their_thresholds() {
        check(schedule(false), "+", "good@0ms (0)");
        check(schedule(false), "+--+--+", "good@0ms (4)");
        check(schedule(false), "+---+", "good@0ms bad@3000ms good@4000ms (3)");
        check(schedule(false), "---", " (2)");
        check(schedule(false), "----", "bad@3000ms (3)");
        check(Schedule { success_threshold: 2, ..schedule(false) }, "++", "good@1000ms (0)");
        check(Schedule { success_threshold: 2, ..schedule(false) }, "+-++", "good@3000ms (1)");
    }

    #[test]
    fn an_eager_probe_is_quick_to_see_success_and_slow_to_count_failures() {
        check(schedule(true), "+", "good@0ms (0)");
        check(schedule(true), "-+", "good@10ms (0)");
        check(schedule(true), "----+", "good@57ms (0)");
        // The first period has no failure that counts, and then each period has one.
        let judge = &mut Judge::new(schedule(true));
        let (mut at, mut bad_at) = (Duration::ZERO, None);
        while bad_at.is_none() {
            let judgement = judge.observe(at, false);
            bad_at = judgement.verdict.map(|_| at);
            at += judgement.next_in;
        }
        assert_eq!(bad_at, Some(Duration::from_secs(3)));
    }

    #[test]
    fn after_the_first_success_the_period_holds() {
        let mut judge = Judge::new(schedule(true));
        judge.observe(Duration::ZERO, true);
        assert_eq!(judge.observe(Duration::from_secs(1), false).next_in, Duration::from_secs(1));
    }
}
