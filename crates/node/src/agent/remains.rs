//! What is left of a pod without a supervisor and its keeper, and what the agent can still say and do about it.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group, pidfd_send_signal, test_kill_process_group};
use sluice_pod::{
    driver::cgroup::Group,
    kernel::{boot_id, children_of, end_of_stranger, has_ended, hold_process, start_ticks},
    pod_dir::{PodDir, read_json, write_json},
    supervisor::{
        PROCESS_NAME,
        keeper::{self, Keepers, Reaped},
        spool::{STREAMS, fifo, open_fifo},
    },
    wire::{Condition, Identity, PodState},
};

/// What the kernel puts behind the path of a directory that is no more.
const REMOVED: &str = " (deleted)";

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

/// Ends the pods below `pods_dir` whose directories were removed while they ran: nobody could speak to them any more.
pub(super) fn end_homeless(pods_dir: &Path) {
    end_attendants(|place| place.removed && place.path.parent() == Some(pods_dir));
}

/// Ends whatever runs of one pod, known by its supervisor's directory alone.
pub(super) fn end_without_records(dir: &PodDir) {
    end_attendants(|place| place.path == dir.path());
}

/// The directory that somebody works in.
struct Place {
    path: PathBuf,
    removed: bool,
}

/// Ends supervisors and keepers that work in such places, and everything that they have started.
fn end_attendants(concerned: impl Fn(&Place) -> bool) {
    let attendants: Vec<(Pid, Place)> =
        attendants().filter_map(|pid| Some((pid, place(pid)?))).filter(|(_, place)| concerned(place)).collect();
    // Stopped first, because whoever is left of a keeper and its supervisor starts the other one again.
    for (pid, _) in &attendants {
        let _gone = kill_process(*pid, Signal::STOP);
    }
    for (pid, place) in &attendants {
        let group = Group::pod(&place.path.file_name().unwrap_or_default().to_string_lossy());
        group.kill();
        for child in children_of(*pid).into_iter().filter(|child| attendants.iter().all(|(pid, _)| pid != child)) {
            let _alone = kill_process_group(child, Signal::KILL).or_else(|_| kill_process(child, Signal::KILL));
        }
        let _gone = kill_process(*pid, Signal::KILL);
        group.remove();
    }
}

fn attendants() -> impl Iterator<Item = Pid> {
    let names = [PROCESS_NAME, keeper::PROCESS_NAME].map(|name| name.to_string_lossy().into_owned());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|process| Pid::from_raw(process.file_name().to_str()?.parse().ok()?));
    pids.filter(move |pid| {
        let name = fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
        names.iter().any(|known| known == name.trim_end())
    })
}

fn place(pid: Pid) -> Option<Place> {
    let path = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero())).ok()?;
    let removed = path.to_str().and_then(|path| path.strip_suffix(REMOVED)).map(PathBuf::from);
    Some(Place { removed: removed.is_some(), path: removed.unwrap_or(path) })
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
