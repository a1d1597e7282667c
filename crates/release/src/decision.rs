//! What shall happen next.

use std::fmt;

use jiff::Timestamp;
use sluice_model::rollout::RolloutStatus;

/// The next situation to bring about. Nothing is left to choose while it is applied: the status is written, the
/// workload takes its sizes, the gateways its exposure, and the controller runs the probes and comes back at `wake`.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub status: RolloutStatus,
    /// What became of each command.
    pub outcomes: Vec<Outcome>,
    pub events: Vec<Event>,
    /// Checks that need a fresh measurement now.
    pub measure: Vec<String>,
    /// When to decide again even if nothing changes.
    pub wake: Option<Timestamp>,
}

/// One line saying what is done or waited for, and why.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.message.fmt(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub uid: String,
    pub name: String,
    /// False: refused.
    pub done: bool,
    pub message: String,
}

/// Something worth telling the people who watch this Rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub warning: bool,
    pub reason: &'static str,
    pub note: String,
}
