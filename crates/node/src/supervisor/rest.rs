//! What a supervisor does while nothing happens: it takes as little memory as it can, for there is one beside each pod.

use std::fs;

use super::kernel;

/// After this long without anything to do, a supervisor rests.
const AFTER_MS: u64 = 1000;

#[derive(Debug, Default)]
pub(super) struct Rest {
    resting: bool,
}

impl Rest {
    /// When to wake at the latest, so as to lie down in time.
    pub(super) fn wake_at_ms(&self, wake_at_ms: Option<u64>, now_ms: u64) -> Option<u64> {
        let lie_down = (!self.resting).then_some(now_ms + AFTER_MS);
        wake_at_ms.into_iter().chain(lie_down).min()
    }

    /// After a wait: whether anything happened, and how long the wait could have been.
    pub(super) fn waited(&mut self, happened: bool, wake_at_ms: Option<u64>, now_ms: u64) {
        let due = wake_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if happened || due {
            self.resting = false;
        } else if !self.resting {
            self.resting = true;
            give_back();
        }
    }
}

/// Lets go of the code that starting a pod took. What is needed again is found in the page cache.
pub(super) fn give_back() {
    for code in code_of(&fs::read_to_string("/proc/self/maps").unwrap_or_default()) {
        kernel::forget_code(code);
    }
}

/// The executable mappings of files in `/proc/PID/maps`, none of which can be written.
fn code_of(maps: &str) -> impl Iterator<Item = std::ops::Range<usize>> {
    maps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (range, rights, path) = (words.next()?, words.next()?, words.nth(3)?);
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        (rights == "r-xp" && path.starts_with('/')).then_some(address(start)?..address(end)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_lies_in_files_is_forgotten() {
        let maps = "\
55c535ad4000-55c5364ef000 r--p 00000000 fe:00 10627837   /usr/bin/sluice
55c5364ef000-55c538512000 r-xp 00a1a000 fe:00 10627837   /usr/bin/sluice
55c538512000-55c53862d000 rw-p 02a3c000 fe:00 10627837   /usr/bin/sluice
55c553236000-55c553278000 rw-p 00000000 00:00 0          [heap]
7f4c10901000-7f4c10a57000 rwxp 00026000 fe:00 326269     /usr/lib/odd.so
7fffefdbc000-7fffefdbe000 r-xp 00000000 00:00 0          [vdso]
";
        let code: Vec<_> = code_of(maps).map(|code| (code.start, code.end)).collect();
        assert_eq!(code, [(0x55c5_364e_f000, 0x55c5_3851_2000)]);
    }

    #[test]
    fn rest_begins_after_a_quiet_second_and_ends_with_the_next_event() {
        let mut rest = Rest::default();
        assert_eq!(rest.wake_at_ms(None, 5000), Some(6000));
        rest.waited(false, None, 6000);
        assert!(rest.resting);
        assert_eq!((rest.wake_at_ms(None, 6000), rest.wake_at_ms(Some(9000), 6000)), (None, Some(9000)));
        rest.waited(true, None, 7000);
        assert_eq!(rest.wake_at_ms(Some(7100), 7000), Some(7100));
        rest.waited(false, Some(7100), 7100);
        assert!(!rest.resting, "a deadline is something to do");
    }
}
