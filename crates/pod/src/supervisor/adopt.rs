//! A supervisor that takes over what a lost one has left running.

use std::{fs, os::fd::OwnedFd, path::Path};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    keeper::Reaped,
    output::{Inlet, Output},
    run::{Slot, Supervisor},
};
use crate::{
    driver::mark,
    kernel,
    lifecycle::Input,
    pod_dir::{PodDir, read_json},
    wire::{Condition, Exit, Identity},
};

/// How often those are looked for who were started while others were ended.
const MAX_ROUNDS: usize = 100;

/// A container's process that is not our child.
#[derive(Debug)]
pub(super) struct Adopted {
    pub(super) pidfd: OwnedFd,
    pub(super) pid: i32,
    ticks: u64,
}

impl Adopted {
    /// `None` when it is no more.
    pub(super) fn hold(Identity { pid, ticks }: Identity) -> Option<Self> {
        kernel::hold_process(pid, ticks).map(|pidfd| Self { pidfd, pid, ticks })
    }

    pub(super) fn has_ended(&self) -> bool {
        kernel::has_ended(&self.pidfd)
    }
}

impl Supervisor {
    pub(super) fn adopt(&mut self) {
        self.recorded = fs::read_to_string(self.dir.exits())
            .ok()
            .and_then(|text| serde_json::from_str::<Exit>(text.lines().next_back()?).ok())
            .map(|exit| exit.id);
        // First everybody gets a place, then the machine hears: it may have orders for anyone at once.
        let mut running = Vec::new();
        for (index, container) in self.machine.state().containers.iter().enumerate() {
            if let Condition::Running { pid, ticks, .. } = container.condition {
                self.take_over(index, pid, ticks);
                running.push((index, pid, ticks));
            }
        }
        for (index, since_ms) in self.machine.announced() {
            match self.find_announced(&self.mark(index), since_ms) {
                Some(Identity { pid, ticks }) => {
                    self.take_over(index, pid, ticks);
                    self.feed(Input::Spawned { index, pid, ticks });
                    running.push((index, pid, ticks));
                }
                None => {
                    if let Ok(command) = self.command(index) {
                        self.driver.abandon(&command);
                    }
                    self.feed(Input::NotSpawned { index });
                }
            }
        }
        for (index, pid, ticks) in running {
            if self.containers[index].adopted.is_none() && self.containers[index].pid == Pid::from_raw(pid) {
                self.ended_unseen(index, pid, self.reaped(Identity { pid, ticks }));
            }
        }
    }

    fn take_over(&mut self, index: usize, pid: i32, ticks: u64) {
        let restart_count = self.machine.restart_count(index);
        let input = self.stdins.remove(&pid);
        let output = if self.machine.plan().containers[index].tty {
            let terminal = input.as_ref().and_then(|terminal| terminal.try_clone().ok()).map(Inlet::Terminal);
            self.output(index, restart_count, |place| Output::begin(place, [terminal, None]))
        } else {
            self.output(index, restart_count, Output::resume)
        };
        let adopted = Adopted::hold(Identity { pid, ticks });
        self.containers[index] = Slot { pid: Pid::from_raw(pid), output: output.ok(), input, adopted };
        if let (Ok(command), Some(pid)) = (self.command(index), Pid::from_raw(pid)) {
            self.driver.adopt(&command, pid);
        }
    }

    /// An adopted container has ended.
    pub(super) fn adopted_ended(&mut self, index: usize) {
        let Some(adopted) = self.containers[index].adopted.take() else { return };
        self.ended_unseen(index, adopted.pid, self.end_of(&adopted));
    }

    /// How somebody else's child has ended, as `wait` has it.
    pub(super) fn end_of(&self, Adopted { pidfd, pid, ticks }: &Adopted) -> Option<i32> {
        let process = Identity { pid: *pid, ticks: *ticks };
        kernel::end_of_stranger(*pid, *ticks, pidfd).or_else(|| self.reaped(process))
    }

    fn ended_unseen(&mut self, index: usize, pid: i32, status: Option<i32>) {
        match (status, Pid::from_raw(pid)) {
            (Some(status), Some(pid)) => self.container_ended(index, pid, status),
            _ => {
                if let Some(output) = &mut std::mem::take(&mut self.containers[index]).output {
                    output.close(&mut []);
                }
                self.feed(Input::Lost { index });
            }
        }
    }

    /// What a keeper has written down of it.
    pub(super) fn reaped(&self, Identity { pid, ticks }: Identity) -> Option<i32> {
        self.all_reaped().iter().find(|reaped| reaped.pid == pid && reaped.ticks == ticks).map(|reaped| reaped.status)
    }

    fn all_reaped(&self) -> Vec<Reaped> {
        read_json(&self.dir.reaped()).ok().flatten().unwrap_or_default()
    }

    /// Who has begun of a start that was announced since: it is there, or has ended. What is half-made is ended.
    pub(super) fn find_announced(&self, mark: &Path, since_ms: u64) -> Option<Identity> {
        let ended = end_half_made(&self.dir);
        let since_ticks = kernel::ticks_at(since_ms).saturating_sub(1);
        let pid = mark::begun(mark)?;
        let reaped = || self.all_reaped().into_iter().find(|it| it.pid == pid && it.ticks >= since_ticks);
        let lives = kernel::start_ticks(pid).filter(|ticks| *ticks >= since_ticks);
        let ticks = lives.or_else(|| reaped().map(|reaped| reaped.ticks));
        ticks.filter(|_| !ended.contains(&pid)).map(|ticks| Identity { pid, ticks })
    }
}

/// Ends what a lost supervisor has forked and not made a container of: it waits for orders that nobody gives any more, and has
/// the pod's lock, which every program that is started lets go of. Says whom it ended.
pub(super) fn end_half_made(dir: &PodDir) -> Vec<i32> {
    let lock = dir.lock();
    end_holders(|_, open| open == lock)
}

/// Ends what writes where the pod's containers do, when no record says what it is: what is started now would run beside it.
pub(super) fn end_writers(dir: &PodDir) {
    let stdio = dir.stdio();
    // Whoever is ended may have started others in the meantime.
    let ended = || end_holders(|fd, open| (fd == "1" || fd == "2") && open.starts_with(&stdio));
    let _rounds = (0..MAX_ROUNDS).take_while(|_| !ended().is_empty()).count();
}

/// Ends all who have something open, by the number and the path of what is open.
fn end_holders(matters: impl Fn(&str, &Path) -> bool) -> Vec<i32> {
    let ours = [Some(rustix::process::getpid()), rustix::process::getppid()];
    let mut ended = Vec::new();
    for pid in kernel::processes() {
        let holds = kernel::open_files(pid).iter().any(|(fd, open)| matters(fd, open));
        if let Some(pid) = Pid::from_raw(pid).filter(|pid| holds && !ours.contains(&Some(*pid))) {
            let _gone = kill_process(pid, Signal::KILL);
            ended.push(pid.as_raw_nonzero().get());
        }
    }
    ended
}
