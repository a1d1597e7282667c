//! Watching keys: everything after a revision, in order, without gaps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use crate::memory::Memory;
use crate::{Entry, Revision, WatchError};

/// A watcher that has so many events waiting is dropped: it lists again.
pub(crate) const BACKLOG: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One write, as watchers see it.
#[derive(Debug, PartialEq)]
pub struct Event {
    pub revision: Revision,
    pub kind: EventKind,
    /// The new state; the last one for a deletion.
    pub entry: Arc<Entry>,
    /// The state before, if there was one.
    pub previous: Option<Arc<Entry>>,
}

impl Event {
    pub fn key(&self) -> &str {
        &self.entry.key
    }

    /// What this event keeps in memory; its `previous` counted in the event that made it.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.entry.weight()
    }
}

/// The events of one scope. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    id: u64,
    scope: String,
    events: mpsc::Receiver<Arc<Event>>,
    slow: Arc<AtomicBool>,
    memory: Arc<Memory>,
}

impl Watch {
    /// The next event; cancel safe. After an error there is nothing more to come.
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchError> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            None => Err(self.end()),
        }
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, WatchError> {
        match self.events.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(self.end()),
        }
    }

    /// The newest revision up to which this watch has handed out everything; none while events wait.
    /// This is what a bookmark may say.
    pub fn progress(&self) -> Option<Revision> {
        // Read before the queue is looked at: what was published by then has been queued by then.
        let newest = self.memory.progress();
        self.events.is_empty().then_some(newest)
    }

    fn end(&self) -> WatchError {
        if self.slow.load(Ordering::Acquire) { WatchError::Slow { backlog: BACKLOG } } else { WatchError::Closed }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.memory.unwatch(&self.scope, self.id);
    }
}

/// Who watches what. A scope is a whole key or a prefix that ends with `/`, so an event finds its watchers by a few
/// look-ups however many there are.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    by_scope: HashMap<String, Vec<Watcher>>,
    last_id: u64,
    closed: bool,
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    events: mpsc::Sender<Arc<Event>>,
    slow: Arc<AtomicBool>,
}

impl Watchers {
    /// Starts a watch whose queue holds `replay` already.
    pub(crate) fn add(&mut self, scope: &str, replay: Vec<Arc<Event>>, memory: Arc<Memory>) -> Watch {
        let (sender, events) = mpsc::channel(BACKLOG.max(replay.len()));
        for event in replay {
            sender.try_send(event).expect("the queue is made as long as the replay");
        }
        self.last_id += 1;
        let slow = Arc::new(AtomicBool::new(false));
        let id = self.last_id;
        if !self.closed {
            let watcher = Watcher { id, events: sender, slow: Arc::clone(&slow) };
            self.by_scope.entry(scope.to_owned()).or_default().push(watcher);
        }
        Watch { id, scope: scope.to_owned(), events, slow, memory }
    }

    pub(crate) fn remove(&mut self, scope: &str, id: u64) {
        if let Some(watchers) = self.by_scope.get_mut(scope) {
            watchers.retain(|watcher| watcher.id != id);
            if watchers.is_empty() {
                self.by_scope.remove(scope);
            }
        }
    }

    pub(crate) fn tell(&mut self, event: &Arc<Event>) {
        let key = event.key();
        for scope in prefixes(key).chain([key]) {
            if let Some(watchers) = self.by_scope.get_mut(scope) {
                watchers.retain(|watcher| watcher.tell(event));
            }
        }
    }

    /// Ends every watch once it has handed out what it has.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.by_scope.clear();
    }
}

impl Watcher {
    /// Whether the watcher goes on.
    fn tell(&self, event: &Arc<Event>) -> bool {
        match self.events.try_send(Arc::clone(event)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.slow.store(true, Ordering::Release);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// `/a/b` has `/` and `/a/`.
fn prefixes(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('/').map(move |(at, _)| &key[..=at])
}
