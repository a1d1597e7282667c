//! The string formats that are checked; all others only document.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

/// Whether `text` is of the format; unknown formats hold for everything.
pub(super) fn holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => is_date_time(text),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID.is_match(text) && text.as_bytes().get(version_digit(text)) == Some(&b'3'),
        "uuid4" => UUID.is_match(text) && text.as_bytes().get(version_digit(text)) == Some(&b'4'),
        "uuid5" => UUID.is_match(text) && text.as_bytes().get(version_digit(text)) == Some(&b'5'),
        "duration" => is_duration(text),
        "email" => EMAIL.is_match(text),
        "hostname" => text.len() <= 255 && text.split('.').all(|label| HOST_LABEL.is_match(label)),
        "uri" => URI.is_match(text),
        "mac" => MAC.is_match(text),
        "hexcolor" => HEX_COLOUR.is_match(text),
        "rgbcolor" => RGB_COLOUR.is_match(text),
        "ssn" => SSN.is_match(text),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_credit_card(text),
        "k8s-short-name" => SHORT_NAME.is_match(text) && text.len() <= 63,
        "k8s-long-name" => text.len() <= 253 && text.split('.').all(|label| SHORT_NAME.is_match(label)),
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        _ => true,
    }
}

macro_rules! patterns {
    ($($name:ident = $pattern:literal;)*) => {
        $(static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("the pattern is valid"));)*
    };
}

patterns! {
    UUID = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    EMAIL = r"^[^@\s<>]+@[^@\s<>]+$";
    HOST_LABEL = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$";
    URI = r"^([A-Za-z][A-Za-z0-9+.-]*:[^\s]+|/[^\s]*)$";
    MAC = r"(?i)^([0-9a-f]{2}(:[0-9a-f]{2}){5}|[0-9a-f]{2}(-[0-9a-f]{2}){5}|[0-9a-f]{4}(\.[0-9a-f]{4}){2})$";
    HEX_COLOUR = r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOUR = r"^rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\)$";
    SSN = r"^\d{3}[- ]?\d{2}[- ]?\d{4}$";
    SHORT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
    GO_DURATION = r"^[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*$";
    WORD_DURATION = r"^\d+\s*(ns|nano|us|µs|micro|ms|milli|s|sec|second|m|min|minute|h|hr|hour|d|day|w|wk|week)s?$";
    ISO_DURATION = r"^P(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$";
}

fn is_date_time(text: &str) -> bool {
    text.len() >= 20 && text.as_bytes()[10].eq_ignore_ascii_case(&b'T') && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32) || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

fn is_duration(text: &str) -> bool {
    text == "0"
        || GO_DURATION.is_match(text)
        || WORD_DURATION.is_match(text)
        || (text.len() > 1 && ISO_DURATION.is_match(text))
}

/// Where the version stands in a UUID, with or without dashes.
fn version_digit(uuid: &str) -> usize {
    if uuid.as_bytes().get(8) == Some(&b'-') { 14 } else { 12 }
}

fn digits(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let plain = digits(text);
    let values: Option<Vec<u32>> = plain
        .chars()
        .enumerate()
        .map(|(n, c)| if n == 9 && c.eq_ignore_ascii_case(&'x') { Some(10) } else { c.to_digit(10) })
        .collect();
    values.is_some_and(|v| v.len() == 10 && v.iter().zip((1..=10).rev()).map(|(d, w)| d * w).sum::<u32>() % 11 == 0)
}

fn is_isbn13(text: &str) -> bool {
    let plain = digits(text);
    let values: Option<Vec<u32>> = plain.chars().map(|c| c.to_digit(10)).collect();
    values.is_some_and(|v| {
        v.len() == 13 && v.iter().enumerate().map(|(n, d)| d * if n % 2 == 0 { 1 } else { 3 }).sum::<u32>() % 10 == 0
    })
}

fn is_credit_card(text: &str) -> bool {
    let plain = digits(text);
    let values: Option<Vec<u32>> = plain.chars().rev().map(|c| c.to_digit(10)).collect();
    values.is_some_and(|v| {
        let luhn = |(n, d): (usize, &u32)| if n % 2 == 1 { (d * 2) / 10 + (d * 2) % 10 } else { *d };
        (13..=19).contains(&v.len()) && v.iter().enumerate().map(luhn).sum::<u32>() % 10 == 0
    })
}
