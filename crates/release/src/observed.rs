//! What is known of the world when a decision is made.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use sluice_model::rollout::{Revision, RolloutCommandSpec};
use sluice_stats::Verdict;

/// The situation of one Rollout.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Pods the workload shall have.
    pub replicas: u32,
    /// The version that the workload's template names; none until its ReplicaSet exists.
    pub current: Option<Revision>,
    /// All versions by `pod-template-hash`.
    pub versions: BTreeMap<String, Version>,
    /// Every live gateway serves the exposure that stands in the status.
    pub acknowledged: bool,
    pub fences: Fences,
    /// How long a candidate may make no progress.
    pub progress_deadline: Duration,
    /// Verbs that wait, in any order.
    pub commands: Vec<Command>,
    /// The newest measurement of each check, by name.
    pub measured: BTreeMap<String, Measured>,
}

/// The pods of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Version {
    pub number: Option<i64>,
    /// What its ReplicaSet asks for.
    pub size: u32,
    /// Pods that exist, also those that are stopping.
    pub pods: u32,
    /// Pods that are available and, where gateways serve them, known to every gateway.
    pub ready: u32,
}

/// How far the number of pods may leave `replicas` while traffic moves with the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fences {
    pub surge: u32,
    pub unavailable: u32,
}

impl Default for Fences {
    fn default() -> Self {
        Self { surge: 1, unavailable: 0 }
    }
}

/// A RolloutCommand that was not carried out yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub uid: String,
    pub name: String,
    pub created: Timestamp,
    pub spec: RolloutCommandSpec,
}

/// One measurement of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    pub at: Timestamp,
    /// The start of the window it covers; measurements of an earlier step are not counted.
    pub since: Timestamp,
    pub verdict: Verdict,
    /// For people: the numbers behind the verdict.
    pub evidence: String,
}
