//! The thread that compares answers, and the books that it keeps.
//!
//! Workers hand finished trials over and go on; where more wait than the queue holds, further ones are dropped and counted. A book
//! belongs to a Rollout and its two versions, and is begun anew when the terms of the comparison change.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_compare::{Answer, Book, Difference, Kind, Report, Sample, compare};
use sluice_route::{Comparison, ObjectKey};

use super::limits;

/// A cheap handle for workers; the thread ends with the last one.
#[derive(Clone)]
pub(crate) struct Comparer {
    queue: SyncSender<Job>,
    books: Arc<Books>,
}

#[derive(Default)]
pub(crate) struct Books {
    open: Mutex<BTreeMap<BookKey, Open>>,
    dropped: AtomicU64,
}

/// Whose answers are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BookKey {
    pub namespace: String,
    pub rollout: String,
    /// `pod-template-hash` of the two versions.
    pub stable: String,
    pub candidate: String,
}

struct Open {
    comparison: Arc<Comparison>,
    book: Book,
    /// Counts up with each entry in any book: who has the smallest was written in least recently.
    written: u64,
}

/// A request with its answers. Without a candidate's answer, that one gave none.
pub(crate) struct Job {
    pub(crate) comparison: Arc<Comparison>,
    pub(crate) endpoint: String,
    pub(crate) request: String,
    pub(crate) stable: Answer,
    pub(crate) candidate: Option<Answer>,
    pub(crate) twin: Option<Answer>,
}

impl Comparer {
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, jobs) = sync_channel(limits::COMPARISONS_WAITING);
        let books = Arc::new(Books::default());
        let shelf = books.clone();
        std::thread::Builder::new().name("gateway-compare".to_owned()).spawn(move || work(&jobs, &shelf))?;
        Ok(Self { queue, books })
    }

    pub(crate) fn take(&self, job: Job) {
        if self.queue.try_send(job).is_err() {
            self.books.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the stable version should be asked twice whatever was drawn. Never waits: who asks is serving a request.
    pub(crate) fn is_learning(&self, comparison: &Comparison) -> bool {
        let Ok(open) = self.books.open.try_lock() else { return false };
        match open.get(&key(comparison)) {
            Some(known) if known.comparison.terms == comparison.terms => known.book.is_learning(),
            _ => Book::new(&comparison.terms).is_learning(),
        }
    }

    pub(crate) fn reports(&self) -> BTreeMap<BookKey, Report> {
        let open = self.books.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(key, open)| (key.clone(), open.book.report())).collect()
    }

    /// Trials that were not compared because too many were waiting.
    pub(crate) fn dropped(&self) -> u64 {
        self.books.dropped.load(Ordering::Relaxed)
    }
}

fn work(jobs: &Receiver<Job>, books: &Books) {
    while let Ok(job) = jobs.recv() {
        let Job { comparison, endpoint, request, stable, candidate, twin } = job;
        // Before the lock: this is what takes its time.
        let found = match &candidate {
            Some(candidate) => compare(&stable, candidate, &comparison.rules),
            None => silence(stable.status),
        };
        let twin = twin.map(|twin| compare(&stable, &twin, &comparison.rules));
        let statuses = (stable.status, candidate.map_or(0, |candidate| candidate.status));
        let sample = Sample { endpoint: &endpoint, request: &request, statuses, found: &found, twin: twin.as_ref() };
        books.note(&comparison, &sample);
    }
}

/// What it comes to when the candidate said nothing.
fn silence(status: u16) -> sluice_compare::Comparison {
    let difference = Difference {
        path: "answer".to_owned(),
        kind: Kind::Missing,
        stable: status.to_string(),
        candidate: String::new(),
    };
    sluice_compare::Comparison { differences: vec![difference], is_partial: false }
}

impl Books {
    fn note(&self, comparison: &Arc<Comparison>, sample: &Sample<'_>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(comparison);
        let latest = open.values().map(|open| open.written).max().unwrap_or(0);
        if !open.contains_key(&key) && open.len() >= limits::BOOKS {
            let oldest = open.iter().min_by_key(|(_, open)| open.written).map(|(key, _)| key.clone());
            oldest.map(|oldest| open.remove(&oldest));
        }
        let begin = || Open { comparison: comparison.clone(), book: Book::new(&comparison.terms), written: 0 };
        let known = open.entry(key).or_insert_with(begin);
        if known.comparison.terms != comparison.terms {
            *known = begin();
        }
        known.written = latest + 1;
        known.book.note(sample);
    }
}

fn key(comparison: &Comparison) -> BookKey {
    let Comparison { rollout: ObjectKey { namespace, name }, stable, candidate, .. } = comparison;
    BookKey {
        namespace: namespace.clone(),
        rollout: name.clone(),
        stable: stable.clone(),
        candidate: candidate.clone(),
    }
}
