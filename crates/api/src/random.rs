//! Names and ids that nobody else has, and the time.

use std::sync::LazyLock;

use jiff::Timestamp;
use rustls::crypto::SecureRandom;

static SECURE: LazyLock<&'static dyn SecureRandom> =
    LazyLock::new(|| rustls::crypto::aws_lc_rs::default_provider().secure_random);

/// Letters that make no words and cannot be mistaken for one another.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SECURE.fill(&mut out).expect("the system's randomness does not run dry");
    out
}

/// Five characters for `generateName`.
pub(crate) fn suffix() -> String {
    bytes::<5>().iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

/// 64 hexadecimal digits: a bearer token.
pub(crate) fn token() -> String {
    bytes::<32>().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn number() -> u32 {
    u32::from_ne_bytes(bytes())
}

/// A random (version 4) UUID.
pub(crate) fn uid() -> String {
    let mut raw = bytes::<16>();
    raw[6] = raw[6] & 0x0f | 0x40;
    raw[8] = raw[8] & 0x3f | 0x80;
    let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Now, in whole seconds, as timestamps are written.
pub(crate) fn now() -> String {
    at(Timestamp::now())
}

/// `2026-01-02T03:04:05Z`.
pub(crate) fn at(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
