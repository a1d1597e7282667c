//! A machine that goes on where a supervisor that is gone has left off.

use super::{Life, Machine, Now};
use crate::{
    plan::{PodPlan, Role},
    wire::{Condition, ContainerState, Exit, PodState},
};

/// The exit code of a container whose end nobody saw.
const UNKNOWN_EXIT: i32 = 137;

impl Machine {
    /// What ran under it is taken for dead, cause unknown.
    pub(crate) fn resume(plan: PodPlan, boot_id: String, saved: &PodState, now: Now) -> Self {
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

    fn resume_container(&mut self, index: usize, state: &ContainerState, same_boot: bool, now: Now) {
        let role = self.plan.containers[index].role;
        let cell = &mut self.cells[index];
        cell.last = state.last.clone();
        cell.streak = state.streak;
        let ran = state.last.is_some() || !matches!(state.condition, Condition::Waiting { .. });
        cell.starts = if ran { state.restart_count + 1 } else { 0 };
        match &state.condition {
            Condition::Waiting { .. } if ran => cell.life = Life::BackOff { until_ms: now.mono_ms, delay_ms: 0 },
            Condition::Waiting { .. } => {}
            Condition::Terminated(exit) if role == Role::Init && !same_boot && !self.finished => {
                cell.last = Some(exit.clone());
            }
            Condition::Terminated(exit) => cell.life = Life::Over(exit.clone()),
            Condition::Running { id, started_at, .. } => {
                let exit = Exit {
                    id: id.clone(),
                    restart_count: state.restart_count,
                    code: UNKNOWN_EXIT,
                    signal: None,
                    reason: "ContainerStatusUnknown".to_owned(),
                    message: if same_boot { "its supervisor was lost" } else { "the machine was restarted" }.to_owned(),
                    started_at: *started_at,
                    finished_at: now.wall,
                };
                let mut backlog = Vec::new();
                self.after_exit(index, exit, 0, now, &mut backlog);
                self.backlog.append(&mut backlog);
            }
        }
    }
}
