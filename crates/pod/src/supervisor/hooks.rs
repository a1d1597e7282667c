//! Hooks: commands, requests and pauses around a container's life, each of which outlives its supervisor.

use std::{io, path::PathBuf};

use super::{
    adopt::Adopted,
    ends::{exit_code, verdict},
    run::Supervisor,
    side::{Purpose, Side, Work},
    spool::{HOOK, fifo, open_far, open_fifo},
    streams::Ends,
};
use crate::{
    driver::{Stdio, mark::Mark},
    kernel,
    lifecycle::{Input, Moment},
    plan::Hook,
    wire::{HookRun, Identity},
};

impl Supervisor {
    pub(super) fn run_hook(&mut self, index: usize, moment: Moment) -> io::Result<()> {
        let (work, deadline_ms) = match self.hook(index, moment)? {
            Hook::Exec { command } => (self.hook_command(index, &command)?, None),
            Hook::Http { address, port, path, headers } => (Work::http(&address, port, &path, &headers)?, None),
            Hook::Sleep { seconds } => (Work::Sleep, Some(kernel::now().mono_ms + seconds * 1000)),
            Hook::Invalid { problem } => return Err(io::Error::other(problem)),
        };
        self.sides.push(Side { container: index, purpose: Purpose::Hook(moment), work, deadline_ms });
        Ok(())
    }

    /// Goes on with a hook of a lost supervisor. A request is made again: its answer is lost, and GET may be repeated.
    pub(super) fn resume_hook(&mut self, index: usize, moment: Moment, hook: HookRun) {
        let purpose = Purpose::Hook(moment);
        match self.hook(index, moment) {
            Ok(Hook::Sleep { seconds }) => {
                let deadline_ms = Some(hook.since_ms + seconds * 1000);
                self.sides.push(Side { container: index, purpose, work: Work::Sleep, deadline_ms });
            }
            Ok(Hook::Exec { .. }) => {
                match hook.process.or_else(|| self.find_announced(&self.hook_mark(index), hook.since_ms)) {
                    Some(process) => self.adopt_hook(index, moment, process),
                    None => self.run_hook_anew(index, moment),
                }
            }
            _ => self.run_hook_anew(index, moment),
        }
    }

    fn run_hook_anew(&mut self, index: usize, moment: Moment) {
        if let Err(error) = self.run_hook(index, moment) {
            self.feed_later(Input::HookEnded { index, moment, result: Err(error.to_string()) });
        }
    }

    pub(super) fn end_hook(&mut self, side: &Side, result: Result<(), String>) {
        if let Purpose::Hook(moment) = side.purpose {
            self.feed(Input::HookEnded { index: side.container, moment, result });
        }
    }

    /// Looks whether an adopted hook has ended.
    pub(super) fn attend_hook(&mut self, index: usize) {
        if !matches!(&self.sides[index].work, Work::Adopted { process, .. } if process.has_ended()) {
            return;
        }
        let side = self.sides.remove(index);
        let Work::Adopted { process, output, .. } = &side.work else { return };
        let result = hook_result(self.end_of(process), output);
        self.end_hook(&side, result);
    }

    fn adopt_hook(&mut self, index: usize, moment: Moment, process: Identity) {
        self.feed_later(Input::HookBegan { index, process });
        match Adopted::hold(process) {
            Some(process) => {
                let pipe = open_fifo(&self.hook_fifo(index)).ok();
                let (purpose, work) = (Purpose::Hook(moment), Work::Adopted { process, pipe, output: Vec::new() });
                self.sides.push(Side { container: index, purpose, work, deadline_ms: None });
            }
            None => {
                let result = hook_result(self.reaped(process), &[]);
                self.feed_later(Input::HookEnded { index, moment, result });
            }
        }
    }

    fn hook(&self, index: usize, moment: Moment) -> io::Result<Hook> {
        let plan = &self.machine.plan().containers[index];
        let hook = match moment {
            Moment::PostStart => &plan.post_start,
            Moment::PreStop => &plan.pre_stop,
        };
        hook.clone().ok_or_else(|| io::Error::other("the plan has no such hook"))
    }

    fn hook_command(&mut self, index: usize, argv: &[String]) -> io::Result<Work> {
        let command = self.command(index)?;
        let container = &self.machine.plan().containers[index].name;
        let near = open_fifo(&self.hook_fifo(index))?;
        while matches!(rustix::io::read(&near, &mut [0u8; 4096]), Ok(1..)) {}
        let far = open_far(&self.dir, container, HOOK, command.uid)?;
        let far = Stdio::Pipes { stdin: None, stdout: Some(far.try_clone()?), stderr: Some(far) };
        let mark = Mark::new(&self.hook_mark(index))?;
        // From here on there may be a process: whoever comes after us has to know.
        self.save_state(&self.next_state());
        let spawned = self.driver.exec(&command, argv, far, Some(mark))?;
        let process = Identity { pid: spawned.pid.as_raw_nonzero().get(), ticks: spawned.ticks };
        self.feed_later(Input::HookBegan { index, process });
        Ok(Work::process(spawned.pid, Ends { stdin: None, stdout: Some(near), stderr: None }))
    }

    /// Where it is noted that a hook's command has begun.
    fn hook_mark(&self, index: usize) -> PathBuf {
        self.dir.begun_hook(&self.machine.plan().containers[index].name)
    }

    fn hook_fifo(&self, index: usize) -> PathBuf {
        fifo(&self.dir, &self.machine.plan().containers[index].name, HOOK)
    }
}

/// A hook that ended unseen has run, which is all that was promised.
fn hook_result(status: Option<i32>, output: &[u8]) -> Result<(), String> {
    status.map_or(Ok(()), |status| verdict(exit_code(status).0, &String::from_utf8_lossy(output)))
}
