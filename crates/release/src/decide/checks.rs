//! Checks of the present step: which measurements count, and what they come to.

use std::time::Duration;

use jiff::Timestamp;
use sluice_model::rollout::{CheckState, CheckStatus, NoData, OnFail, RolloutStatus, When};
use sluice_stats::Verdict;

use super::{Pass, after};
use crate::{Check, Desired, Measured, Probe, Shift, Step};

/// Counters of a gateway are looked at this often, whatever `every` says: a gross fault must not wait for the next regular
/// measurement. Only what is bad is acted upon between two of those.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the checks of a step came to.
pub(super) enum Checked {
    Good,
    Waiting(String),
    Bad(String),
}

/// From when on the candidate's traffic belongs to the present step: the start of the window of its metrics.
pub fn window_start(desired: &Desired, status: &RolloutStatus) -> Option<Timestamp> {
    match desired.shift {
        Shift::Routes => status.exposed_at,
        Shift::Replicas | Shift::Recreate => status.step_started_at,
    }
}

impl Pass<'_> {
    pub(super) fn run_checks(&mut self, step: &Step, at: When) -> Checked {
        if self.status.promoting {
            return Checked::Good;
        }
        let mut waiting = None;
        for name in &step.checks {
            let Some(check) = self.desired.check(name).filter(|check| check.at == at) else { continue };
            let state = self.run_check(check);
            let CheckStatus { evidence, .. } = self.entry(name);
            let said = format!("check `{name}`: {evidence}");
            match state {
                _ if check.dry_run => {}
                CheckState::Failed => return self.failed(check, said),
                CheckState::Passed => {}
                CheckState::Waiting if evidence.is_empty() => {
                    waiting = waiting.or(Some(format!("check `{name}` runs")));
                }
                CheckState::Waiting | CheckState::Passing | CheckState::Failing => waiting = waiting.or(Some(said)),
            }
        }
        waiting.map_or(Checked::Good, Checked::Waiting)
    }

    fn failed(&mut self, check: &Check, said: String) -> Checked {
        match check.on_fail {
            OnFail::Rollback => Checked::Bad(said),
            OnFail::Pause => {
                if self.status.paused.is_none() {
                    self.event(true, "Paused", said.clone());
                    self.status.paused = Some(said.clone());
                    self.status.phase = Some(sluice_model::rollout::Phase::Paused);
                }
                Checked::Waiting(said)
            }
        }
    }

    /// Counts the newest measurement if it is due, and asks for the next one.
    fn run_check(&mut self, check: &Check) -> CheckState {
        let before = self.entry(&check.name).clone();
        if before.state == CheckState::Failed || (before.state == CheckState::Passed && check.at == When::Before) {
            return before.state;
        }
        let since = match check.at {
            When::Before => self.status.step_started_at,
            When::During => window_start(self.desired, &self.status),
        };
        let measured = self.observed.measured.get(&check.name).filter(|measured| {
            since.is_some_and(|since| measured.since >= since)
                && before.measured_at.is_none_or(|last| measured.at > last)
        });
        let due = before.measured_at.map(|last| after(last, check.every));
        if let Some(measured) = measured.cloned() {
            let regular = due.is_none_or(|due| due <= self.now);
            let alarm = measured.verdict == Verdict::Fail && before.state != CheckState::Failing;
            if regular || alarm {
                self.count(check, measured);
            }
        }
        self.ask_for_next(check);
        self.entry(&check.name).state
    }

    fn ask_for_next(&mut self, check: &Check) {
        let due = self.entry(&check.name).measured_at.map(|last| after(last, check.every));
        match (&check.probe, due) {
            (Probe::Http(_), Some(due)) if self.now < due => self.wake_at(due),
            (Probe::Http(_), _) => self.measure.push(check.name.clone()),
            (Probe::Metric(_), _) => {
                let look = after(self.now, LOOK_EVERY.min(check.every));
                self.wake_at(look);
                self.measure.push(check.name.clone());
            }
        }
    }

    fn count(&mut self, check: &Check, measured: Measured) {
        let entry = self.entry(&check.name);
        let (passes, failures) = (entry.passes, entry.failures);
        let passed = |passes: u32| if passes >= check.successes { CheckState::Passed } else { CheckState::Passing };
        let failed = |failures: u32| if failures >= check.failures { CheckState::Failed } else { CheckState::Failing };
        let (state, passes, failures) = match (measured.verdict, check.no_data) {
            (Verdict::Pass, _) | (Verdict::NoData, NoData::Pass) => (passed(passes + 1), passes + 1, failures),
            (Verdict::Fail, _) | (Verdict::NoData, NoData::Fail) => (failed(failures + 1), 0, failures + 1),
            (Verdict::NoData, NoData::Wait) | (Verdict::Unsure, _) => (CheckState::Waiting, passes, failures),
        };
        let entry = self.entry(&check.name);
        *entry = CheckStatus {
            name: check.name.clone(),
            state,
            passes,
            failures,
            evidence: measured.evidence,
            measured_at: Some(measured.at),
        };
    }

    /// The memory of one check in this step.
    fn entry(&mut self, name: &str) -> &mut CheckStatus {
        let checks = &mut self.status.checks;
        let position = checks.iter().position(|check| check.name == name).unwrap_or_else(|| {
            checks.push(CheckStatus { name: name.to_owned(), ..CheckStatus::default() });
            checks.len() - 1
        });
        &mut checks[position]
    }
}
