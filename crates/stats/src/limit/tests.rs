use super::*;

fn version(requests: u64, errors: u64, latency: impl Fn(u64) -> u64) -> VersionSnapshot {
    let mut snapshot = VersionSnapshot { requests, errors_5xx: errors, ..VersionSnapshot::default() };
    for index in 0..requests {
        snapshot.latency.record(Duration::from_micros(latency(index)));
    }
    snapshot
}

fn flat(requests: u64, errors: u64) -> VersionSnapshot {
    version(requests, errors, |_| 2000)
}

/// One look after everything happened at once.
fn check(metric: Metric, candidate: &VersionSnapshot, stable: &VersionSnapshot, expected: &str) {
    let none = VersionSnapshot::default();
    let mut watch = Watch::start(Limit { metric, min_requests: 100 }, &none, &none);
    let look = watch.look(candidate, stable, Duration::from_secs(10));
    assert_eq!(format!("{:?}: {}", look.verdict, look.evidence), expected);
}

const ONE_PERCENT: Metric = Metric::ErrorRate { at_most: 0.01 };
const OVER_STABLE: Metric = Metric::ErrorRateOverStable { by_at_most: 0.01 };
const P99: Metric = Metric::Latency { quantile: 0.99, at_most: Duration::from_millis(250) };
const P99_OVER_STABLE: Metric = Metric::LatencyOverStable { quantile: 0.99, times_at_most: 1.2 };

#[test]
fn a_plain_limit_is_plain() {
    let none = &VersionSnapshot::default();
    check(ONE_PERCENT, &flat(200, 2), none, "Pass: error-rate 1.0% of 200 requests, limit 1%");
    check(ONE_PERCENT, &flat(200, 3), none, "Fail: error-rate 1.5% of 200 requests, limit 1%");
    check(
        ONE_PERCENT,
        &flat(40, 1),
        none,
        "NoData: error-rate 2.5% of 40 requests, limit 1%; 40 of 100 requests needed",
    );
    check(ONE_PERCENT, none, none, "NoData: error-rate unknown (no requests), limit 1%; 0 of 100 requests needed");
}

#[test]
fn a_gross_fault_does_not_wait_for_enough_requests() {
    check(ONE_PERCENT, &flat(40, 6), &VersionSnapshot::default(), "Fail: error-rate 15.0% of 40 requests, limit 1%");
    check(
        OVER_STABLE,
        &flat(60, 9),
        &flat(540, 1),
        "Fail: error-rate 15.0% of 60 requests, stable 0.2% of 540 requests, limit +1%",
    );
}

#[test]
fn a_comparison_accuses_only_with_evidence() {
    check(
        OVER_STABLE,
        &flat(230, 2),
        &flat(2100, 10),
        "Pass: error-rate 0.9% of 230 requests, stable 0.5% of 2100 requests, limit +1%",
    );
    check(
        OVER_STABLE,
        &flat(110, 3),
        &flat(1000, 10),
        "Unsure: error-rate 2.7% of 110 requests, stable 1.0% of 1000 requests, limit +1%; this may still be chance",
    );
    // Both are sick alike: not the candidate's fault.
    check(
        OVER_STABLE,
        &flat(500, 100),
        &flat(500, 100),
        "Pass: error-rate 20.0% of 500 requests, stable 20.0% of 500 requests, limit +1%",
    );
}

#[test]
fn a_stable_version_without_traffic_is_remembered() {
    let (none, before) = (VersionSnapshot::default(), flat(3000, 3));
    let mut watch = Watch::start(Limit { metric: OVER_STABLE, min_requests: 100 }, &none, &before);
    let look = watch.look(&flat(300, 30), &before, Duration::from_secs(2));
    assert_eq!(look.verdict, Verdict::Fail);
    assert_eq!(look.evidence, "error-rate 10.0% of 300 requests, stable before 0.1% of 3000 requests, limit +1%");
    let mut watch = Watch::start(Limit { metric: OVER_STABLE, min_requests: 100 }, &none, &before);
    assert_eq!(watch.look(&flat(300, 1), &before, Duration::from_secs(2)).verdict, Verdict::Pass);
}

#[test]
fn a_restarted_gateway_starts_the_window_again() {
    let mut watch = Watch::start(Limit { metric: ONE_PERCENT, min_requests: 100 }, &flat(1000, 500), &flat(1000, 0));
    assert_eq!(watch.look(&flat(1200, 500), &flat(1200, 0), Duration::from_secs(1)).verdict, Verdict::Pass);
    let look = watch.look(&flat(150, 0), &flat(150, 0), Duration::from_secs(2));
    assert_eq!(look.evidence, "error-rate 0.0% of 150 requests, limit 1%");
}

#[test]
fn latencies_are_held_to_a_limit_and_to_the_stable_version() {
    let slow = |every: u64| version(1000, 0, move |index| if index % every == 0 { 400_000 } else { 2000 });
    check(P99, &slow(200), &VersionSnapshot::default(), "Pass: p99 2.0ms of 1000 requests, limit 250ms");
    check(P99, &slow(50), &VersionSnapshot::default(), "Fail: p99 401ms of 1000 requests, limit 250ms");
    check(P99_OVER_STABLE, &slow(20), &flat(5000, 0), "Fail: p99 401ms of 1000 requests, stable 2.0ms, limit 120%");
    check(
        P99_OVER_STABLE,
        &flat(1000, 0),
        &flat(5000, 0),
        "Pass: p99 2.0ms of 1000 requests, stable 2.0ms, limit 120%",
    );
    check(
        P99_OVER_STABLE,
        &flat(1000, 0),
        &flat(20, 0),
        "NoData: p99 2.0ms, too few requests of the stable version to compare with",
    );
}

/// 10 000 healthy releases of 40 looks with a heavy-tailed latency: how many are accused of a slower p99. The estimate of
/// the stable version moves with every look, so this test, unlike that of error rates, rests on measurement.
#[test]
fn a_healthy_latency_is_hardly_ever_accused() {
    let mut alarms = 0;
    for seed in 0..10_000_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut latency = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let unit = (state >> 11) as f64 / (1_u64 << 53) as f64;
            // Pareto with a shape of 2 above a millisecond.
            Duration::from_secs_f64(0.001 / (1.0 - unit).sqrt())
        };
        let (mut candidate, mut stable) = (VersionSnapshot::default(), VersionSnapshot::default());
        let mut watch = Watch::start(Limit { metric: P99_OVER_STABLE, min_requests: 100 }, &candidate, &stable);
        for _ in 0..40 {
            for (version, count) in [(&mut candidate, 5), (&mut stable, 20)] {
                version.requests += count;
                (0..count).for_each(|_| version.latency.record(latency()));
            }
            if watch.look(&candidate, &stable, Duration::from_secs(1)).verdict == Verdict::Fail {
                alarms += 1;
                break;
            }
        }
    }
    assert!(alarms <= 10, "{alarms} false alarms in 10 000 releases");
}
