//! How every benchmark prints.

use serde::Serialize;

/// The peer where no other program does the same: the number the design sets.
pub(crate) const GOAL: &str = "goal";

/// Ours beside the peer's, measured in the same run. The ratio is the median over the pairs, not of the medians.
#[derive(Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) ours: f64,
    pub(crate) peer: f64,
    pub(crate) peer_name: &'a str,
    pub(crate) ratio: f64,
    pub(crate) unit: &'a str,
}

/// One measurement of each side, close together in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) ours: f64,
    pub(crate) peer: f64,
}

#[expect(clippy::print_stdout, reason = "the lines are what the benchmark is for")]
pub(crate) fn print(name: &str, peer_name: &str, unit: &str, pairs: &[Pair]) -> anyhow::Result<()> {
    let of = |value: fn(&Pair) -> f64| median(pairs.iter().map(value).collect());
    let line = Line {
        name,
        ours: rounded(of(|pair| pair.ours)),
        peer: rounded(of(|pair| pair.peer)),
        peer_name,
        ratio: rounded(of(|pair| pair.ours / pair.peer)),
        unit,
    };
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
