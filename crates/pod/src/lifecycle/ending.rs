//! One container on its way out: preStop hook, stop signal, SIGKILL.

use super::{Action, Ending, HookRun, Life, Machine, Moment, Now, Phase};
use crate::plan::Launch;

/// SIGTERM.
const DEFAULT_STOP_SIGNAL: i32 = 15;
/// Between the stop signal and SIGKILL lies at least this, whatever the preStop hook has used up.
pub(super) const SIGNAL_FLOOR_MS: u64 = 2_000;

impl Machine {
    /// Begins the end of a running container, or brings its deadline forward.
    pub(super) fn end(&mut self, index: usize, deadline_ms: u64, now: Now, out: &mut Vec<Action>) {
        let Life::Running(run) = &mut self.cells[index].life else { return };
        if let Some(ending) = &mut run.ending {
            // A container that was signalled keeps the floor that it was promised.
            let floor_ms = if ending.phase == Phase::Signalled { now.mono_ms + SIGNAL_FLOOR_MS } else { 0 };
            ending.deadline_ms = ending.deadline_ms.min(deadline_ms.max(floor_ms));
            return;
        }
        if std::mem::take(&mut run.post_start_pending) {
            out.push(Action::CancelHook { index, moment: Moment::PostStart });
        }
        run.ending = Some(Ending { phase: Phase::PreStop, deadline_ms });
        run.hook = None;
        if self.plan.containers[index].pre_stop.is_some() && deadline_ms > now.mono_ms {
            run.hook = Some(HookRun::begin(now));
            out.push(Action::RunHook { index, moment: Moment::PreStop });
        } else {
            self.signal(index, now, out);
        }
    }

    // PreStop => Signalled
    pub(super) fn signal(&mut self, index: usize, now: Now, out: &mut Vec<Action>) {
        let plan = &self.plan.containers[index];
        let of_image = match &plan.launch {
            Launch::Ready(command) => command.stop_signal,
            Launch::Withheld { .. } => None,
        };
        let signal = plan.stop_signal.or(of_image).unwrap_or(DEFAULT_STOP_SIGNAL);
        let Life::Running(run) = &mut self.cells[index].life else { return };
        let Some(ending @ Ending { phase: Phase::PreStop, .. }) = &mut run.ending else { return };
        ending.phase = Phase::Signalled;
        run.hook = None;
        ending.deadline_ms = ending.deadline_ms.max(now.mono_ms + SIGNAL_FLOOR_MS);
        out.push(Action::Signal { index, signal });
    }

    /// Moves on whoever's deadline has passed.
    pub(super) fn expire(&mut self, now: Now, out: &mut Vec<Action>) {
        for index in 0..self.cells.len() {
            let Life::Running(run) = &mut self.cells[index].life else { continue };
            let Some(ending) = run.ending.as_mut().filter(|ending| ending.deadline_ms <= now.mono_ms) else { continue };
            match ending.phase {
                // PreStop => Signalled
                Phase::PreStop => {
                    out.push(Action::CancelHook { index, moment: Moment::PreStop });
                    let message = "PreStopHook did not complete within the grace period".to_owned();
                    self.notice(index, "FailedPreStopHook", message, true, now);
                    self.signal(index, now, out);
                }
                // Signalled => Killed
                Phase::Signalled => {
                    ending.phase = Phase::Killed;
                    out.push(Action::Kill { index });
                }
                Phase::Killed => {}
            }
        }
    }
}
