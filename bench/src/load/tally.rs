//! What happened to the requests. Whatever is not counted as something else is counted as failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

/// Failures that are told in words; all are counted.
const TOLD: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    Grpc,
    WebSocket,
}

impl Protocol {
    pub(super) const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Grpc, Self::WebSocket];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::WebSocket => "websocket",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [Counts; Protocol::ALL.len()],
    /// Of clients that ask at a listener that comes and goes: answered, and refused while it was away.
    pub(super) passing: AtomicU64,
    pub(super) absent: AtomicU64,
    /// Requests that cannot be sent twice and met a connection that its backend was closing without a word.
    pub(super) ambiguous: AtomicU64,
    pub(super) unhinted: AtomicU64,
    told: Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Counts {
    well: AtomicU64,
    failed: AtomicU64,
    /// Sent once more because the protocol says that the first was not looked at.
    retried: AtomicU64,
    /// Ended by the gateway at the end of a drain, in order.
    drained: AtomicU64,
    /// Connections that the gateway closed between two requests.
    closed: AtomicU64,
}

impl Tally {
    fn of(&self, protocol: Protocol) -> &Counts {
        &self.counts[protocol as usize]
    }

    pub(super) fn well(&self, protocol: Protocol) {
        self.of(protocol).well.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self, protocol: Protocol) {
        self.of(protocol).retried.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drained(&self, protocol: Protocol) {
        self.of(protocol).drained.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self, protocol: Protocol) {
        self.of(protocol).closed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, protocol: Protocol, why: &str) {
        self.of(protocol).failed.fetch_add(1, Ordering::Relaxed);
        self.tell(format!("{}: {why}", protocol.name()));
    }

    /// What was seen of a failure.
    fn tell(&self, what: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            tracing_line(&what);
            told.push(what);
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.counts
            .iter()
            .map(|counts| counts.well.load(Ordering::Relaxed) + counts.failed.load(Ordering::Relaxed))
            .sum()
    }

    pub(super) fn failures(&self) -> u64 {
        self.counts.iter().map(|counts| counts.failed.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn by_protocol(&self) -> Value {
        let lines = Protocol::ALL.map(|protocol| {
            let counts = self.of(protocol);
            let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
            let requests = get(&counts.well) + get(&counts.failed);
            let line = json!({"requests": requests, "failed": get(&counts.failed), "retried_as_allowed": get(&counts.retried),
                "ended_by_drain": get(&counts.drained), "closed_between_requests": get(&counts.closed)});
            (protocol.name().to_owned(), line)
        });
        Value::Object(lines.into_iter().collect())
    }
}

#[expect(clippy::print_stderr, reason = "what goes wrong is told while it runs")]
fn tracing_line(what: &str) {
    eprintln!("failed: {what}");
}
