//! What the machine tells the outside: the pod's state and its notices.

use super::{Life, Machine, Now};
use crate::{
    plan::{Launch, Role},
    wire::{BackOff, Condition, ContainerState, Notice, PodState, Progress},
};

/// How many notices wait for an agent that is not there.
const MAX_NOTICES: usize = 64;

impl Machine {
    /// Without its sequence number, which is the supervisor's to give.
    pub fn state(&self) -> PodState {
        PodState {
            boot_id: self.boot_id.clone(),
            sequence: 0,
            initialized: self.initialized,
            stop: self.stop.clone(),
            finished: self.finished,
            containers: (0..self.cells.len()).map(|index| self.container_state(index)).collect(),
            notices: self.notices.iter().cloned().collect(),
        }
    }

    pub(super) fn notice(&mut self, index: usize, reason: &str, message: String, warning: bool, now: Now) {
        self.noticed += 1;
        if self.notices.len() == MAX_NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(Notice {
            number: self.noticed,
            container: self.plan.containers[index].name.clone(),
            reason: reason.to_owned(),
            message,
            warning,
            at: now.wall,
        });
    }

    fn container_state(&self, index: usize) -> ContainerState {
        let cell = &self.cells[index];
        // A container that waits for a restart still counts its last start; one that was never started counts none.
        let restart_count = cell.starts.saturating_sub(1);
        ContainerState {
            name: self.plan.containers[index].name.clone(),
            restart_count,
            streak: cell.streak,
            condition: self.condition(index),
            progress: self.progress(index),
            last: cell.last.clone(),
        }
    }

    fn condition(&self, index: usize) -> Condition {
        let plan = &self.plan.containers[index];
        match &self.cells[index].life {
            Life::Over(exit) => Condition::Terminated(exit.clone()),
            Life::Running(run) => Condition::Running {
                id: run.id.clone(),
                pid: run.pid,
                ticks: run.ticks,
                started_at: run.started_at,
                started: run.started(),
            },
            Life::Spawning { .. } | Life::BackOff(BackOff { delay_ms: 0, .. })
                if let Some(why) = &self.cells[index].unmade =>
            {
                waiting("CreateContainerError", why.clone())
            }
            Life::BackOff(BackOff { delay_ms, .. }) if *delay_ms > 0 => waiting(
                "CrashLoopBackOff",
                format!("back-off {}s restarting failed container={} pod={}", delay_ms / 1000, plan.name, self.pod()),
            ),
            Life::Idle | Life::Spawning { .. } | Life::BackOff(_) | Life::Dropped => match &plan.launch {
                Launch::Withheld { reason, message } if self.has_its_turn(index) => waiting(reason, message.clone()),
                _ => waiting(self.patience(), String::new()),
            },
        }
    }

    fn progress(&self, index: usize) -> Progress {
        match &self.cells[index].life {
            Life::Spawning { since_ms } => Progress { starting_since_ms: Some(*since_ms), ..Progress::default() },
            Life::BackOff(back_off) => Progress { back_off: Some(*back_off), ..Progress::default() },
            Life::Running(run) => Progress {
                running_since_ms: Some(run.since_ms),
                post_start_pending: run.post_start_pending,
                ending: run.ending,
                hook: run.hook,
                ..Progress::default()
            },
            Life::Idle | Life::Over(_) | Life::Dropped => Progress::default(),
        }
    }

    fn has_its_turn(&self, index: usize) -> bool {
        self.initialized || (self.plan.containers[index].role != Role::App && index <= self.front)
    }

    /// Why a container without a problem of its own does not run.
    fn patience(&self) -> &'static str {
        let any_init = self.plan.containers.iter().any(|container| container.role != Role::App);
        if any_init { "PodInitializing" } else { "ContainerCreating" }
    }
}

fn waiting(reason: &str, message: String) -> Condition {
    Condition::Waiting { reason: reason.to_owned(), message }
}
