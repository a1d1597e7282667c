//! A finished load as text for people and as JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_model::duration::show_rounded;

use super::tally::{Tally, is_success};

const BAR_WIDTH: u64 = 40;
/// Upper edges of the latency plot, in microseconds.
const EDGES: [u64; 13] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 1_000_000, u64::MAX];

pub(crate) fn as_json(tally: &Tally, took: Duration) -> Value {
    let versions: serde_json::Map<_, _> = tally
        .by_version
        .iter()
        .map(|(name, v)| (name.clone(), json!({"answers": v.answers, "not2xx": v.not_2xx})))
        .collect();
    let statuses: serde_json::Map<_, _> = tally.by_status.iter().map(|(s, n)| (s.to_string(), json!(n))).collect();
    let failures: serde_json::Map<_, _> = tally.failures.iter().map(|(f, n)| (f.name().into(), json!(n))).collect();
    let ms = |quantile: f64| millis(tally.latency.value_at_quantile(quantile));
    json!({
        "requests": tally.requests,
        "failed": tally.failed(),
        "not2xx": tally.not_2xx(),
        "connectionErrors": tally.connection_errors(),
        "rate": rate(tally, took),
        "seconds": took.as_secs_f64(),
        "byVersion": versions,
        "byStatus": statuses,
        "failures": failures,
        "latencyMs": {"p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "p999": ms(0.999), "max": millis(tally.latency.max())},
    })
}

pub(crate) fn as_text(tally: &Tally, took: Duration) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} requests in {}, {:.0} a second, {} failed",
        tally.requests,
        show_rounded(took),
        rate(tally, took),
        tally.failed()
    );
    for (version, counts) in &tally.by_version {
        let name = if version.is_empty() { "(no version)" } else { version };
        let bad = if counts.not_2xx == 0 { String::new() } else { format!(", {} not 2xx", counts.not_2xx) };
        let share = 100.0 * counts.answers as f64 / tally.requests.max(1) as f64;
        let _ = writeln!(out, "  {name:<14} {:>9} answers {share:>6.2}%{bad}", counts.answers);
    }
    for (status, count) in tally.by_status.iter().filter(|(status, _)| !is_success(**status)) {
        let _ = writeln!(out, "  status {status:<7} {count:>9}");
    }
    for (failure, count) in &tally.failures {
        let _ = writeln!(out, "  {}: {count}", failure.name());
    }
    out.push_str(&latency_plot(tally));
    out
}

fn latency_plot(tally: &Tally) -> String {
    let histogram = &tally.latency;
    if histogram.is_empty() {
        return String::new();
    }
    let ms = |quantile: f64| millis(histogram.value_at_quantile(quantile));
    let mut out = format!(
        "latency from the due time: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms\n",
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        millis(histogram.max())
    );
    let mut below = 0;
    let counts: Vec<(u64, u64)> = EDGES
        .iter()
        .map(|edge| {
            let count = histogram.count_between(below, edge - 1);
            below = *edge;
            (*edge, count)
        })
        .collect();
    let most = counts.iter().map(|(_, n)| *n).max().unwrap_or(1).max(1);
    let first = counts.iter().position(|(_, n)| *n > 0).unwrap_or(0);
    let last = counts.iter().rposition(|(_, n)| *n > 0).unwrap_or(0);
    for (edge, count) in &counts[first..=last] {
        let label = if *edge == u64::MAX { "more".to_owned() } else { format!("< {} ms", millis(*edge)) };
        let width = (count * BAR_WIDTH).div_ceil(most);
        let bar: String = std::iter::repeat_n('█', usize::try_from(width).unwrap_or(0)).collect();
        let _ = writeln!(out, "  {label:>10} {count:>9} {bar}");
    }
    out
}

fn rate(tally: &Tally, took: Duration) -> f64 {
    let seconds = took.as_secs_f64();
    if seconds > 0.0 { tally.requests as f64 / seconds } else { 0.0 }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::tally::{Failure, Outcome};
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally::new();
        for n in 0..90 {
            let version = Some(if n % 10 == 0 { "v2" } else { "v1" }.to_owned());
            tally.count(Outcome::Answered { status: 200, version }, Duration::from_micros(300));
        }
        for _ in 0..9 {
            tally.count(Outcome::Answered { status: 500, version: Some("v2".into()) }, Duration::from_micros(3000));
        }
        tally.count(Outcome::Failed(Failure::Reset), Duration::from_micros(700));
        tally
    }

    #[test]
    fn the_text_names_every_failure() {
        insta::assert_snapshot!(as_text(&tally(), Duration::from_secs(2)), @r"
        100 requests in 2.0s, 50 a second, 10 failed
          v1                    81 answers  81.00%
          v2                    18 answers  18.00%, 9 not 2xx
          status 500             9
          connection lost before the answer: 1
        latency from the due time: p50 0.30 ms, p90 0.30 ms, p99 3.00 ms, p99.9 3.00 ms, max 3.00 ms
            < 0.5 ms        90 ████████████████████████████████████████
              < 1 ms         1 █
              < 2 ms         0 
              < 4 ms         9 ████
        ");
    }

    #[test]
    fn the_json_is_an_interface() {
        let json = as_json(&tally(), Duration::from_secs(2));
        assert_eq!(json["requests"], 100);
        assert_eq!(json["failed"], 10);
        assert_eq!(json["byVersion"]["v2"], serde_json::json!({"answers": 18, "not2xx": 9}));
        assert_eq!(json["failures"]["connection lost before the answer"], 1);
    }
}
