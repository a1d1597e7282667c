//! What readers see: every live object, and the newest events.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::journal::Live;
use crate::watch::{Event, EventKind, Watch, Watchers};
use crate::{Entry, ListError, Revision, WatchError};

/// How many events are remembered for watches that come back and lists of the past.
pub(crate) const WINDOW_EVENTS: usize = 16_384;
/// How much they may weigh together.
pub(crate) const WINDOW_BYTES: usize = 16 << 20;

/// A list, or a part of one.
#[derive(Debug, PartialEq)]
pub struct Page {
    pub entries: Vec<Arc<Entry>>,
    /// The state that the list shows.
    pub revision: Revision,
    /// Whether keys follow after these.
    pub more: bool,
    /// How many.
    pub remaining: usize,
}

#[derive(Debug)]
pub(crate) struct Memory {
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    live: Live,
    live_bytes: usize,
    newest: Revision,
    /// Everything up to here is forgotten: the past begins after it.
    forgotten: Revision,
    window: VecDeque<Arc<Event>>,
    window_bytes: usize,
    watchers: Watchers,
}

impl Memory {
    pub(crate) fn new(live: Live, newest: Revision) -> Self {
        let live_bytes = live.values().map(|entry| entry.weight()).sum();
        let state = State {
            live,
            live_bytes,
            newest,
            forgotten: newest,
            window: VecDeque::new(),
            window_bytes: 0,
            watchers: Watchers::default(),
        };
        Self { state: RwLock::new(state) }
    }

    pub(crate) fn progress(&self) -> Revision {
        self.read().newest
    }

    pub(crate) fn live_bytes(&self) -> usize {
        self.read().live_bytes
    }

    pub(crate) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.read().live.get(key).cloned()
    }

    pub(crate) fn list(
        &self,
        scope: &str,
        start_after: Option<&str>,
        limit: Option<usize>,
        at: Option<Revision>,
    ) -> Result<Page, ListError> {
        let state = self.read();
        let at = at.unwrap_or(state.newest);
        state.check_remembered(at)?;
        let limit = limit.unwrap_or(usize::MAX);
        if at == state.newest {
            let mut live = state.range(scope, start_after).map(|(_, entry)| entry);
            return Ok(page(&mut live, limit, at));
        }
        let past = state.past(scope, start_after, at);
        Ok(page(&mut past.values(), limit, at))
    }

    pub(crate) fn watch(self: &Arc<Self>, scope: &str, after: Revision) -> Result<Watch, WatchError> {
        let mut state = self.write();
        if after < state.forgotten {
            return Err(WatchError::Compacted { oldest: state.forgotten });
        }
        let replay = state.after(after).filter(|event| covers(scope, event.key())).cloned().collect();
        Ok(state.watchers.add(scope, replay, Arc::clone(self)))
    }

    pub(crate) fn unwatch(&self, scope: &str, id: u64) {
        self.write().watchers.remove(scope, id);
    }

    /// Shows committed events to readers and tells the watchers.
    pub(crate) fn publish(&self, events: Vec<Event>) {
        let mut state = self.write();
        for event in events {
            state.publish(Arc::new(event));
        }
    }

    /// Ends every watch.
    pub(crate) fn close(&self) {
        self.write().watchers.close();
    }

    // A reader that panicked left nothing half done; a writer's steps do not panic.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check_remembered(&self, at: Revision) -> Result<(), ListError> {
        if at < self.forgotten {
            return Err(ListError::Compacted { oldest: self.forgotten });
        }
        if at > self.newest {
            return Err(ListError::Future { current: self.newest });
        }
        Ok(())
    }

    /// The live entries of a scope in the order of their keys.
    fn range<'a>(
        &'a self,
        scope: &'a str,
        start_after: Option<&str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Entry>)> {
        let from = match start_after {
            Some(key) if key >= scope => Bound::Excluded(key),
            _ => Bound::Included(scope),
        };
        self.live.range::<str, _>((from, Bound::Unbounded)).take_while(|(key, _)| covers(scope, key))
    }

    /// The entries of a scope as they were: what each event since then has replaced is put back, the oldest last word.
    fn past(&self, scope: &str, start_after: Option<&str>, at: Revision) -> BTreeMap<Arc<str>, Arc<Entry>> {
        let mut entries: BTreeMap<_, _> =
            self.range(scope, start_after).map(|(key, entry)| (Arc::clone(key), Arc::clone(entry))).collect();
        let undone = self
            .after(at)
            .rev()
            .filter(|event| covers(scope, event.key()) && start_after.is_none_or(|start| event.key() > start));
        for event in undone {
            match &event.previous {
                Some(previous) => entries.insert(Arc::clone(&previous.key), Arc::clone(previous)),
                None => entries.remove(event.key()),
            };
        }
        entries
    }

    fn after(&self, revision: Revision) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let start = self.window.partition_point(|event| event.revision <= revision);
        self.window.range(start..)
    }

    fn publish(&mut self, event: Arc<Event>) {
        let replaced = match event.kind {
            EventKind::Put => {
                self.live_bytes += event.entry.weight();
                self.live.insert(Arc::clone(&event.entry.key), Arc::clone(&event.entry))
            }
            EventKind::Delete => self.live.remove(event.key()),
        };
        self.live_bytes -= replaced.map_or(0, |entry| entry.weight());
        self.newest = event.revision;
        self.watchers.tell(&event);
        self.remember(event);
    }

    fn remember(&mut self, event: Arc<Event>) {
        self.window_bytes += event.weight();
        self.window.push_back(event);
        while self.window.len() > WINDOW_EVENTS || self.window_bytes > WINDOW_BYTES {
            let Some(oldest) = self.window.pop_front() else { break };
            self.window_bytes -= oldest.weight();
            self.forgotten = oldest.revision;
        }
    }
}

/// Whether a scope, a whole key or a prefix that ends with `/`, holds a key.
fn covers(scope: &str, key: &str) -> bool {
    if scope.ends_with('/') { key.starts_with(scope) } else { key == scope }
}

fn page(entries: &mut dyn Iterator<Item = &Arc<Entry>>, limit: usize, revision: Revision) -> Page {
    let shown: Vec<_> = entries.take(limit).cloned().collect();
    let remaining = entries.count();
    Page { entries: shown, revision, more: remaining > 0, remaining }
}
