//! Durations as people write them: `30s`, `10m`, `1h30m`, `250ms`.

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
    #[error("`{text}` is longer than a year")]
    TooLong { text: String },
}

/// Reads `1h30m`. A bare `0` is allowed, any other number needs its unit.
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
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        if number.is_empty() || !UNITS.iter().any(|(name, _)| *name == unit) {
            return Err(malformed());
        }
        let position = units.iter().position(|(name, _)| *name == unit);
        let position = position.ok_or_else(|| DurationError::Order { text: text.to_owned() })?;
        let number: u64 = number.parse().map_err(|_| too_long())?;
        total = number.checked_mul(units[position].1).and_then(|ms| total.checked_add(ms)).ok_or_else(too_long)?;
        (rest, units) = (after, &units[position + 1..]);
    }
    let duration = Duration::from_millis(total);
    if duration > LONGEST { Err(too_long()) } else { Ok(duration) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, milliseconds) in
            [("30s", 30_000), ("10m", 600_000), ("1h30m", 5_400_000), ("250ms", 250), ("0", 0), ("2d1s", 172_801_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_why() {
        let error = |text| parse(text).unwrap_err().to_string();
        for text in ["", "5", "s", "-3s", "1.5h", "10 m", "3w"] {
            assert!(error(text).contains("is no duration"), "{text}");
        }
        assert_eq!(
            error("30m1h"),
            "`30m1h` names the units in the wrong order; write for example `1h30m`, largest first"
        );
        assert_eq!(error("99999d"), "`99999d` is longer than a year");
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_read_back(milliseconds in 0_u64..31_622_400_000) {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(parse(&show(duration)), Ok(duration));
        }
    }
}
