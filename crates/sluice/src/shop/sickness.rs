//! What can be wrong with the shop, read from `DEMO_*` variables.
//!
//! Faults are spread evenly by a counter instead of drawn at random: `DEMO_ERRORS=5%` makes exactly 5 of any 100 answers
//! bad, so that a demonstration and a test see the same rate every time.

use std::time::Duration;

use sluice_model::duration::{self, DurationError};

/// The faults of one instance of the shop.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sickness {
    pub errors: Share,
    pub wrong: Share,
    pub latency: Duration,
    pub startup: Duration,
    pub crash_after: Option<Duration>,
}

/// A part of all requests, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share(u32);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SicknessError {
    #[error("`{variable}` is `{value}`, which is not a share between 0% and 100%")]
    Share { variable: &'static str, value: String },
    #[error("`{variable}` cannot be used")]
    Duration { variable: &'static str, source: DurationError },
}

const WHOLE: u32 = 1_000_000;

impl Share {
    /// Whether the `n`-th request (from 0) is hit; of any run of requests the rounded share is.
    pub(crate) fn hits(self, n: u64) -> bool {
        let before = n.wrapping_mul(u64::from(self.0)) / u64::from(WHOLE);
        let after = (n.wrapping_add(1)).wrapping_mul(u64::from(self.0)) / u64::from(WHOLE);
        after > before
    }

    fn parse(text: &str) -> Option<Self> {
        let (number, scale) = match text.strip_suffix('%') {
            Some(percent) => (percent, 0.01),
            None => (text, 1.0),
        };
        let share = number.trim().parse::<f64>().ok()? * scale;
        (0.0..=1.0).contains(&share).then_some(Self((share * f64::from(WHOLE)).round() as u32))
    }
}

impl Sickness {
    /// Reads the variables through `lookup`; unset and empty ones mean health.
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SicknessError> {
        let get = |variable: &'static str| lookup(variable).filter(|v| !v.is_empty());
        let share = |variable: &'static str| match get(variable) {
            None => Ok(Share::default()),
            Some(value) => Share::parse(&value).ok_or(SicknessError::Share { variable, value }),
        };
        let duration = |variable: &'static str| match get(variable) {
            None => Ok(None),
            Some(value) => {
                duration::parse(&value).map(Some).map_err(|source| SicknessError::Duration { variable, source })
            }
        };
        Ok(Self {
            errors: share("DEMO_ERRORS")?,
            wrong: share("DEMO_WRONG")?,
            latency: duration("DEMO_LATENCY")?.unwrap_or_default(),
            startup: duration("DEMO_STARTUP")?.unwrap_or_default(),
            crash_after: duration("DEMO_CRASH_AFTER")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Sickness, SicknessError> {
        Sickness::read(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn nothing_set_means_healthy() {
        assert_eq!(read(&[]), Ok(Sickness::default()));
        assert_eq!(read(&[("DEMO_ERRORS", "")]), Ok(Sickness::default()));
    }

    #[test]
    fn all_faults_are_read() {
        let sick = read(&[
            ("DEMO_ERRORS", "5%"),
            ("DEMO_WRONG", "0.01"),
            ("DEMO_LATENCY", "200ms"),
            ("DEMO_STARTUP", "2s"),
            ("DEMO_CRASH_AFTER", "30s"),
        ])
        .unwrap();
        assert_eq!(sick.errors, Share(50_000));
        assert_eq!(sick.wrong, Share(10_000));
        assert_eq!(sick.latency, Duration::from_millis(200));
        assert_eq!(sick.startup, Duration::from_secs(2));
        assert_eq!(sick.crash_after, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_bad_value_names_the_variable_and_the_value() {
        let error = read(&[("DEMO_ERRORS", "many")]).unwrap_err();
        assert_eq!(error.to_string(), "`DEMO_ERRORS` is `many`, which is not a share between 0% and 100%");
        assert!(read(&[("DEMO_ERRORS", "101%")]).is_err());
        assert!(read(&[("DEMO_STARTUP", "soon")]).is_err());
    }

    #[test]
    fn a_share_is_exact_over_any_hundred_requests() {
        let five = Share::parse("5%").unwrap();
        for start in [0_u64, 7, 12_345] {
            let hits = (start..start + 100).filter(|n| five.hits(*n)).count();
            assert_eq!(hits, 5, "from request {start}");
        }
        assert!((0..1000).all(|n| Share::parse("100%").unwrap().hits(n)));
        assert!((0..1000).all(|n| !Share::default().hits(n)));
    }
}
