//! A machine that goes on where a supervisor that is gone has left off.
//!
//! Under the same boot everything is taken to be as it was written down; whoever finds out that a process has ended since
//! says so with `Exited` or `Lost`, and what became of a start that was announced with `Spawned` or `NotSpawned`.

use super::{Action, BackOff, Life, Machine, Moment, Now, Phase, Run};
use crate::{
    plan::{PodPlan, Role},
    wire::{Condition, ContainerState, Exit, PodState},
};

/// The exit code of a container whose end nobody saw.
const UNKNOWN_EXIT: i32 = 137;

impl Machine {
    pub fn resume(plan: PodPlan, boot_id: String, saved: &PodState, now: Now) -> Self {
        let same_boot = saved.boot_id == boot_id;
        let mut machine = Self::new(plan, boot_id);
        machine.noticed = saved.notices.last().map_or(0, |notice| notice.number);
        machine.notices = saved.notices.iter().cloned().collect();
        // A reboot takes everything with it that init containers may have prepared.
        machine.initialized = saved.initialized && same_boot;
        machine.finished = saved.finished;
        machine.stop = saved.stop.clone().filter(|_| same_boot);
        for index in 0..machine.cells.len() {
            if let Some(state) = saved.container(&machine.plan.containers[index].name) {
                machine.resume_container(index, state, same_boot, now);
            }
        }
        machine
    }

    /// Containers that a supervisor was about to start when it was lost, with the time.
    pub fn announced(&self) -> Vec<(usize, u64)> {
        let announced = self.cells.iter().enumerate().filter_map(|(index, cell)| match cell.life {
            Life::Spawning { since_ms } => Some((index, since_ms)),
            _ => None,
        });
        announced.collect()
    }

    /// The starts so far, the present one left out.
    pub fn restart_count(&self, index: usize) -> u32 {
        self.cells[index].starts.saturating_sub(1)
    }

    fn resume_container(&mut self, index: usize, state: &ContainerState, same_boot: bool, now: Now) {
        let (plan, finished) = (&self.plan.containers[index], self.finished);
        let (progress, role, startup_probe) = (state.progress, plan.role, plan.startup_probe);
        let starting = progress.starting_since_ms.filter(|_| same_boot);
        let cell = &mut self.cells[index];
        cell.last = state.last.clone();
        cell.streak = state.streak;
        let ran = state.last.is_some() || !matches!(state.condition, Condition::Waiting { .. });
        cell.starts = if ran || starting.is_some() { state.restart_count + 1 } else { 0 };
        match &state.condition {
            Condition::Waiting { .. } if starting.is_some() => {
                cell.life = Life::Spawning { since_ms: starting.unwrap_or_default() };
            }
            Condition::Waiting { .. } if ran => {
                let at_once = BackOff { until_ms: now.mono_ms, delay_ms: 0 };
                cell.life = Life::BackOff(progress.back_off.filter(|_| same_boot).unwrap_or(at_once));
            }
            Condition::Waiting { .. } => {}
            Condition::Terminated(exit) if role == Role::Init && !same_boot && !finished => {
                cell.last = Some(exit.clone());
            }
            Condition::Terminated(exit) => cell.life = Life::Over(exit.clone()),
            Condition::Running { id, pid, ticks, started_at, started } => {
                cell.was_started = *started && role == Role::Sidecar;
                cell.life = Life::Running(Run {
                    id: id.clone(),
                    pid: *pid,
                    ticks: *ticks,
                    since_ms: progress.running_since_ms.unwrap_or(now.mono_ms),
                    started_at: *started_at,
                    post_start_pending: progress.post_start_pending,
                    startup_pending: startup_probe && !started,
                    ending: progress.ending,
                    hook: progress.hook,
                });
                self.owe_hooks(index);
                if !same_boot {
                    self.lose(index, "the machine was restarted", now);
                }
            }
        }
    }

    /// Hooks that were at work outlive their supervisor.
    fn owe_hooks(&mut self, index: usize) {
        let Life::Running(run) = &self.cells[index].life else { return };
        let moment = if run.post_start_pending {
            Moment::PostStart
        } else if run.ending.is_some_and(|ending| ending.phase == Phase::PreStop) {
            Moment::PreStop
        } else {
            return;
        };
        // A supervisor of an earlier version did not say what became of it: hooks are promised at least once.
        self.backlog.push(match run.hook {
            Some(hook) => Action::ResumeHook { index, moment, hook },
            None => Action::RunHook { index, moment },
        });
    }

    pub(super) fn not_spawned(&mut self, index: usize, now: Now) {
        let cell = &mut self.cells[index];
        if let Life::Spawning { .. } = cell.life {
            cell.starts = cell.starts.saturating_sub(1);
            cell.life = match cell.last {
                Some(_) => Life::BackOff(BackOff { until_ms: now.mono_ms, delay_ms: 0 }),
                None => Life::Idle,
            };
        }
    }

    pub(super) fn lost(&mut self, index: usize, now: Now, out: &mut Vec<Action>) {
        self.lose(index, "its supervisor was lost, and nobody saw how it ended", now);
        out.append(&mut self.backlog);
    }

    fn lose(&mut self, index: usize, message: &str, now: Now) {
        let restart_count = self.restart_count(index);
        let Life::Running(run) = &mut self.cells[index].life else { return };
        let exit = Exit {
            id: std::mem::take(&mut run.id),
            restart_count,
            code: UNKNOWN_EXIT,
            signal: None,
            reason: "ContainerStatusUnknown".to_owned(),
            message: message.to_owned(),
            started_at: run.started_at,
            finished_at: now.wall,
        };
        // Its hooks have nothing to do any more.
        let hook = |action: &Action| match action {
            Action::RunHook { index: hooked, .. } | Action::ResumeHook { index: hooked, .. } => *hooked == index,
            _ => false,
        };
        self.backlog.retain(|action| !hook(action));
        let mut backlog = Vec::new();
        self.after_exit(index, exit, 0, now, &mut backlog);
        self.backlog.append(&mut backlog);
    }
}
