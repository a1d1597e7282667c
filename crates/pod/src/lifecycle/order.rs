//! Who may run and who must go: init containers one by one, sidecars around the app containers, everything down in reverse.

use super::{Action, Cell, Life, Machine, Now};
use crate::{
    plan::{Launch, Role},
    wire::BackOff,
};

/// What sidecars keep of the grace period when app containers use up the rest; at most half of it.
pub(super) const SIDECAR_RESERVE_MS: u64 = 5_000;

impl Machine {
    /// Starts whoever's turn it is. Ends the pod when its app containers are done or an init container has failed for good.
    pub(super) fn bring_up(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.initialized {
            match self.init_in_order(now, out) {
                Init::Busy => return,
                Init::Failed => return self.begin_stop(self.plan.grace_seconds * 1000, false, now),
                Init::Done => self.initialized = true,
            }
        }
        for index in self.indices(|role| role != Role::Init) {
            self.start_if_due(index, now, out);
        }
        let done = self.indices(|role| role == Role::App).all(|index| matches!(self.cells[index].life, Life::Over(_)));
        if done {
            self.begin_stop(self.plan.grace_seconds * 1000, false, now);
        }
    }

    fn init_in_order(&mut self, now: Now, out: &mut Vec<Action>) -> Init {
        for index in self.indices(|role| role != Role::App) {
            self.front = index;
            let sidecar = self.plan.containers[index].role == Role::Sidecar;
            self.start_if_due(index, now, out);
            let cell = &mut self.cells[index];
            cell.was_started |= sidecar && matches!(&cell.life, Life::Running(run) if run.started());
            match &cell.life {
                _ if cell.was_started => {}
                Life::Over(exit) if exit.code == 0 => {}
                Life::Over(_) if !sidecar => return Init::Failed,
                _ => return Init::Busy,
            }
        }
        Init::Done
    }

    /// Ends app containers at once and together, then sidecars one by one in reverse order.
    pub(super) fn wind_down(&mut self, now: Now, out: &mut Vec<Action>) {
        let Some(stop) = self.stop.clone() else { return };
        self.cells.iter_mut().for_each(Cell::give_up);
        let sidecars: Vec<usize> =
            self.indices(|role| role == Role::Sidecar).filter(|index| self.cells[*index].runs()).collect();
        let grace_ms = stop.deadline_ms.saturating_sub(stop.since_ms);
        let reserve_ms = if sidecars.is_empty() { 0 } else { SIDECAR_RESERVE_MS.min(grace_ms / 2) };
        let mut apps_run = false;
        for index in
            self.indices(|role| role != Role::Sidecar).filter(|index| self.cells[*index].runs()).collect::<Vec<_>>()
        {
            apps_run = true;
            self.end_with_pod(index, stop.deadline_ms - reserve_ms, now, out);
        }
        match sidecars.last() {
            _ if apps_run => {}
            Some(last) => self.end_with_pod(*last, stop.deadline_ms, now, out),
            None => {
                self.finished = true;
                out.push(Action::Finish);
            }
        }
    }

    fn end_with_pod(&mut self, index: usize, deadline_ms: u64, now: Now, out: &mut Vec<Action>) {
        if matches!(&self.cells[index].life, Life::Running(run) if run.ending.is_none()) {
            let message = format!("Stopping container {}", self.plan.containers[index].name);
            self.notice(index, "Killing", message, false, now);
        }
        self.end(index, deadline_ms, now, out);
    }

    fn start_if_due(&mut self, index: usize, now: Now, out: &mut Vec<Action>) {
        let due = match self.cells[index].life {
            Life::Idle => true,
            Life::BackOff(BackOff { until_ms, .. }) => until_ms <= now.mono_ms,
            _ => false,
        };
        if !due || matches!(self.plan.containers[index].launch, Launch::Withheld { .. }) {
            return;
        }
        let cell = &mut self.cells[index];
        let restart_count = cell.starts;
        cell.starts += 1;
        cell.life = Life::Spawning { since_ms: now.mono_ms };
        // Said once of a container that the disk has no room for.
        if cell.unmade.is_some() {
            out.push(Action::Spawn { index, restart_count });
            return;
        }
        let just_pulled = matches!(&self.plan.containers[index].launch, Launch::Ready(command) if command.pulled);
        if restart_count > 0 || !just_pulled {
            let image = &self.plan.containers[index].image;
            let present =
                format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
            self.notice(index, "Pulled", present, false, now);
        }
        self.notice(index, "Created", "Container created".to_owned(), false, now);
        out.push(Action::Spawn { index, restart_count });
    }

    fn indices(&self, wanted: impl Fn(Role) -> bool) -> std::vec::IntoIter<usize> {
        let indices = self.plan.containers.iter().enumerate().filter(|(_, plan)| wanted(plan.role));
        indices.map(|(index, _)| index).collect::<Vec<_>>().into_iter()
    }
}

/// How far the init containers are.
enum Init {
    Busy,
    Failed,
    Done,
}

impl Cell {
    fn runs(&self) -> bool {
        matches!(self.life, Life::Running(_) | Life::Spawning { .. })
    }

    /// The pod ends: whoever waits for a start gets none.
    fn give_up(&mut self) {
        match self.life {
            Life::Idle | Life::BackOff(_) => {
                self.life = self.last.take().map_or(Life::Dropped, Life::Over);
            }
            Life::Spawning { .. } | Life::Running(_) | Life::Over(_) | Life::Dropped => {}
        }
    }
}
