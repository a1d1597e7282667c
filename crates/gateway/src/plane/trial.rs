//! Requests that two versions answer, and the answers as they come in: the stable version's on its way to the client, the
//! candidate's and, where the stable version is asked twice, the second one as copies.
//!
//! Nobody waits for any of this. When all answers of a request are in, or it is clear that no more will come, they go to the
//! comparer; a trial whose first answer broke off, or was not the stable version's, is forgotten.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use sluice_compare::{Answer, Tee};
use sluice_route::Comparison;
use tokio::sync::OwnedSemaphorePermit;

use super::comparer::{Comparer, Job};
use super::limits;

/// A stream of events has no end to be waited for.
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// One request, until all of its answers are in.
pub(crate) struct Trial {
    pub(crate) comparison: Arc<Comparison>,
    pub(crate) endpoint: String,
    pub(crate) request: String,
    answers: RefCell<[Slot; 3]>,
    comparer: Comparer,
    /// Given back with the last answer.
    _room: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its answer goes to the client.
    Stable,
    Candidate,
    /// The stable version, asked again.
    Twin,
}

impl Role {
    /// What a copy says of itself in [`super::head::PARALLEL_RUN`].
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Stable | Self::Twin => "stable",
        }
    }
}

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Unwanted,
    Came(Answer),
    /// Asked without a whole answer in time.
    Silent,
}

/// The place of one answer; dropped without one, it is an answer that nobody gave for reasons of ours.
pub(crate) struct Part {
    trial: Rc<Trial>,
    role: Role,
}

impl Trial {
    /// With the place of the answer that the client gets.
    pub(crate) fn begin(
        comparison: Arc<Comparison>,
        endpoint: String,
        request: String,
        comparer: Comparer,
        room: OwnedSemaphorePermit,
    ) -> Part {
        let trial = Self { comparison, endpoint, request, answers: RefCell::default(), comparer, _room: room };
        Part { trial: Rc::new(trial), role: Role::Stable }
    }
}

/// When the last part is done with.
impl Drop for Trial {
    fn drop(&mut self) {
        let [stable, candidate, twin] = std::mem::take(&mut *self.answers.borrow_mut());
        let candidate = match candidate {
            Slot::Came(answer) => Some(answer),
            Slot::Silent => None,
            Slot::Unwanted => return,
        };
        let Slot::Came(stable) = stable else { return };
        let twin = if let Slot::Came(answer) = twin { Some(answer) } else { None };
        let (endpoint, request) = (std::mem::take(&mut self.endpoint), std::mem::take(&mut self.request));
        self.comparer.take(Job { comparison: self.comparison.clone(), endpoint, request, stable, candidate, twin });
    }
}

impl Part {
    /// The place of another answer to the same request.
    pub(crate) fn also(&self, role: Role) -> Self {
        Self { trial: self.trial.clone(), role }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    /// The hash of the version that is to answer first.
    pub(crate) fn stable(&self) -> &str {
        &self.trial.comparison.stable
    }

    /// It was asked, and gave no whole answer.
    pub(crate) fn silent(self) {
        self.put(Slot::Silent);
    }

    /// Takes in an answer whose head is there; `None` where there is no sense in waiting for its end.
    pub(crate) fn begin(self, status: StatusCode, headers: &HeaderMap) -> Option<Capture> {
        let kind = headers.get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if kind.starts_with(EVENT_STREAM) {
            return None;
        }
        let each = headers.iter();
        let headers = each.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
        Some(Capture { part: self, status: status.as_u16(), headers, tee: Tee::new(limits::COMPARED_KEPT) })
    }

    fn put(&self, slot: Slot) {
        self.trial.answers.borrow_mut()[self.role as usize] = slot;
    }
}

/// An answer while its body passes.
pub(crate) struct Capture {
    part: Part,
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    tee: Tee,
}

impl Capture {
    /// False: it is too long, and need not go on.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        self.tee.push(bytes);
        self.tee.passed() <= limits::COMPARED_BODY
    }

    /// The body is at its end.
    pub(crate) fn finish(self) {
        let Self { part, status, headers, tee } = self;
        part.put(Slot::Came(Answer { status, headers, body: tee.finish() }));
    }
}
