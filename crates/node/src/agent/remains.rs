//! What is left of a pod without a supervisor and its keeper, and what the agent can still say and do about it.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal, test_kill_process_group};

use crate::{
    pod_dir::{PodDir, read_json, write_json},
    supervisor::{
        cgroup::Group,
        keeper::{Keepers, Reaped},
        kernel::{boot_id, end_of_stranger, has_ended, hold_process, start_ticks},
        spool::{STREAMS, fifo, open_fifo},
    },
    wire::{Condition, Identity, PodState},
};

/// Hands on the running containers of a pod: their processes, whose ends are known by it, and their FIFOs, which keep what
/// was written last. Needed only when a supervisor and its keeper are killed together.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<String, Hold>);

#[derive(Debug)]
struct Hold {
    pid: i32,
    ticks: u64,
    process: OwnedFd,
    _fifos: Vec<OwnedFd>,
}

impl Holds {
    /// Takes hold of what runs now and lets go of everything else.
    pub(super) fn follow(&mut self, dir: &PodDir, state: &PodState) {
        let running: Vec<(&str, &str, i32, u64)> = state
            .containers
            .iter()
            .filter_map(|container| match &container.condition {
                Condition::Running { id, pid, ticks, .. } => Some((container.name.as_str(), id.as_str(), *pid, *ticks)),
                Condition::Waiting { .. } | Condition::Terminated(_) => None,
            })
            .collect();
        self.0.retain(|held, _| running.iter().any(|(_, id, ..)| id == held));
        for (name, id, pid, ticks) in running {
            if self.0.contains_key(id) {
                continue;
            }
            let Some(process) = hold_process(pid, ticks) else { continue };
            let fifos = STREAMS.into_iter().filter_map(|stream| open_fifo(&fifo(dir, name, stream)).ok()).collect();
            self.0.insert(id.to_owned(), Hold { pid, ticks, process, _fifos: fifos });
        }
    }

    /// Writes down how containers have ended, for a supervisor to come. No other one may be at work.
    pub(super) fn testify(&self, dir: &PodDir) -> std::io::Result<()> {
        let mut reaped: Vec<Reaped> = read_json(&dir.reaped())?.unwrap_or_default();
        for Hold { pid, ticks, process, .. } in self.0.values() {
            if let Some(status) = end_of_stranger(*pid, *ticks, process) {
                reaped.push(Reaped { pid: *pid, ticks: *ticks, status });
            }
        }
        write_json(&dir.reaped(), &reaped)
    }
}

/// Ends a supervisor that does not answer; its keeper starts another one, which goes on with everything. When the supervisor
/// that is known is not there, it is the keeper who fails to start one.
pub(super) fn unseat(dir: &PodDir) {
    let Ok(Some(Keepers { keeper, supervisor })) = read_json(&dir.keepers()) else { return };
    if let Some(silent) = living(supervisor).or_else(|| living(keeper)) {
        let _gone = pidfd_send_signal(silent, Signal::KILL);
    }
}

/// Whether anybody is there who could answer for a pod.
pub(super) fn is_attended(dir: &PodDir) -> bool {
    let keepers = read_json(&dir.keepers()).ok().flatten();
    keepers.is_some_and(|Keepers { keeper, supervisor }| living(supervisor).or_else(|| living(keeper)).is_some())
}

/// Whoever is left of a keeper and its supervisor starts the other one again: stopped first, they end together.
fn end_keepers(dir: &PodDir) {
    let Ok(Some(Keepers { keeper, supervisor })) = read_json(&dir.keepers()) else { return };
    let both: Vec<OwnedFd> = [keeper, supervisor].into_iter().filter_map(living).collect();
    for signal in [Signal::STOP, Signal::KILL] {
        for process in &both {
            let _gone = pidfd_send_signal(process, signal);
        }
    }
}

fn living(Identity { pid, ticks }: Identity) -> Option<OwnedFd> {
    hold_process(pid, ticks).filter(|process| !has_ended(process))
}

/// Kills what runs of a pod whose supervisor cannot be reached.
///
/// A process id is trusted only together with the start time that was written down, so that nobody else's process is hit: a
/// group outlives its first process, but its id is not given away while the group lives.
pub(super) fn kill(dir: &PodDir, state: &PodState) {
    end_keepers(dir);
    // Containers are known by their control group, whatever their processes' ids are now.
    let uid = dir.path().file_name().unwrap_or_default().to_string_lossy();
    let group = Group::pod(&uid);
    group.kill();
    group.remove();
    if state.boot_id != boot_id() {
        return;
    }
    for container in &state.containers {
        let Condition::Running { pid, ticks, .. } = container.condition else { continue };
        let Some(group) = Pid::from_raw(pid) else { continue };
        let leader = start_ticks(pid);
        if leader.is_none_or(|leader| leader == ticks) && test_kill_process_group(group).is_ok() {
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}
