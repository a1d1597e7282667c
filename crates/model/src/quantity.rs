//! Amounts of resources as Kubernetes writes them: `500m`, `1536Mi`, `2e9`.
//!
//! A [`Quantity`] is exact: a whole number of nanos (the smallest unit the notation has) and the notation it was written
//! in, which its canonical form keeps. Two quantities are equal when their amounts are.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many nanos are one.
const ONE: i128 = 1_000_000_000;
/// How many nanos are one thousandth.
const MILLI: i128 = 1_000_000;
/// What the real server caps amounts at that it cannot hold in the short form.
const MAX: i128 = i64::MAX as i128 * ONE;
/// Decimal amounts of up to this many digits are held in the short form, which has no cap.
const SHORT_DIGITS: usize = 18;
/// More digits than this cannot change an amount below [`MAX`] by a nano.
const MAX_DIGITS: usize = 1024;

/// An exact amount.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    notation: Notation,
}

/// The notation a quantity was written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Notation {
    /// `n u m "" k M G T P E`
    #[default]
    Decimal,
    /// `Ki Mi Gi Ti Pi Ei`
    Binary,
    /// `1e3`
    Exponent,
}

/// Why a text is no quantity, in the words of the real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Number,
}

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, notation: Notation::Decimal };

    /// A whole amount in decimal notation.
    pub fn whole(amount: i64) -> Self {
        Self { nanos: i128::from(amount) * ONE, notation: Notation::Decimal }
    }

    /// So many thousandths in decimal notation.
    pub fn milli(thousandths: i64) -> Self {
        Self { nanos: i128::from(thousandths) * MILLI, notation: Notation::Decimal }
    }

    /// The same amount in another notation.
    pub fn written_as(self, notation: Notation) -> Self {
        Self { notation, ..self }
    }

    pub fn notation(self) -> Notation {
        self.notation
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount has no fraction.
    pub fn is_whole(self) -> bool {
        self.nanos % ONE == 0
    }

    /// Whether the amount has no fraction below a thousandth.
    pub fn is_whole_milli(self) -> bool {
        self.nanos % MILLI == 0
    }

    /// The amount, a fraction counted as one more (away from zero).
    pub fn value(self) -> i64 {
        saturate(away_from_zero(self.nanos, ONE))
    }

    /// The amount in thousandths, a fraction counted as one more (away from zero).
    pub fn milli_value(self) -> i64 {
        saturate(away_from_zero(self.nanos, MILLI))
    }

    /// Without what is finer than a thousandth, rounded away from zero: how resource lists are stored.
    pub fn rounded_to_milli(self) -> Self {
        Self { nanos: away_from_zero(self.nanos, MILLI) * MILLI, ..self }
    }

    fn keeps_notation(self, other: Self) -> Notation {
        if self.is_zero() { other.notation } else { self.notation }
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;

    /// The sum, in the notation of the left side unless that is zero.
    fn add(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos), notation: self.keeps_notation(other) }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;

    /// The difference, in the notation of the left side unless that is zero.
    fn sub(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos), notation: self.keeps_notation(other) }
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { nanos: -self.nanos, ..self }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, |sum, amount| sum + amount)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

fn saturate(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}

fn away_from_zero(amount: i128, unit: i128) -> i128 {
    amount / unit + (amount % unit).signum()
}

// ---- reading ----

/// The parts of a written quantity.
struct Written<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    suffix: &'a str,
}

/// What a suffix multiplies by.
enum Unit {
    Ten(i64, Notation),
    Two(u32),
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let written = split(text)?;
        let (magnitude, notation) = match unit(written.suffix).ok_or(QuantityError::Suffix)? {
            Unit::Ten(exponent, notation) => (decimal(&written, exponent), notation),
            Unit::Two(power) => (binary(&written, power), Notation::Binary),
        };
        Ok(Self { nanos: if written.negative { -magnitude } else { magnitude }, notation })
    }
}

fn split(text: &str) -> Result<Written<'_>, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    if text.len() > MAX_DIGITS {
        return Err(QuantityError::Number);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, rest) = digits(rest);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    let suffix = rest;
    let tail = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let tail = tail.strip_prefix(['+', '-']).unwrap_or(tail);
    if !digits(tail).1.is_empty() {
        return Err(QuantityError::Format);
    }
    Ok(Written { negative, whole: whole.trim_start_matches('0'), fraction, suffix })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn unit(suffix: &str) -> Option<Unit> {
    let decimal = |exponent| Some(Unit::Ten(exponent, Notation::Decimal));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => Some(Unit::Two(10)),
        "Mi" => Some(Unit::Two(20)),
        "Gi" => Some(Unit::Two(30)),
        "Ti" => Some(Unit::Two(40)),
        "Pi" => Some(Unit::Two(50)),
        "Ei" => Some(Unit::Two(60)),
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok().map(|exponent| Unit::Ten(exponent, Notation::Exponent)),
    }
}

/// `whole.fraction * 10^exponent` in nanos, rounded up; capped only where the real server caps.
fn decimal(written: &Written<'_>, exponent: i64) -> i128 {
    let digits = || written.whole.bytes().chain(written.fraction.bytes());
    // How many of the digits stand before the point of the number of nanos.
    let before = written.whole.len() as i64 + exponent.saturating_add(9);
    let mut nanos: Option<i128> = Some(0);
    let mut rest = false;
    for (index, digit) in (0_i64..).zip(digits()) {
        if index < before {
            nanos = nanos.and_then(|n| n.checked_mul(10)?.checked_add(i128::from(digit - b'0')));
        } else {
            rest |= digit != b'0';
        }
    }
    let count = (written.whole.len() + written.fraction.len()) as i64;
    if nanos != Some(0) {
        for _ in count..before.min(count + 64) {
            nanos = nanos.and_then(|n| n.checked_mul(10));
        }
    }
    let nanos = nanos.map_or(MAX, |n| n + i128::from(rest));
    let short = digits().count().max(1) <= SHORT_DIGITS && !rest;
    if short { nanos } else { nanos.min(MAX) }
}

/// `whole.fraction * 2^power` in nanos, rounded up.
fn binary(written: &Written<'_>, power: u32) -> i128 {
    // With more digits than these before the point the cap is reached; those behind it that go further than these only
    // round up.
    const WHOLE: usize = 19;
    const FRACTION: usize = 18;
    let factor = 1_i128 << power;
    let whole = match written.whole {
        "" => Some(0),
        digits if digits.len() > WHOLE => None,
        digits => digits.parse::<i128>().ok().and_then(|n| n.checked_mul(factor)?.checked_mul(ONE)),
    };
    let Some(whole) = whole else { return MAX };
    let (kept, tail) = written.fraction.split_at(written.fraction.len().min(FRACTION));
    let denominator = 10_i128.pow(kept.len() as u32);
    let numerator = kept.parse::<i128>().unwrap_or(0) * factor;
    let (mut nanos, mut remainder) = (numerator / denominator, numerator % denominator);
    for _ in 0..9 {
        remainder *= 10;
        nanos = nanos * 10 + remainder / denominator;
        remainder %= denominator;
    }
    let rest = remainder != 0 || tail.bytes().any(|digit| digit != b'0');
    (whole + nanos + i128::from(rest)).min(MAX)
}

// ---- writing ----

impl fmt::Display for Quantity {
    /// The canonical form: the largest suffix that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        match self.notation {
            Notation::Binary if self.is_whole() && self.nanos.abs() >= 1024 * ONE => {
                let (number, thousands) = without_factors(self.nanos / ONE, 1024, 6);
                write!(f, "{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][thousands])
            }
            Notation::Binary | Notation::Decimal => {
                let (number, thousands) = without_factors(self.nanos, 1000, 9);
                write!(f, "{number}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][thousands])
            }
            Notation::Exponent => {
                let (number, thousands) = without_factors(self.nanos, 1000, usize::MAX);
                match 3 * thousands as i64 - 9 {
                    0 => write!(f, "{number}"),
                    exponent => write!(f, "{number}e{exponent}"),
                }
            }
        }
    }
}

/// Divides by `factor` as often as it goes evenly, at most `most` times.
fn without_factors(mut number: i128, factor: i128, most: usize) -> (i128, usize) {
    let mut times = 0;
    while times < most && number % factor == 0 {
        number /= factor;
        times += 1;
    }
    (number, times)
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.trim().parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
