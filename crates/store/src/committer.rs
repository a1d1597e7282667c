//! The one thread that writes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::journal::{AppendError, Disk, Journal};
use crate::memory::Memory;
use crate::store::Failure;
use crate::watch::{Event, EventKind};
use crate::write::{Expect, Op, Render};
use crate::{Entry, Revision, Write, WriteError};

/// So many writes may wait; further writers wait to be let in.
pub(crate) const QUEUE: usize = 1024;
/// One commit takes at most so many writes, so that none waits long.
const BATCH_WRITES: usize = 256;
/// And ends with the write that takes it beyond this.
const BATCH_BYTES: usize = 4 << 20;

/// The new state of each key, or the place of the write that did not hold, and why.
pub(crate) type Outcome = Result<Vec<Arc<Entry>>, (usize, WriteError)>;
type Answer = oneshot::Sender<Outcome>;

#[derive(Debug)]
pub(crate) enum Request {
    /// All of these or none.
    Write {
        writes: Vec<Write>,
        answer: Answer,
    },
    Close,
}

pub(crate) struct Committer<D: Disk> {
    memory: Arc<Memory>,
    requests: mpsc::Receiver<Request>,
    /// None: nothing outlives the store.
    journal: Option<Journal<D>>,
    failure: Failure,
}

impl<D: Disk> Committer<D> {
    pub(crate) fn spawn(
        memory: Arc<Memory>,
        requests: mpsc::Receiver<Request>,
        journal: Option<Journal<D>>,
        failure: Failure,
    ) {
        let committer = Self { memory, requests, journal, failure };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || committer.run())
            .expect("a thread can be started");
    }

    fn run(mut self) {
        self.commit_until_closed();
        self.memory.close();
        if let Some(journal) = self.journal {
            journal.close(self.memory.live_bytes());
        }
        // Last: who closes the store waits for the end of this queue. Writes that are still in it are refused by it.
        drop(self.requests);
    }

    /// Returns when it is told to, when all handles are gone, and when the log is broken.
    fn commit_until_closed(&mut self) {
        let memory = Arc::clone(&self.memory);
        let mut open = true;
        while open {
            let Some(first) = self.requests.blocking_recv() else { return };
            let mut batch = Batch::new(&memory);
            open = batch.take(first);
            while open && batch.has_room() {
                let Ok(request) = self.requests.try_recv() else { break };
                open = batch.take(request);
            }
            match self.append(&batch.events) {
                Ok(()) => batch.finish(),
                Err(AppendError::Full) => batch.refuse(&WriteError::Full),
                Err(AppendError::Broken(error)) => {
                    tracing::error!(%error, "The store's log is broken: no more writes until the next start");
                    let cause = self.failure.get_or_init(|| error.to_string().into());
                    batch.refuse(&WriteError::Broken { cause: Arc::clone(cause) });
                    open = false;
                }
            }
        }
    }

    fn append(&mut self, events: &[Event]) -> Result<(), AppendError> {
        match &mut self.journal {
            Some(journal) if !events.is_empty() => journal.append(events, self.memory.live_bytes()),
            _ => Ok(()),
        }
    }
}

/// Writes that are committed together, in order.
struct Batch<'a> {
    memory: &'a Memory,
    newest: Revision,
    events: Vec<Event>,
    /// Also refusals wait for the commit: they may rest on what it stores.
    answers: Vec<(Answer, Outcome)>,
    bytes: usize,
    /// Keys that this batch changes, by their new state.
    staged: HashMap<Arc<str>, Option<Arc<Entry>>>,
}

impl<'a> Batch<'a> {
    fn new(memory: &'a Memory) -> Self {
        Self {
            memory,
            newest: memory.progress(),
            events: Vec::new(),
            answers: Vec::new(),
            bytes: 0,
            staged: HashMap::new(),
        }
    }

    fn has_room(&self) -> bool {
        self.events.len() < BATCH_WRITES && self.bytes < BATCH_BYTES
    }

    /// Stages what one writer wants; false when the store shall close.
    fn take(&mut self, request: Request) -> bool {
        match request {
            Request::Close => false,
            Request::Write { writes, answer } => {
                let result = self.stage(writes);
                self.answers.push((answer, result));
                true
            }
        }
    }

    fn stage(&mut self, writes: Vec<Write>) -> Outcome {
        let mut events = Vec::with_capacity(writes.len());
        let mut revision = self.newest;
        for (index, write) in writes.into_iter().enumerate() {
            revision = revision.next();
            events.push(self.event(write, revision).map_err(|error| (index, error))?);
        }
        self.newest = revision;
        let entries = events.iter().map(|event| Arc::clone(&event.entry)).collect();
        for event in events {
            let state = (event.kind == EventKind::Put).then(|| Arc::clone(&event.entry));
            self.staged.insert(Arc::clone(&event.entry.key), state);
            self.bytes += event.entry.weight();
            self.events.push(event);
        }
        Ok(entries)
    }

    /// What a write does at this revision, if what it expects holds.
    fn event(&self, write: Write, revision: Revision) -> Result<Event, WriteError> {
        let Write { key, expect, op } = write;
        let previous = match self.staged.get(key.as_str()) {
            Some(staged) => staged.clone(),
            None => self.memory.get(&key),
        };
        check(expect, &op, previous.as_ref())?;
        let (kind, render) = match op {
            Op::Put(render) => (EventKind::Put, render),
            Op::Delete(render) => (EventKind::Delete, render),
        };
        let bytes = rendered(render, revision)?;
        let key = previous.as_ref().map_or_else(|| Arc::from(key), |entry| Arc::clone(&entry.key));
        let created = previous.as_ref().map_or(revision, |entry| entry.created_revision);
        let entry = Arc::new(Entry::new(key, created, revision, bytes));
        Ok(Event { revision, kind, entry, previous })
    }

    /// Readers and watchers see the batch, then its writers are answered.
    fn finish(self) {
        self.memory.publish(self.events);
        for (answer, result) in self.answers {
            // A writer that stopped waiting does not undo its write.
            let _ = answer.send(result);
        }
    }

    /// Nothing of the batch was stored, which makes every other answer void.
    fn refuse(self, error: &WriteError) {
        for (answer, _) in self.answers {
            let _ = answer.send(Err((0, error.clone())));
        }
    }
}

fn check(expect: Expect, op: &Op, previous: Option<&Arc<Entry>>) -> Result<(), WriteError> {
    match (expect, previous) {
        (Expect::Absent, Some(entry)) => Err(WriteError::Exists { entry: Arc::clone(entry) }),
        (Expect::Revision(_), None) => Err(WriteError::Missing),
        (Expect::Revision(revision), Some(entry)) if entry.revision != revision => {
            Err(WriteError::Conflict { current: Arc::clone(entry) })
        }
        (Expect::Any | Expect::Absent, None) if matches!(op, Op::Delete(_)) => Err(WriteError::Missing),
        _ => Ok(()),
    }
}

fn rendered(render: Render, revision: Revision) -> Result<Bytes, WriteError> {
    let bytes = catch_unwind(AssertUnwindSafe(|| render(revision))).map_err(|_| WriteError::Render)?;
    // A serialiser's buffer has room to grow that would stay with the entry for its whole life.
    Ok(Bytes::copy_from_slice(&bytes))
}
