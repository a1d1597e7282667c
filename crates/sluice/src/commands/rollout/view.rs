//! A Rollout as a person wants to see it: where it stands, what it waits for, and on what evidence.

use std::fmt::Write as _;
use std::io::Write as _;

use sluice_model::rollout::{CheckState, CheckStatus, PlannedStep, Revision, RolloutStatus};

use super::{Rollout, name_of};
use crate::printer;

pub(crate) const HEADERS: [&str; 6] = ["NAME", "PHASE", "STEP", "WEIGHT", "STABLE", "CANDIDATE"];

const BAR: usize = 40;

pub(crate) fn row(rollout: &Rollout) -> Vec<String> {
    let status = rollout.status.clone().unwrap_or_default();
    vec![
        name_of(rollout).to_owned(),
        phase(&status),
        step(&status),
        weight(&status),
        revision(status.stable.as_ref()),
        revision(status.candidate.as_ref()),
    ]
}

/// Everything, on several lines.
pub(crate) fn full(rollout: &Rollout) -> String {
    let status = rollout.status.clone().unwrap_or_default();
    let mut out = String::new();
    let target = &rollout.spec.target;
    let _ = writeln!(out, "rollout {} of {} {}", name_of(rollout), target.kind.to_lowercase(), target.name);
    let _ = writeln!(out, "  phase      {}", phase(&status));
    if !status.message.is_empty() {
        let _ = writeln!(out, "  decision   {}", status.message);
    }
    let _ = writeln!(out, "  stable     {}", with_pods(&status, status.stable.as_ref()));
    let _ = writeln!(out, "  candidate  {}", with_pods(&status, status.candidate.as_ref()));
    let _ = writeln!(out, "  traffic    {} {}", bar(&status), weight(&status));
    for (n, step) in (1_u32..).zip(&status.plan) {
        let here = if status.step == Some(n) && status.candidate.is_some() { ">" } else { " " };
        let _ = writeln!(out, "  {here} {}", step_line(step));
    }
    for check in &status.checks {
        let _ = writeln!(out, "  {}", check_line(check));
    }
    out
}

fn step_line(step: &PlannedStep) -> String {
    let mut line = format!("{:<12} {:>6}  {} + {} pods", step.name, step.traffic, step.stable, step.candidate);
    if let Some(hold) = &step.hold {
        let _ = write!(line, ", hold {hold}");
    }
    if !step.matches.is_empty() {
        let _ = write!(line, ", always where {}", step.matches.join(" or "));
    }
    if let Some(by) = &step.sticky {
        let _ = write!(line, ", sticky by {by}");
    }
    if let Some(copied) = &step.mirror {
        let _ = write!(line, ", mirror {copied}");
    }
    if let Some(sample) = &step.compare {
        let _ = write!(line, ", compare {sample}");
    }
    if !step.checks.is_empty() {
        let _ = write!(line, ", checks {}", step.checks.join(" "));
    }
    line
}

fn check_line(check: &CheckStatus) -> String {
    let mark = match check.state {
        CheckState::Passing | CheckState::Passed => "ok  ",
        CheckState::Failing | CheckState::Failed => "FAIL",
        CheckState::Waiting => "... ",
    };
    let evidence = if check.evidence.is_empty() { "not measured yet" } else { &check.evidence };
    format!("{mark} {}: {evidence}", check.name)
}

fn phase(status: &RolloutStatus) -> String {
    status.phase.map_or_else(|| "Unknown".into(), |p| format!("{p:?}"))
}

fn step(status: &RolloutStatus) -> String {
    match (status.candidate.is_some(), status.step) {
        (true, Some(step)) => format!("{step}/{}", status.plan.len().max(1)),
        _ => "-".into(),
    }
}

fn share(status: &RolloutStatus) -> u32 {
    status.exposure.as_ref().filter(|e| e.candidate.is_some()).map_or(0, |e| e.candidate_weight)
}

fn weight(status: &RolloutStatus) -> String {
    format!("{}%", f64::from(share(status)) / 100.0)
}

fn bar(status: &RolloutStatus) -> String {
    let filled = (share(status) as usize * BAR).div_ceil(10_000).min(BAR);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(BAR - filled))
}

fn revision(revision: Option<&Revision>) -> String {
    match revision {
        None => "-".into(),
        Some(Revision { hash, number: Some(number) }) => format!("{number} ({hash})"),
        Some(Revision { hash, number: None }) => hash.clone(),
    }
}

fn with_pods(status: &RolloutStatus, which: Option<&Revision>) -> String {
    let pods = which.and_then(|r| status.sizes.get(&r.hash)).map(|n| format!(", {n} pods")).unwrap_or_default();
    format!("{}{pods}", revision(which))
}

/// Redraws in place on a terminal; prints a line for each news elsewhere.
pub(crate) struct Screen {
    drawn: usize,
    last: String,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { drawn: 0, last: String::new() }
    }

    pub(crate) fn show(&mut self, rollout: &Rollout) {
        if printer::is_live() {
            let text = full(rollout);
            // Up over what was drawn before, then clear to the end of the screen.
            let up = if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\x1b[J", self.drawn) };
            self.drawn = text.lines().count();
            printer::text(&format!("{up}{text}"));
            let _ = std::io::stdout().flush();
            return;
        }
        let status = rollout.status.clone().unwrap_or_default();
        let line = format!("{} step {} weight {}: {}", phase(&status), step(&status), weight(&status), status.message);
        if line != self.last {
            printer::line(&line);
            self.last = line;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_shows_where_it_stands_and_why() {
        let rollout: Rollout = serde_json::from_value(serde_json::json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": "shop"},
            "spec": {"target": {"name": "shop"}, "strategy": "Canary"},
            "status": {
                "phase": "Progressing", "message": "waiting: check errors has 1 of 3 passes", "step": 1,
                "stable": {"hash": "aaa", "number": 1}, "candidate": {"hash": "bbb", "number": 2},
                "sizes": {"aaa": 4, "bbb": 1}, "plan": [
                    {"name": "canary", "candidate": 1, "stable": 4, "traffic": "10%", "hold": "5m", "checks": ["errors"]},
                    {"name": "promote", "candidate": 4, "stable": 0, "traffic": "100%"},
                ],
                "exposure": {"stable": "aaa", "candidate": "bbb", "candidateWeight": 1000},
                "checks": [{"name": "errors", "state": "Passing", "evidence": "error-rate 0.0% of 230 requests"}],
            },
        }))
        .unwrap();
        insta::assert_snapshot!(full(&rollout), @r"
        rollout shop of deployment shop
          phase      Progressing
          decision   waiting: check errors has 1 of 3 passes
          stable     1 (aaa), 4 pods
          candidate  2 (bbb), 1 pods
          traffic    [####------------------------------------] 10%
          > canary          10%  4 + 1 pods, hold 5m, checks errors
            promote        100%  0 + 4 pods
          ok   errors: error-rate 0.0% of 230 requests
        ");
        assert_eq!(row(&rollout), ["shop", "Progressing", "1/2", "10%", "1 (aaa)", "2 (bbb)"]);
    }
}
