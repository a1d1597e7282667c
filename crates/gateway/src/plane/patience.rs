//! How long clients are waited for. Once in a while, at each tick of its worker's clock, every connection is looked at: what it waits
//! for and since when. So a request sets no timer and asks nobody for the time.

use std::cell::RefCell;
use std::rc::{self, Rc};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Context;
use std::time::Duration;

use futures::task::AtomicWaker;

use super::body::Pace;
use super::framing::Fault;
use super::limits;

/// How often connections are looked at. All limits are counted in it: where it is shorter, in tests, everybody has less time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tick(pub(crate) Duration);

impl Default for Tick {
    fn default() -> Self {
        Self(limits::TICK)
    }
}

/// How many ticks of the usual length a limit lasts; a part of one more has passed already when the counting begins.
pub(crate) const fn ticks(limit: Duration) -> u32 {
    (limit.as_millis() / limits::TICK.as_millis()) as u32
}

/// The connections of a worker, and its clock.
#[derive(Default)]
pub(crate) struct Patience {
    now: Arc<AtomicU32>,
    watches: RefCell<Vec<Weak<Watch>>>,
    bodies: RefCell<Vec<rc::Weak<Pace>>>,
}

impl Patience {
    pub(crate) fn watch(&self) -> Arc<Watch> {
        let watch = Arc::new(Watch::new(self.now.clone()));
        self.watches.borrow_mut().push(Arc::downgrade(&watch));
        watch
    }

    /// For a body that somebody waits for.
    pub(crate) fn pace(&self) -> Rc<Pace> {
        let pace = Pace::new();
        self.bodies.borrow_mut().push(Rc::downgrade(&pace));
        pace
    }

    /// Time has passed.
    pub(crate) fn tick(&self) {
        let now = self.now.load(Ordering::Relaxed).wrapping_add(1);
        self.now.store(now, Ordering::Relaxed);
        self.watches.borrow_mut().retain(|watch| {
            let watch = watch.upgrade();
            watch.inspect(|watch| watch.look(now)).is_some()
        });
        self.bodies.borrow_mut().retain(|pace| pace.upgrade().inspect(|pace| pace.look()).is_some());
    }
}

/// What a client's connection is waiting for while no request is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wait {
    /// The rest of a request's head, or the first one at all.
    Head,
    /// Another request.
    Request,
    /// Nothing that it owes us.
    Nothing,
}

/// What the time has brought. Each includes the former.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Late {
    No,
    /// No request came for long: the connection is to end in peace.
    Idle,
    /// It did not, or the rest of a head is missing.
    Reading,
    /// The client takes nothing of what it is sent.
    Writing,
}

/// One connection: written by whoever serves it, looked at by the clock. Both are on one thread; atomics, because hyper wants to be
/// able to send what it reads from.
pub(crate) struct Watch {
    clock: Arc<AtomicU32>,
    /// Requests under way.
    busy: AtomicU32,
    /// Its listener is gone.
    leaving: AtomicBool,
    wait: AtomicU8,
    since: AtomicU32,
    /// A write waits since `stuck_since`.
    stuck: AtomicBool,
    stuck_since: AtomicU32,
    late: AtomicU8,
    /// Nothing was asked for a while.
    silent: AtomicBool,
    /// The connection ended with bytes on their way that nobody reads.
    unread: AtomicBool,
    fate: AtomicU8,
    fault: Mutex<Option<Fault>>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

/// What becomes of a connection whose client asked for another protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fate {
    Undecided,
    Same,
    Tunnel,
}

impl Watch {
    fn new(clock: Arc<AtomicU32>) -> Self {
        let now = clock.load(Ordering::Relaxed);
        Self {
            clock,
            busy: AtomicU32::new(0),
            leaving: AtomicBool::new(false),
            wait: AtomicU8::new(Wait::Head as u8),
            since: AtomicU32::new(now),
            stuck: AtomicBool::new(false),
            stuck_since: AtomicU32::new(now),
            late: AtomicU8::new(Late::No as u8),
            silent: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            fate: AtomicU8::new(Fate::Undecided as u8),
            fault: Mutex::new(None),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }
    }

    fn now(&self) -> u32 {
        self.clock.load(Ordering::Relaxed)
    }

    fn look(&self, now: u32) {
        let for_long = |since: &AtomicU32, limit| now.wrapping_sub(since.load(Ordering::Relaxed)) > ticks(limit);
        if self.stuck.load(Ordering::Relaxed) && for_long(&self.stuck_since, limits::STALLED_WRITE) {
            self.is_late(Late::Writing);
        }
        if self.busy.load(Ordering::Relaxed) > 0 {
            return;
        }
        if self.leaving.load(Ordering::Relaxed) && for_long(&self.since, limits::LAST_WORD) {
            self.is_late(Late::Idle);
        }
        let wait = self.wait.load(Ordering::Relaxed);
        if wait == Wait::Head as u8 && for_long(&self.since, limits::HEAD_READ) {
            self.is_late(Late::Reading);
        }
        let silent = wait == Wait::Request as u8 && for_long(&self.since, limits::SILENCE);
        if silent && !self.silent.swap(true, Ordering::Relaxed) {
            self.reader.wake();
        }
        if wait == Wait::Request as u8 && for_long(&self.since, limits::IDLE) {
            self.is_late(Late::Idle);
            if for_long(&self.since, limits::IDLE + limits::HEAD_READ) {
                self.is_late(Late::Reading);
            }
        }
    }

    fn is_late(&self, late: Late) {
        if self.late.fetch_max(late as u8, Ordering::Relaxed) < late as u8 {
            self.reader.wake();
            self.writer.wake();
        }
    }

    pub(crate) fn late(&self) -> Late {
        const ALL: [Late; 4] = [Late::No, Late::Idle, Late::Reading, Late::Writing];
        ALL[usize::from(self.late.load(Ordering::Relaxed))]
    }

    /// Nothing was asked for a while, and nothing is on its way.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
            && self.busy.load(Ordering::Relaxed) == 0
            && !self.stuck.load(Ordering::Relaxed)
    }

    /// From here on the client has little time for another request.
    pub(crate) fn leave(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// There is nothing to read, and this is waited for.
    pub(crate) fn waits(&self, wait: Wait, cx: &Context<'_>) {
        self.reader.register(cx.waker());
        if self.wait.swap(wait as u8, Ordering::Relaxed) != wait as u8 {
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// A write waits.
    pub(crate) fn is_stuck(&self, cx: &Context<'_>) {
        self.writer.register(cx.waker());
        if !self.stuck.swap(true, Ordering::Relaxed) {
            self.stuck_since.store(self.now(), Ordering::Relaxed);
        }
    }

    pub(crate) fn gets_on(&self) {
        self.stuck.store(false, Ordering::Relaxed);
    }

    /// A request is under way as long as this lives.
    pub(crate) fn enter(self: &Arc<Self>) -> UnderWay {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.silent.store(false, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    pub(crate) fn refuse(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(fault);
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn decide(&self, fate: Fate) {
        self.fate.store(fate as u8, Ordering::Relaxed);
        self.reader.wake();
    }

    /// What was decided since this was asked last.
    pub(crate) fn fate(&self) -> Fate {
        const ALL: [Fate; 3] = [Fate::Undecided, Fate::Same, Fate::Tunnel];
        let fate = ALL[usize::from(self.fate.load(Ordering::Relaxed))];
        if fate != Fate::Undecided {
            self.fate.store(Fate::Undecided as u8, Ordering::Relaxed);
        }
        fate
    }

    pub(crate) fn leaves_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(crate) fn left_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }
}

/// A request, from its head to the end of its answer.
pub(crate) struct UnderWay(Arc<Watch>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.since.store(self.0.now(), Ordering::Relaxed);
        }
    }
}
