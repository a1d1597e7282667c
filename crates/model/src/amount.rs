//! How much: `3`, `25%`, `0.5%`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `25%` or `3`, as it stands in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Amount {
    Count(i64),
    Text(String),
}

/// A part of the whole in hundredths of a percent: 0 to 10 000, so that `0.01%` is the smallest step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

/// An amount of pods, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pods {
    Count(u32),
    Share(Share),
}

/// The most pods that one version may be asked to have.
pub const MOST_PODS: u32 = 100_000;

/// Why an amount cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("`{text}` is no percentage; write for example `25%` or `0.5%`")]
    NoPercentage { text: String },
    #[error("`{text}` is more than 100%")]
    OverAll { text: String },
    #[error("`{text}` is finer than 0.01%")]
    TooFine { text: String },
    #[error("`{text}` is no number of pods; write for example `3` or `25%`")]
    NoPods { text: String },
}

impl Share {
    pub const NONE: Share = Share(0);
    pub const ALL: Share = Share(10_000);
    pub const QUARTER: Share = Share(2_500);

    /// From hundredths of a percent; more than everything is everything.
    pub fn from_hundredths(hundredths: u32) -> Self {
        Self(hundredths.min(Self::ALL.0))
    }

    pub fn hundredths(self) -> u32 {
        self.0
    }

    /// What the other version gets.
    pub fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }

    /// `ceil(share * whole)`.
    pub fn of_rounded_up(self, whole: u32) -> u32 {
        count((u64::from(self.0) * u64::from(whole)).div_ceil(u64::from(Self::ALL.0)))
    }

    /// `floor(share * whole)`.
    pub fn of_rounded_down(self, whole: u32) -> u32 {
        count(u64::from(self.0) * u64::from(whole) / u64::from(Self::ALL.0))
    }

    /// Reads `12.5%`, at most 100 %.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let hundredths = hundredths_of_percent(text)?;
        if hundredths > Self::ALL.0 {
            return Err(AmountError::OverAll { text: text.to_owned() });
        }
        Ok(Self(hundredths))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 100, self.0 % 100);
        match fraction {
            0 => write!(f, "{whole}%"),
            tenths if tenths % 10 == 0 => write!(f, "{whole}.{}%", tenths / 10),
            _ => write!(f, "{whole}.{fraction:02}%"),
        }
    }
}

impl Amount {
    /// As a share of traffic: `25%`.
    pub fn share(&self) -> Result<Share, AmountError> {
        match self {
            Self::Count(0) => Ok(Share::NONE),
            Self::Count(number) => Err(AmountError::NoPercentage { text: number.to_string() }),
            Self::Text(text) => Share::parse(text),
        }
    }

    /// As a number of pods: `3` or `25%` of the replicas.
    pub fn pods(&self) -> Result<Pods, AmountError> {
        match self {
            Self::Count(number) => match u32::try_from(*number) {
                Ok(count) if count <= MOST_PODS => Ok(Pods::Count(count)),
                _ => Err(AmountError::NoPods { text: number.to_string() }),
            },
            Self::Text(text) if text.ends_with('%') => Share::parse(text).map(Pods::Share),
            Self::Text(text) => Err(AmountError::NoPods { text: text.clone() }),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// Reads any percentage, also above 100 % (`120%` of another version's latency), in hundredths of a percent.
pub fn hundredths_of_percent(text: &str) -> Result<u32, AmountError> {
    let malformed = || AmountError::NoPercentage { text: text.to_owned() };
    let number = text.strip_suffix('%').ok_or_else(malformed)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(malformed());
    }
    if fraction.len() > 2 {
        return Err(AmountError::TooFine { text: text.to_owned() });
    }
    let fraction: u32 = format!("{fraction:0<2}").parse().map_err(|_| malformed())?;
    let whole: u32 = whole.parse().map_err(|_| malformed())?;
    whole.checked_mul(100).and_then(|hundredths| hundredths.checked_add(fraction)).ok_or_else(malformed)
}

/// A count of pods always fits: both factors are bounded by the type of the whole.
fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_shown() {
        for (text, hundredths) in
            [("0%", 0), ("1%", 100), ("0.5%", 50), ("12.25%", 1225), ("0.01%", 1), ("100%", 10_000)]
        {
            let share = Share::parse(text).unwrap();
            assert_eq!((share.hundredths(), share.to_string().as_str()), (hundredths, text));
        }
    }

    #[test]
    fn wrong_shares_say_what_would_be_right() {
        let error = |text: &str| Share::parse(text).unwrap_err().to_string();
        assert_eq!(error("25"), "`25` is no percentage; write for example `25%` or `0.5%`");
        assert_eq!(error("101%"), "`101%` is more than 100%");
        assert_eq!(error("0.001%"), "`0.001%` is finer than 0.01%");
        assert_eq!(error("-1%"), "`-1%` is no percentage; write for example `25%` or `0.5%`");
    }

    #[test]
    fn pods_are_a_count_or_a_share() {
        assert_eq!(Amount::Count(3).pods(), Ok(Pods::Count(3)));
        assert_eq!(Amount::Text("25%".to_owned()).pods(), Ok(Pods::Share(Share::from_hundredths(2500))));
        assert!(Amount::Count(-1).pods().is_err());
        assert!(Amount::Text("3".to_owned()).pods().is_err());
    }

    #[test]
    fn shares_of_pods_round_as_asked() {
        let third = Share::parse("33%").unwrap();
        assert_eq!((third.of_rounded_up(10), third.of_rounded_down(10), third.rest().of_rounded_up(10)), (4, 3, 7));
    }
}
