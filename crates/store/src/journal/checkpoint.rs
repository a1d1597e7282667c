//! The thread that moves full segments into the redb file, while the committer goes on in the other segment.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Changes;
use super::disk::Disk;
use super::objects::{Checkpoint, Objects};

/// Nothing to move for so long is off-peak: time to compact.
const QUIET: Duration = Duration::from_secs(5);

pub(crate) struct Job {
    pub(crate) changes: Changes,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) live_bytes: usize,
}

pub(crate) enum Failed {
    /// Worth another try.
    Refused(Box<Refused>),
    /// The thread panicked.
    Gone,
}

pub(crate) struct Refused {
    pub(crate) job: Job,
    pub(crate) error: redb::Error,
}

/// At most one job is under way.
pub(crate) struct Checkpointer {
    /// None only while it is dropped.
    jobs: Option<Sender<Job>>,
    results: Receiver<Result<(), Failed>>,
    under_way: bool,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(crate) fn spawn<D: Disk>(objects: Objects<D>) -> Self {
        let (jobs, incoming) = channel();
        let (outgoing, results) = channel();
        let thread = thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(objects, &incoming, &outgoing))
            .expect("a thread can be started");
        Self { jobs: Some(jobs), results, under_way: false, thread: Some(thread) }
    }

    pub(crate) fn submit(&mut self, job: Job) {
        debug_assert!(!self.under_way, "the last job was waited for");
        self.under_way = true;
        if let Some(jobs) = &self.jobs {
            // That the thread is gone shows when its answer is waited for.
            let _ = jobs.send(job);
        }
    }

    /// Returns once no job is under way.
    pub(crate) fn wait(&mut self) -> Result<(), Failed> {
        if !std::mem::take(&mut self.under_way) {
            return Ok(());
        }
        self.results.recv().unwrap_or(Err(Failed::Gone))
    }
}

/// Returns once the redb file is closed.
impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn run<D: Disk>(mut objects: Objects<D>, jobs: &Receiver<Job>, results: &Sender<Result<(), Failed>>) {
    // What to compact for once it is quiet; after that the thread sleeps until the next job.
    let mut stirred: Option<usize> = None;
    loop {
        let job = match stirred {
            Some(_) => jobs.recv_timeout(QUIET),
            None => jobs.recv().map_err(RecvTimeoutError::from),
        };
        match (job, stirred.take()) {
            (Ok(job), _) => {
                stirred = Some(job.live_bytes);
                let done = objects.checkpoint(&job.changes, job.checkpoint);
                let done = done.map_err(|error| Failed::Refused(Box::new(Refused { job, error })));
                if results.send(done).is_err() {
                    return;
                }
            }
            (Err(RecvTimeoutError::Timeout), Some(live_bytes)) => {
                if let Err(error) = objects.compact_if_wasteful(live_bytes) {
                    tracing::warn!(%error, "The store's file could not be compacted");
                }
            }
            (Err(_), _) => return,
        }
    }
}
