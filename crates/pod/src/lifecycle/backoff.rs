//! How long a failed container waits before it is started again.

/// The first restart is immediate, the second waits this long, each further one twice as long.
pub(super) const BACKOFF_FIRST_MS: u64 = 1_000;
pub(super) const BACKOFF_MAX_MS: u64 = 60_000;
/// A container that ran this long is taken for healthy: its next failure counts as the first.
pub(super) const BACKOFF_RESET_MS: u64 = 600_000;

/// The wait before a restart that follows `streak` earlier ones.
pub(super) fn delay_ms(streak: u32) -> u64 {
    match streak {
        0 => 0,
        n => BACKOFF_FIRST_MS.saturating_mul(1u64.checked_shl(n - 1).unwrap_or(u64::MAX)).min(BACKOFF_MAX_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_nothing_to_a_minute() {
        let waits: Vec<u64> = (0..9).map(delay_ms).collect();
        assert_eq!(waits, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(delay_ms(u32::MAX), BACKOFF_MAX_MS);
    }
}
