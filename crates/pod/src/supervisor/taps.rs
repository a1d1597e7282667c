//! Attached readers of a container's output: each gets what is written from now on, beside the log.
//!
//! A reader that is slow holds the container up, as a slow terminal would, but not for long: after [`MAX_STALL_MS`] without
//! taking anything it is let go, and the container runs on. The loop itself never waits for a reader.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// A reader that takes nothing for this long is let go.
pub(super) const MAX_STALL_MS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Tap {
    pub(super) container: usize,
    /// The agent's connection and call, which hear of the container's end.
    pub(super) connection: u64,
    pub(super) call: u64,
    /// For stdout and stderr.
    pub(super) sinks: [Option<Sink>; 2],
    /// The run that was tapped is over: what is left is handed out, nothing is added.
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) struct Sink {
    pub(super) pipe: OwnedFd,
    /// What did not fit; while there is something here, nothing more is read from the container.
    backlog: Vec<u8>,
    stalled_ms: Option<u64>,
}

impl Tap {
    pub(super) fn push(&mut self, which: usize, bytes: &[u8], now_ms: u64) {
        if let Some(sink) = &mut self.sinks[which] {
            sink.backlog.extend_from_slice(bytes);
            self.flush(now_ms);
        }
    }

    /// Hands out what fits.
    pub(super) fn flush(&mut self, now_ms: u64) {
        for slot in &mut self.sinks {
            if slot.as_mut().is_some_and(|sink| !sink.flush(now_ms)) {
                *slot = None;
            }
        }
    }

    pub(super) fn is_full(&self, which: usize) -> bool {
        !self.ended && self.sinks[which].as_ref().is_some_and(Sink::has_backlog)
    }

    /// Nothing will come out of this tap any more.
    pub(super) fn is_dry(&self) -> bool {
        self.ended && !self.sinks.iter().flatten().any(Sink::has_backlog)
    }

    /// When its patience with a slow reader ends.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        self.sinks.iter().flatten().filter_map(|sink| sink.stalled_ms).min().map(|since| since + MAX_STALL_MS)
    }
}

impl Sink {
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self { pipe, backlog: Vec::new(), stalled_ms: None }
    }

    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether there is still a reader.
    fn flush(&mut self, now_ms: u64) -> bool {
        while !self.backlog.is_empty() {
            match rustix::io::write(&self.pipe, &self.backlog) {
                Ok(length) => {
                    self.backlog.drain(..length);
                    self.stalled_ms = None;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.stalled_ms.get_or_insert(now_ms);
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel;

    fn tap() -> (OwnedFd, Tap) {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        kernel::set_nonblocking(&read).expect("our own pipe");
        kernel::set_nonblocking(&write).expect("our own pipe");
        let sinks = [Some(Sink::new(write)), None];
        (read, Tap { container: 0, connection: 1, call: 1, sinks, ended: false })
    }

    fn take(from: &OwnedFd) -> usize {
        let mut buffer = vec![0; 1 << 20];
        let mut taken = 0;
        while let Ok(length @ 1..) = rustix::io::read(from, &mut buffer) {
            taken += length;
        }
        taken
    }

    #[test]
    fn a_slow_reader_is_waited_for_until_its_time_is_up() {
        let (read, mut tap) = tap();
        tap.push(0, &[7; 300_000], 100);
        assert!(tap.is_full(0), "a pipe holds less than that");
        assert_eq!(tap.deadline_ms(), Some(100 + MAX_STALL_MS));
        let mut taken = 0;
        while tap.is_full(0) {
            taken += take(&read);
            tap.flush(200);
        }
        assert_eq!(taken + take(&read), 300_000);
        assert_eq!(tap.deadline_ms(), None);
    }

    #[test]
    fn what_is_left_at_the_end_is_still_handed_out() {
        let (read, mut tap) = tap();
        tap.push(0, &[7; 300_000], 0);
        tap.ended = true;
        assert!(!tap.is_full(0) && !tap.is_dry());
        let mut taken = 0;
        while !tap.is_dry() {
            taken += take(&read);
            tap.flush(0);
        }
        assert_eq!(taken + take(&read), 300_000);
    }

    #[test]
    fn a_reader_that_left_holds_nobody_up() {
        let (read, mut tap) = tap();
        drop(read);
        tap.push(0, b"hello", 0);
        assert!(tap.sinks[0].is_none() && !tap.is_full(0));
    }
}
