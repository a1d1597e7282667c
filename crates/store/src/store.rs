//! The handle.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use crate::committer::{Committer, QUEUE, Request};
use crate::journal::{Directory, Disk, Journal, Live, Recovered, SEGMENT_BYTES};
use crate::memory::{Memory, Page};
use crate::{Entry, ListError, OpenError, Revision, Watch, WatchError, Write, WriteError};

/// Cheap to clone. Scopes of lists and watches are a whole key, or a prefix that ends with `/`.
#[derive(Debug, Clone)]
pub struct Store {
    memory: Arc<Memory>,
    queue: mpsc::Sender<Request>,
    /// Why the disk takes nothing more, once that is so.
    failure: Failure,
}

/// Set by the committer before it leaves.
pub(crate) type Failure = Arc<OnceLock<Arc<str>>>;

impl Store {
    /// Opens the store in this directory, or makes one. Blocks while it reads everything into memory.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_on(&Directory(dir.to_owned()), SEGMENT_BYTES)
    }

    pub(crate) fn open_on<D: Disk>(disk: &D, segment_bytes: u64) -> Result<Self, OpenError> {
        let (journal, Recovered { live, newest }) = Journal::open(disk, segment_bytes)?;
        Ok(Self::start(live, newest, Some(journal)))
    }

    /// A store that forgets everything when it is dropped.
    pub fn in_memory() -> Self {
        Self::start::<Directory>(Live::new(), Revision::FIRST, None)
    }

    fn start<D: Disk>(live: Live, newest: Revision, journal: Option<Journal<D>>) -> Self {
        let memory = Arc::new(Memory::new(live, newest));
        let (queue, requests) = mpsc::channel(QUEUE);
        let failure = Failure::default();
        Committer::spawn(Arc::clone(&memory), requests, journal, Arc::clone(&failure));
        Self { memory, queue, failure }
    }

    /// Durable, and seen by readers and watchers, once it returns. Waits while the queue is full.
    pub async fn commit(&self, write: Write) -> Result<Arc<Entry>, WriteError> {
        let mut entries = self.commit_all(vec![write]).await.map_err(|(_, error)| error)?;
        Ok(entries.pop().expect("one write makes one entry"))
    }

    /// Commits all of these, of different keys, or none; a refusal names the place of the write that did not hold.
    pub async fn commit_all(&self, writes: Vec<Write>) -> Result<Vec<Arc<Entry>>, (usize, WriteError)> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Write { writes, answer };
        self.queue.send(request).await.map_err(|_| (0, self.ended()))?;
        answered.await.unwrap_or_else(|_| Err((0, self.ended())))
    }

    /// Why nobody commits any more.
    fn ended(&self) -> WriteError {
        match self.failure.get() {
            Some(cause) => WriteError::Broken { cause: Arc::clone(cause) },
            None => WriteError::Closed,
        }
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
        // An error means that the committer is on its way out already.
        let _ = self.queue.send(Request::Close).await;
        self.queue.closed().await;
    }
}
