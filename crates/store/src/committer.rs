//! The one thread that writes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::memory::Memory;
use crate::watch::{Event, EventKind};
use crate::write::{Expect, Op, Render};
use crate::{Entry, Revision, Write, WriteError};

/// So many writes may wait; further writers wait to be let in.
pub(crate) const QUEUE: usize = 1024;
/// One commit takes at most so many writes, so that none waits long.
const BATCH_WRITES: usize = 256;

type Answer = oneshot::Sender<Result<Arc<Entry>, WriteError>>;

#[derive(Debug)]
pub(crate) enum Request {
    Write { write: Write, answer: Answer },
    Close { answer: oneshot::Sender<()> },
}

pub(crate) struct Committer {
    memory: Arc<Memory>,
    requests: mpsc::Receiver<Request>,
}

impl Committer {
    pub(crate) fn spawn(memory: Arc<Memory>, requests: mpsc::Receiver<Request>) {
        let committer = Self { memory, requests };
        thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || committer.run())
            .expect("a thread can be started");
    }

    fn run(mut self) {
        let mut closing = None;
        while closing.is_none() {
            let Some(first) = self.requests.blocking_recv() else { break };
            let mut batch = Batch::new(&self.memory);
            closing = batch.take(first);
            while closing.is_none() && batch.events.len() < BATCH_WRITES {
                let Ok(request) = self.requests.try_recv() else { break };
                closing = batch.take(request);
            }
            batch.finish(&self.memory);
        }
        self.requests.close();
        self.memory.close();
        if let Some(answer) = closing {
            // Nobody may be waiting any more.
            let _ = answer.send(());
        }
    }
}

/// Writes that are committed together, in order.
struct Batch<'a> {
    memory: &'a Memory,
    newest: Revision,
    events: Vec<Event>,
    answers: Vec<Answer>,
    /// Keys that this batch changes, by their new state.
    staged: HashMap<Arc<str>, Option<Arc<Entry>>>,
}

impl<'a> Batch<'a> {
    fn new(memory: &'a Memory) -> Self {
        Self { memory, newest: memory.progress(), events: Vec::new(), answers: Vec::new(), staged: HashMap::new() }
    }

    /// Stages a write or answers why not; returns whom to tell when the store shall close.
    fn take(&mut self, request: Request) -> Option<oneshot::Sender<()>> {
        match request {
            Request::Close { answer } => return Some(answer),
            Request::Write { write, answer } => match self.stage(write) {
                Ok(()) => self.answers.push(answer),
                Err(error) => refuse(answer, error),
            },
        }
        None
    }

    fn stage(&mut self, write: Write) -> Result<(), WriteError> {
        let Write { key, expect, op } = write;
        let previous = match self.staged.get(key.as_str()) {
            Some(staged) => staged.clone(),
            None => self.memory.get(&key),
        };
        check(expect, &op, previous.as_ref())?;
        let revision = self.newest.next();
        let (kind, render) = match op {
            Op::Put(render) => (EventKind::Put, render),
            Op::Delete(render) => (EventKind::Delete, render),
        };
        let bytes = rendered(render, revision)?;
        let key = previous.as_ref().map_or_else(|| Arc::from(key), |entry| Arc::clone(&entry.key));
        let created = previous.as_ref().map_or(revision, |entry| entry.created_revision);
        let entry = Arc::new(Entry::new(Arc::clone(&key), created, revision, bytes));
        self.staged.insert(key, (kind == EventKind::Put).then(|| Arc::clone(&entry)));
        self.events.push(Event { revision, kind, entry, previous });
        self.newest = revision;
        Ok(())
    }

    /// Readers and watchers see the batch, then its writers are answered.
    fn finish(self, memory: &Memory) {
        let entries: Vec<_> = self.events.iter().map(|event| Arc::clone(&event.entry)).collect();
        memory.publish(self.events);
        for (answer, entry) in self.answers.into_iter().zip(entries) {
            // A writer that stopped waiting does not undo its write.
            let _ = answer.send(Ok(entry));
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

fn refuse(answer: Answer, error: WriteError) {
    // A writer that stopped waiting needs no answer.
    let _ = answer.send(Err(error));
}
