//! Durations as people write them: `30s`, `10m`, `1h30m`, `1.5s`, `250ms`.

use std::time::Duration;

/// The longest duration that is accepted; anything above is a typing error.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Units from large to small, each with its milliseconds. They must appear in this order, each at most once.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("`{text}` is no duration; write for example `30s`, `10m` or `1h30m`")]
    Malformed { text: String },
    #[error("`{text}` names the units in the wrong order; write for example `1h30m`, largest first")]
    Order { text: String },
    #[error("`{text}` is finer than a millisecond")]
    TooFine { text: String },
    #[error("`{text}` is longer than a year")]
    TooLong { text: String },
}

/// Reads `1h30m` and `1.5s`. A bare `0` is allowed, any other number needs its unit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let malformed = || DurationError::Malformed { text: text.to_owned() };
    let too_long = || DurationError::TooLong { text: text.to_owned() };
    let (mut rest, mut units, mut total) = (text, UNITS.as_slice(), 0_u64);
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
        let (number, after) = rest.split_at(number_end);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(malformed());
        }
        let position = units.iter().position(|(name, _)| *name == unit);
        let position = position.ok_or_else(|| DurationError::Order { text: text.to_owned() })?;
        let milliseconds = units[position].1;
        let part = part_of(milliseconds, fraction).ok_or_else(|| DurationError::TooFine { text: text.to_owned() })?;
        let whole: u64 = whole.parse().map_err(|_| too_long())?;
        total = whole.checked_mul(milliseconds).and_then(|ms| total.checked_add(ms + part)).ok_or_else(too_long)?;
        (rest, units) = (after, &units[position + 1..]);
    }
    let duration = Duration::from_millis(total);
    if duration > LONGEST { Err(too_long()) } else { Ok(duration) }
}

/// The decimal places `fraction` of a unit in milliseconds; none where these are not whole.
fn part_of(unit: u64, fraction: &str) -> Option<u64> {
    let places = fraction.trim_end_matches('0');
    let scale = 10_u64.checked_pow(u32::try_from(places.len()).ok()?)?;
    let scaled = if places.is_empty() { 0 } else { places.parse::<u64>().ok()?.checked_mul(unit)? };
    (scaled % scale == 0).then_some(scaled / scale)
}

/// The shortest text that [`parse`] reads as the same duration, in whole milliseconds.
pub fn show(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, milliseconds) in UNITS {
        let count = left / milliseconds;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            left %= milliseconds;
        }
    }
    text
}

/// Short and rounded, for people who read what something took: `850ms`, `12.3s`, `4m05s`.
pub fn show_rounded(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0}ms", seconds * 1000.0)
    } else if seconds < 60.0 {
        format!("{seconds:.1}s")
    } else {
        format!("{}m{:02}s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0", 0),
            ("0s", 0),
            ("2d1s", 172_801_000),
            ("1.5s", 1_500),
            ("0.125s", 125),
            ("1.50h", 5_400_000),
            ("1h0.5m", 3_630_000),
            ("1.0ms", 1),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        let error = |text| parse(text).unwrap_err().to_string();
        for text in ["", "5", "s", "-3s", "10 m", "3w", "1.s", ".5s", "1..5s", "1.5.0s", "1s2"] {
            assert!(error(text).contains("is no duration"), "{text}");
        }
        assert_eq!(
            error("30m1h"),
            "`30m1h` names the units in the wrong order; write for example `1h30m`, largest first"
        );
        assert_eq!(error("99999d"), "`99999d` is longer than a year");
        for text in ["0.5ms", "1.0001s", "0.00000000000000000000000000000001d", "1.3333333333333333333333333333333h"] {
            assert_eq!(error(text), format!("`{text}` is finer than a millisecond"));
        }
    }

    #[test]
    fn what_something_took_is_rounded() {
        assert_eq!(show_rounded(Duration::from_millis(850)), "850ms");
        assert_eq!(show_rounded(Duration::from_millis(12_340)), "12.3s");
        assert_eq!(show_rounded(Duration::from_secs(245)), "4m05s");
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_read_back(milliseconds in 0_u64..31_622_400_000) {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse(&show(duration)), Ok(duration));
        }
    }
}
