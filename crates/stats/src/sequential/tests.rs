use super::*;

/// A small generator for simulations: the seed is the whole of its state.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn count(&mut self, all: u64, rate: f64) -> Count {
        Count { bad: (0..all).filter(|_| self.unit() < rate).count() as u64, all }
    }
}

/// One release: both rates, the requests between two looks, and the number of looks.
struct Story {
    candidate: f64,
    stable: f64,
    margin: f64,
    block: (u64, u64),
    looks: usize,
}

impl Story {
    /// The look at which the alarm was raised.
    fn alarm(&self, seed: u64) -> Option<usize> {
        let mut random = Random(seed);
        let history = random.count(self.block.1 * 5, self.stable);
        let mut sequential = Sequential::new(self.margin, history);
        (1..=self.looks).find(|_| {
            sequential.observe(random.count(self.block.0, self.candidate), random.count(self.block.1, self.stable));
            is_alarm(sequential.evidence())
        })
    }

    fn alarms(&self, releases: u64) -> u64 {
        (0..releases).filter(|seed| self.alarm(*seed).is_some()).count() as u64
    }
}

/// The promise: at most [`FALSE_ALARMS`] of all healthy releases are accused, at 60 looks each. In 10 000
/// releases each, these four gave 0, 3, 0 and 0 alarms; the promise allows 10.
#[test]
fn a_healthy_release_is_hardly_ever_accused() {
    for (rate, margin) in [(0.0, 0.0), (0.01, 0.0), (0.01, 0.01), (0.1, 0.0)] {
        let story = Story { candidate: rate, stable: rate, margin, block: (10, 90), looks: 60 };
        let alarms = story.alarms(10_000);
        assert!(alarms as f64 <= 10_000.0 * FALSE_ALARMS, "{alarms} false alarms at rate {rate}, margin {margin}");
    }
}

/// The hardest healthy release: exactly as much worse as is allowed.
#[test]
fn a_release_on_the_limit_is_not_accused_more_often_than_promised() {
    let story = Story { candidate: 0.03, stable: 0.02, margin: 0.01, block: (20, 80), looks: 60 };
    let alarms = story.alarms(10_000);
    assert!(alarms as f64 <= 10_000.0 * FALSE_ALARMS, "{alarms} false alarms");
}

/// Faults of 5, 8 and 10 % at a margin of 1 % were found after 266, 122 and 89 requests of the candidate on average, that is
/// after 13, 10 and 9 bad answers.
#[test]
fn a_fault_is_found_after_few_requests() {
    // 300 requests a second, a fifth of them to the candidate, four looks a second.
    let story = |candidate| Story { candidate, stable: 0.001, margin: 0.01, block: (15, 60), looks: 200 };
    let mean_requests = |fault: f64| {
        let found: Vec<usize> = (0..500).map(|seed| story(fault).alarm(seed).expect("found within 50 s")).collect();
        found.iter().sum::<usize>() as f64 / found.len() as f64 * 15.0
    };
    let (five, eight, ten) = (mean_requests(0.05), mean_requests(0.08), mean_requests(0.10));
    assert!(five < 350.0 && eight < 150.0 && ten < 110.0, "requests of the candidate: {five} {eight} {ten}");
}

#[test]
fn the_one_sample_test_keeps_its_promise_too() {
    let alarms = (0..10_000).filter(|seed| {
        let (mut random, mut total) = (Random(*seed), Count::default());
        (0..60).any(|_| {
            let block = random.count(20, 0.01);
            total = Count { bad: total.bad + block.bad, all: total.all + block.all };
            is_alarm(evidence_above(0.01, total))
        })
    });
    let alarms = alarms.count();
    assert!(alarms as f64 <= 10_000.0 * FALSE_ALARMS, "{alarms} false alarms");
}

#[test]
fn without_traffic_on_one_side_there_is_no_evidence() {
    let mut sequential = Sequential::new(0.01, Count::default());
    sequential.observe(Count { bad: 50, all: 100 }, Count::default());
    sequential.observe(Count::default(), Count { bad: 0, all: 100 });
    assert!(sequential.evidence().abs() < 1e-6, "{}", sequential.evidence());
}

#[test]
fn where_nothing_may_fail_one_failure_is_enough() {
    assert!(is_alarm(evidence_above(0.0, Count { bad: 1, all: 1000 })));
    assert!(!is_alarm(evidence_above(0.0, Count { bad: 0, all: 1000 })));
}

proptest::proptest! {
    /// The mathematics behind the promise: for one block the expectation of the ratio is at most 1 for every healthy pair.
    #[test]
    fn no_healthy_pair_gains_from_a_bet(
        usual in 0.001_f64..0.5, fault in 0.005_f64..0.4, margin in 0.0_f64..0.05,
        stable in 0.0_f64..1.0, better_by in 0.0_f64..1.0, candidates in 1_u64..50, stables in 1_u64..50,
    ) {
        let bet = Bet { usual, worse: (usual + margin + fault).min(MOST_RATE), margin };
        let healthy = bet.nearest_healthy(candidates as f64, stables as f64);
        let bound = healthy + margin;
        let rate = (stable + margin).min(1.0) * better_by;
        let expected = |rate: f64, theirs: f64, nearest: f64| rate * theirs / nearest + (1.0 - rate) * (1.0 - theirs) / (1.0 - nearest);
        let log = candidates as f64 * expected(rate, bet.worse, bound).ln()
            + stables as f64 * expected(stable, bet.usual, healthy).ln();
        proptest::prop_assert!(log < 1e-6, "expectation exp({log})");
    }
}

#[test]
fn an_interval_holds_the_rate_and_narrows() {
    for (bad, all, low, high) in [
        (0, 0, 0.0..=0.0, 1.0..=1.0),
        (0, 100, 0.0..=0.0, 0.05..=0.15),
        (10, 100, 0.01..=0.1, 0.1..=0.35),
        (1000, 10_000, 0.07..=0.1, 0.1..=0.13),
        (100, 100, 0.85..=0.95, 1.0..=1.0),
    ] {
        let found = interval(Count { bad, all });
        assert!(low.contains(&found.0) && high.contains(&found.1), "{bad} of {all}: {found:?}");
    }
}
