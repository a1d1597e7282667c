//! Numbers of pods that are given as they are, or in percent.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Debug, Clone, Copy)]
pub(super) enum Rounding {
    Up,
    Down,
}

/// `25%` or `1` of so many pods.
pub(super) fn portion(amount: &IntOrString, of: i32, rounding: Rounding) -> i32 {
    let percent = match amount {
        IntOrString::Int(count) => return *count,
        IntOrString::String(text) => text.trim_end_matches('%').parse::<i64>().unwrap_or(0),
    };
    let hundredths = percent * i64::from(of);
    let whole = match rounding {
        Rounding::Up => (hundredths + 99).div_euclid(100),
        Rounding::Down => hundredths.div_euclid(100),
    };
    i32::try_from(whole).unwrap_or(i32::MAX)
}
