//! How fast a client sends its request's body, while that is what everybody waits for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};

use crate::plane::limits;
use crate::plane::patience::ticks;

/// Looked at with each tick. Time in which nobody wants to read does not count.
#[derive(Default)]
pub(crate) struct Pace {
    bytes: Cell<u64>,
    /// Ticks in which the client was waited for, altogether and since its last bytes.
    waited: Cell<u32>,
    silent: Cell<u32>,
    reader: RefCell<Option<Waker>>,
    slow: Cell<bool>,
    /// A conversation, or one whose answer has begun: it may take its time.
    free: Cell<bool>,
}

impl Pace {
    pub(crate) fn new() -> Rc<Self> {
        Rc::default()
    }

    pub(crate) fn look(&self) {
        let waiting = self.reader.borrow().is_some();
        if !waiting || self.free.get() {
            return;
        }
        self.waited.set(self.waited.get() + 1);
        self.silent.set(self.silent.get() + 1);
        let due = u64::from(self.waited.get().saturating_sub(ticks(limits::BODY_GRACE))) * limits::BODY_PACE;
        if self.bytes.get() < due || self.silent.get() > ticks(limits::BODY_SILENCE) {
            self.slow.set(true);
            self.reader.take().into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn is_slow(&self) -> bool {
        self.slow.get()
    }

    /// The client is waited for right now.
    pub(crate) fn is_behind(&self) -> bool {
        self.reader.borrow().is_some()
    }

    pub(super) fn waits(&self, cx: &Context<'_>) {
        *self.reader.borrow_mut() = Some(cx.waker().clone());
    }

    pub(super) fn came(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        self.silent.set(0);
        *self.reader.borrow_mut() = None;
    }

    pub(crate) fn set_free(&self, free: bool) {
        self.free.set(free);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow_after(bytes_per_tick: usize, ticks: u32, free: bool) -> Option<u32> {
        let pace = Pace::new();
        pace.set_free(free);
        let cx = Context::from_waker(Waker::noop());
        (0..ticks).find(|_| {
            if bytes_per_tick > 0 {
                pace.came(bytes_per_tick);
            }
            pace.waits(&cx);
            pace.look();
            pace.is_slow()
        })
    }

    #[test]
    fn who_trickles_is_slow_and_who_streams_is_not() {
        let pace = limits::BODY_PACE as usize;
        assert_eq!(slow_after(pace, 10_000, false), None);
        assert_eq!(slow_after(1, 10_000, false), Some(ticks(limits::BODY_GRACE)));
        assert_eq!(slow_after(0, 10_000, false), Some(ticks(limits::BODY_GRACE)));
        assert_eq!(slow_after(0, 10_000, true), None);
    }

    #[test]
    fn a_fast_beginning_does_not_pay_for_silence() {
        let pace = Pace::new();
        let cx = Context::from_waker(Waker::noop());
        pace.came(1 << 30);
        for tick in 0..=ticks(limits::BODY_SILENCE) {
            assert!(!pace.is_slow(), "{tick}");
            pace.waits(&cx);
            pace.look();
        }
        assert!(pace.is_slow());
    }

    #[test]
    fn a_backend_that_takes_its_time_is_not_the_clients() {
        let pace = Pace::new();
        for _ in 0..10_000 {
            pace.look();
        }
        assert!(!pace.is_slow() && !pace.is_behind());
    }
}
