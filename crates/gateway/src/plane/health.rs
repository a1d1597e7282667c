//! What one worker has found out about a pod: whether it fails, how long it takes, how new it is.
//!
//! A pod that fails several times in a row, in ways that only a sick server or its way can fail, is left out for a while. When
//! that is over it is on probation: it is asked again, and left out for longer should it fail at once. Where more than half of
//! the pods would be left out, nobody is: then it is not a pod that is sick, and whoever is left could not carry the load.

use std::time::{Duration, Instant};

use super::limits;

#[derive(Debug, Clone)]
pub(crate) struct Health {
    known_since: Instant,
    /// Failures in a row.
    failures: u32,
    /// How often it was left out since it last answered well for long enough.
    exclusions: u32,
    out_until: Option<Instant>,
    /// A moving mean of the seconds to an answer's head, as it was at the last one.
    took: f64,
    took_at: Instant,
}

impl Health {
    pub(crate) fn new(now: Instant) -> Self {
        Self { known_since: now, failures: 0, exclusions: 0, out_until: None, took: 0.0, took_at: now }
    }

    pub(crate) fn is_out(&self, now: Instant) -> bool {
        self.out_until.is_some_and(|until| now < until)
    }

    /// An answer, whatever it says.
    pub(crate) fn answered(&mut self, now: Instant, took: Duration) {
        self.failures = 0;
        let over = |until: Instant| now.saturating_duration_since(until) >= limits::PROBATION;
        if self.out_until.is_some_and(over) {
            (self.out_until, self.exclusions) = (None, 0);
        }
        let kept = self.kept(now);
        self.took = self.took * kept + took.as_secs_f64() * (1.0 - kept);
        // The first one counts in full.
        if self.took_at == self.known_since {
            self.took = took.as_secs_f64();
        }
        self.took_at = now;
    }

    /// No connection, no answer, or one that says that there is nobody who could.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        let on_probation = self.exclusions > 0;
        if self.is_out(now) || (self.failures < limits::FAILURES_IN_A_ROW && !on_probation) {
            return;
        }
        let out = limits::EXCLUSION.saturating_mul(1 << self.exclusions.min(limits::EXCLUSION_DOUBLINGS));
        (self.out_until, self.failures) = (Some(now + out), 0);
        self.exclusions += 1;
    }

    /// How much it would cost to send it one request more.
    pub(crate) fn cost(&self, in_flight: u32, now: Instant) -> f64 {
        let took = self.took * self.kept(now);
        f64::from(in_flight + 1) * took.max(limits::ALIKE.as_secs_f64())
    }

    /// The part of its requests that it gets already, while it warms up.
    pub(crate) fn warmth(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.known_since).as_secs_f64();
        (age / limits::SLOW_START.as_secs_f64()).clamp(limits::COLD, 1.0)
    }

    /// How much of the mean is left by now: what was slow long ago may be fast again, which only a request can tell.
    fn kept(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.took_at).as_secs_f64() / limits::MEAN_OVER.as_secs_f64()).exp()
    }
}

/// What is known of one of several pods.
pub(crate) struct Standing {
    pub(crate) out: bool,
    pub(crate) warmth: f64,
    pub(crate) cost: f64,
}

/// The better of two that are drawn at random, among those that are not left out. `random` gives numbers below its argument.
pub(crate) fn choose(
    count: usize,
    standing: impl Fn(usize) -> Standing,
    mut random: impl FnMut(usize) -> usize,
) -> usize {
    if count < 2 {
        return 0;
    }
    let first = random(count);
    let second = (first + 1 + random(count - 1)) % count;
    let [one, other] = [first, second].map(&standing);
    if one.out || other.out {
        return among_the_rest(count, standing, random);
    }
    // Who warms up is passed over for the other one, unless that warms up as well.
    let mut cold = |standing: &Standing| random(PARTS) as f64 >= standing.warmth * PARTS as f64;
    match (cold(&one), cold(&other)) {
        (true, false) => second,
        (false, true) => first,
        _ if other.cost < one.cost => second,
        _ => first,
    }
}

const PARTS: usize = 1 << 16;

fn among_the_rest(count: usize, standing: impl Fn(usize) -> Standing, mut random: impl FnMut(usize) -> usize) -> usize {
    let well: Vec<usize> = (0..count).filter(|at| !standing(*at).out).collect();
    if well.len() * 2 < count {
        return random(count);
    }
    well[random(well.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// `out` at which seconds, when these failures and answers came.
    fn out(events: &[(f64, bool)], at: &[f64]) -> Vec<bool> {
        let start = Instant::now();
        let mut health = Health::new(start);
        let mut events = events.iter().peekable();
        let look = |at: &f64| {
            while let Some((when, well)) = events.next_if(|(when, _)| when <= at) {
                let now = after(start, *when);
                if *well { health.answered(now, Duration::from_millis(1)) } else { health.failed(now) }
            }
            health.is_out(after(start, *at))
        };
        at.iter().map(look).collect()
    }

    #[test]
    fn failures_in_a_row_leave_a_pod_out_for_a_while() {
        let row = [(0.1, false), (0.2, false), (0.3, false), (0.4, false), (0.5, false)];
        assert_eq!(out(&row[..4], &[1.0]), [false]);
        assert_eq!(out(&row, &[0.5, 5.4, 5.6]), [true, true, false]);
        let broken = [(0.1, false), (0.2, false), (0.3, true), (0.4, false), (0.5, false), (0.6, false), (0.7, false)];
        assert_eq!(out(&broken, &[1.0]), [false]);
    }

    #[test]
    fn a_pod_on_probation_is_left_out_at_its_first_failure_and_for_longer() {
        let mut events: Vec<(f64, bool)> = (0..5).map(|_| (0.0, false)).collect();
        events.push((6.0, false));
        assert_eq!(out(&events, &[5.9, 6.0, 15.9, 16.1]), [false, true, true, false]);
        // Half a minute of good answers is forgiveness.
        let mut forgiven: Vec<(f64, bool)> = (0..5).map(|_| (0.0, false)).collect();
        forgiven.extend([(6.0, true), (36.0, true), (37.0, false)]);
        assert_eq!(out(&forgiven, &[38.0]), [false]);
    }

    #[test]
    fn the_slow_cost_more_until_it_is_long_ago() {
        let start = Instant::now();
        let (mut fast, mut slow) = (Health::new(start), Health::new(start));
        fast.answered(after(start, 1.0), Duration::from_micros(100));
        slow.answered(after(start, 1.0), Duration::from_millis(50));
        let costs = |in_flight: [u32; 2], at: f64| {
            [fast.cost(in_flight[0], after(start, at)), slow.cost(in_flight[1], after(start, at))]
        };
        let [one, other] = costs([5, 0], 1.0);
        assert!(one < other, "six requests of a millisecond are less than one of fifty: {one} {other}");
        let [one, other] = costs([0, 0], 120.0);
        assert!((one - other).abs() < f64::EPSILON, "both are as good as new: {one} {other}");
    }

    fn shares(standings: &[(bool, f64, f64)], rounds: usize) -> Vec<f64> {
        let mut counts = vec![0usize; standings.len()];
        let mut state = 7u64;
        for _ in 0..rounds {
            let chosen = choose(
                standings.len(),
                |at| Standing { out: standings[at].0, warmth: standings[at].1, cost: standings[at].2 },
                |below| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    ((state >> 33) as usize) % below
                },
            );
            counts[chosen] += 1;
        }
        counts.iter().map(|count| *count as f64 / rounds as f64).collect()
    }

    #[test]
    fn who_is_left_out_gets_nothing_unless_most_would_be() {
        let (well, sick) = ((false, 1.0, 1.0), (true, 1.0, 1.0));
        for few in [vec![sick, well, well], vec![sick, well], vec![sick, sick, well, well]] {
            assert_eq!(shares(&few, 3000)[0], 0.0);
        }
        for all in [vec![sick, sick, well], vec![sick, sick, sick]] {
            let shares = shares(&all, 3000);
            assert!(shares.iter().all(|share| *share > 0.1), "{shares:?}");
        }
    }

    #[test]
    fn a_new_pod_gets_little_and_more_as_it_warms_up() {
        let of = |warmth: f64| shares(&[(false, warmth, 1.0), (false, 1.0, 1.0), (false, 1.0, 1.0)], 20_000)[0];
        let found = [0.1, 0.5, 1.0].map(of);
        for (share, expected) in found.into_iter().zip([0.033, 0.166, 0.333]) {
            assert!((share - expected).abs() < 0.02, "{found:?}");
        }
        let alike = shares(&[(false, 0.1, 1.0), (false, 0.1, 1.0)], 20_000);
        assert!((alike[0] - 0.5).abs() < 0.02, "all are new: {alike:?}");
    }

    proptest! {
        #[test]
        fn somebody_is_always_chosen(standings in prop::collection::vec((any::<bool>(), 0.1..1.0f64, 0.0..9.0f64), 1..20)) {
            prop_assert!((shares(&standings, 50).iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
