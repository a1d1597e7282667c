//! A strategy written out: what each step will do, before anything runs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use sluice_model::amount::Share;
use sluice_model::duration;
use sluice_model::gateway::HttpRouteMatch;
use sluice_model::rollout::PlannedStep;

use crate::{Desired, Fences, Hold, Shift, Step, copies};

/// The whole expansion of a Rollout for a number of replicas. Prints as a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub replicas: u32,
    pub steps: Vec<PlannedStep>,
    /// The most pods of both versions that exist at the same time.
    pub peak_pods: u32,
    /// Holds alone, without the time that pods take to start, such as `15m`.
    pub holds: String,
    /// Steps that wait for a person; the duration is open.
    pub approvals: u32,
    pub notes: Vec<String>,
}

/// Writes out what a release of `desired` will do to a workload of `replicas` pods.
pub fn plan(desired: &Desired, replicas: u32, workload: Fences) -> Plan {
    let fences = desired.fences(replicas, workload);
    let steps = desired.steps.iter().map(|step| planned(desired, step, replicas, fences)).collect();
    let holds = desired.steps.iter().map(|step| match step.hold {
        Hold::For(duration) => duration,
        Hold::Approval => Duration::ZERO,
    });
    let approvals = desired.steps.iter().filter(|step| step.hold == Hold::Approval).count();
    Plan {
        replicas,
        steps,
        peak_pods: peak(desired, replicas, fences),
        holds: duration::show(holds.sum()),
        approvals: u32::try_from(approvals).unwrap_or(u32::MAX),
        notes: notes(desired),
    }
}

fn planned(desired: &Desired, step: &Step, replicas: u32, fences: Fences) -> PlannedStep {
    let split = desired.split(step, replicas, fences);
    PlannedStep {
        name: step.name.clone(),
        candidate: signed(split.candidate),
        stable: signed(split.stable),
        traffic: match desired.shift {
            Shift::Routes => step.traffic.to_string(),
            Shift::Replicas | Shift::Recreate => share_of_pods(split.candidate, split.stable).to_string(),
        },
        matches: step.matches.iter().map(describe).collect(),
        sticky: step.sticky.as_ref().map(|sticky| sticky.by.clone()),
        mirror: step.copies.as_ref().filter(|copies| copies.compare.is_none()).map(copies::describe),
        compare: step.copies.as_ref().filter(|copies| copies.compare.is_some()).map(copies::describe),
        hold: match step.hold {
            Hold::For(Duration::ZERO) => None,
            Hold::For(hold) => Some(duration::show(hold)),
            Hold::Approval => Some("approval".to_owned()),
        },
        checks: step.checks.clone(),
    }
}

/// Where every pod takes an equal part: the candidate's part.
pub(crate) fn share_of_pods(candidate: u32, stable: u32) -> Share {
    let total = u64::from(candidate) + u64::from(stable);
    let share = (u64::from(candidate) * 10_000).checked_div(total).unwrap_or(0);
    Share::from_hundredths(u32::try_from(share).unwrap_or(u32::MAX))
}

/// A step begins with the pods of the one before it, so both count.
fn peak(desired: &Desired, replicas: u32, fences: Fences) -> u32 {
    if desired.shift != Shift::Routes {
        return replicas + fences.surge;
    }
    let splits: Vec<_> = desired.steps.iter().map(|step| desired.split(step, replicas, fences)).collect();
    let mut before = crate::Split { candidate: 0, stable: replicas };
    let mut peak = replicas;
    for split in splits {
        peak = peak.max(before.candidate.max(split.candidate) + before.stable.max(split.stable));
        before = split;
    }
    peak
}

fn notes(desired: &Desired) -> Vec<String> {
    let mut notes = Vec::new();
    match desired.shift {
        Shift::Recreate => notes.push("no pod runs between `stop` and `start`: requests fail in that time".to_owned()),
        Shift::Replicas => {
            notes.push("no route is split: every ready pod takes an equal part of the traffic".to_owned());
        }
        Shift::Routes => {}
    }
    if !desired.keep_old.is_zero() {
        notes.push(format!(
            "the replaced version stays up for {} after the last step",
            duration::show(desired.keep_old)
        ));
    }
    notes
}

/// `header x-preview=1, path /beta*`
fn describe(matches: &HttpRouteMatch) -> String {
    let mut parts = Vec::new();
    if let Some(path) = &matches.path {
        let star = if path.kind == "PathPrefix" { "*" } else { "" };
        parts.push(format!("path {}{star}", path.value));
    }
    parts.extend(matches.method.iter().map(|method| format!("method {method}")));
    parts.extend(matches.headers.iter().map(|header| format!("header {}={}", header.name, header.value)));
    parts.extend(matches.query_params.iter().map(|query| format!("query {}={}", query.name, query.value)));
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}

fn signed(pods: u32) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.steps.iter().map(|step| step.name.len()).max().unwrap_or(0).max(4);
        writeln!(f, "  #  {:width$}  candidate  stable  traffic  then", "step")?;
        for (index, step) in self.steps.iter().enumerate() {
            let number = index + 1;
            let PlannedStep { name, candidate, stable, traffic, matches, sticky, mirror, compare, hold, checks } = step;
            write!(f, "{number:>3}  {name:width$}  {candidate:>9}  {stable:>6}  {traffic:>7}  ")?;
            let mut then: Vec<String> = matches.iter().map(|text| format!("match {text}")).collect();
            then.extend(sticky.iter().map(|by| format!("sticky by {by}")));
            then.extend(mirror.iter().map(|copied| format!("mirror {copied}")));
            then.extend(compare.iter().map(|sample| format!("compare {sample}")));
            then.extend(match hold.as_deref() {
                Some("approval") => Some("wait for approval".to_owned()),
                Some(hold) => Some(format!("hold {hold}")),
                None => None,
            });
            if !checks.is_empty() {
                then.push(format!("checks {}", checks.join(", ")));
            }
            let then = if then.is_empty() { "go on when ready".to_owned() } else { then.join("; ") };
            writeln!(f, "{then}")?;
        }
        let approvals = match self.approvals {
            0 => String::new(),
            1 => " and 1 approval".to_owned(),
            many => format!(" and {many} approvals"),
        };
        writeln!(f, "{} replicas, at most {} pods, {} of holds{approvals}", self.replicas, self.peak_pods, self.holds)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}
