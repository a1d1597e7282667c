//! What a supervisor does while nothing happens: it tidies up, and then takes as little memory as it can, for there is one beside
//! each pod.

use std::fs;

use crate::kernel;

/// After this long without anything to do, it tidies up.
const TIDY_AFTER_MS: u64 = 50;
/// After this long, it rests.
const REST_AFTER_MS: u64 = 1000;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    // Busy => Tidy
    #[default]
    Busy,
    // Tidy => Busy | Resting
    Tidy,
    // Resting => Busy
    Resting,
}

impl Rest {
    /// When to wake at the latest, so as to come to rest in time.
    pub(super) fn wake_at_ms(self, wake_at_ms: Option<u64>, now_ms: u64) -> Option<u64> {
        let next = match self {
            Self::Busy => Some(now_ms + TIDY_AFTER_MS),
            Self::Tidy => Some(now_ms + REST_AFTER_MS),
            Self::Resting => None,
        };
        wake_at_ms.into_iter().chain(next).min()
    }

    /// After a wait: whether anything happened, and how long the wait could have been.
    pub(super) fn after(self, happened: bool, wake_at_ms: Option<u64>, now_ms: u64) -> Self {
        let due = wake_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        match self {
            _ if happened || due => Self::Busy,
            Self::Busy => Self::Tidy,
            Self::Tidy | Self::Resting => Self::Resting,
        }
    }
}

/// Lets go of what starting a pod took: free memory, and pages of files that only were read. What is needed again is found in
/// the page cache.
pub(super) fn give_back() {
    // All is looked up before the first page goes: what runs afterwards is read in again.
    let pages = unchanged(&fs::read_to_string("/proc/self/smaps").unwrap_or_default());
    kernel::trim_heap();
    pages.into_iter().for_each(kernel::forget_pages);
}

/// The mappings of files in `/proc/PID/smaps` that cannot be written, and hold nothing but what the file says: a linker
/// writes into some before it protects them.
fn unchanged(smaps: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(mapping) = mapping(line) {
            candidate = mapping;
        } else if line.split_ascii_whitespace().eq(["Anonymous:", "0", "kB"]) {
            found.extend(candidate.take());
        }
    }
    found
}

/// Whether a line begins a mapping, and its place if it is a file's that cannot be written.
fn mapping(line: &str) -> Option<Option<std::ops::Range<usize>>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let (rights, path) = (words.next()?, words.nth(3).unwrap_or_default());
    Some((matches!(rights, "r-xp" | "r--p") && path.starts_with('/')).then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_forgotten() {
        let smaps = "\
35ad4000-364ef000 r--p 00000000 fe:00 10627837   /usr/bin/sluice
Rss:                 100 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
364ef000-38512000 r-xp 00a1a000 fe:00 10627837   /usr/bin/sluice
Anonymous:             0 kB
38512000-3862d000 r--p 02a3c000 fe:00 10627837   /usr/bin/sluice
Anonymous:          1132 kB
3862d000-38630000 rw-p 02b56000 fe:00 10627837   /usr/bin/sluice
Anonymous:             0 kB
53236000-53278000 rw-p 00000000 00:00 0          [heap]
Anonymous:             0 kB
7f4c10901000-7f4c10a57000 rwxp 00026000 fe:00 326269     /usr/lib/odd.so
Anonymous:             0 kB
7fffefdbc000-7fffefdbe000 r-xp 00000000 00:00 0          [vdso]
Anonymous:             0 kB
";
        let found: Vec<_> = unchanged(smaps).iter().map(|pages| (pages.start, pages.end)).collect();
        assert_eq!(found, [(0x35ad_4000, 0x364e_f000), (0x364e_f000, 0x3851_2000)]);
    }

    #[test]
    fn rest_comes_after_tidying_and_ends_with_the_next_event() {
        let busy = Rest::default();
        assert_eq!(busy.wake_at_ms(None, 5000), Some(5050));
        let tidy = busy.after(false, None, 5050);
        assert_eq!((tidy, tidy.wake_at_ms(None, 5050)), (Rest::Tidy, Some(6050)));
        let resting = tidy.after(false, None, 6050);
        assert_eq!((resting, resting.wake_at_ms(None, 6050)), (Rest::Resting, None));
        assert_eq!(resting.wake_at_ms(Some(9000), 6050), Some(9000));
        assert_eq!(resting.after(true, None, 7000), Rest::Busy);
        assert_eq!(resting.after(false, Some(7100), 7100), Rest::Busy, "a deadline is something to do");
    }
}
