//! How processes end, and how the supervisor does in the end.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal},
};

use super::{
    connection::Connection,
    output::Output,
    run::{Source, Supervisor},
    side::{Purpose, Side, Work},
    taps::Tap,
};
use crate::{
    kernel::{self, Ended},
    lifecycle::{Death, Input},
    wire::{ExecOutcome, Outcome},
};

/// What a termination message may hold.
const MAX_TERMINATION_BYTES: u64 = 4096;
/// How long a finished supervisor stays for agents that still read.
const FAREWELL_MS: u64 = 1_000;

impl Supervisor {
    /// Takes in every child that has ended: containers, commands, and orphans that nobody else waits for.
    ///
    /// The kernel may forget a child only when its end is written down: a keeper takes over whoever we did not get to.
    pub(super) fn reap(&mut self) {
        while let Some(Ended { pid, status }) = kernel::next_end() {
            if let Some(index) = self.containers.iter().position(|slot| slot.pid == Some(pid)) {
                self.container_ended(index, pid, status);
                self.publish();
            } else if let Some(index) = self.sides.iter().position(|side| side_pid(side) == Some(pid)) {
                self.side_ended(index, status);
            }
            kernel::forget(pid);
        }
    }

    /// `status` is what `wait` would say.
    pub(super) fn container_ended(&mut self, index: usize, pid: Pid, status: i32) {
        // Whatever the first process has left behind ends with it.
        let remains = self.driver.ended(pid);
        self.drop_sides(|side| side.container == index);
        let mut slot = std::mem::take(&mut self.containers[index]);
        if let Some(output) = &mut slot.output {
            output.close(&mut taps_of(&mut self.taps, index));
        }
        let (code, signal) = exit_code(status);
        self.end_taps(index, code);
        let message = self.last_words(index, code, slot.output.as_ref());
        let out_of_memory = remains.out_of_memory && signal == Some(Signal::KILL.as_raw());
        self.feed(Input::Exited { index, death: Death { code, signal, out_of_memory, message } });
    }

    fn last_words(&self, index: usize, code: i32, output: Option<&Output>) -> String {
        let plan = &self.machine.plan().containers[index];
        let text = read_words(&plan.termination_file).unwrap_or_default();
        match output {
            Some(output) if text.is_empty() && code != 0 && plan.termination_from_logs => output.tail(),
            _ => String::from_utf8_lossy(&text).into_owned(),
        }
    }

    fn side_ended(&mut self, index: usize, status: i32) {
        let mut side = self.sides.remove(index);
        side.work.drain();
        let (code, _) = exit_code(status);
        if let Purpose::Session { connection, call } = side.purpose {
            // What it has left in the background is left to run until its container ends.
            return self.reply(connection, call, Outcome::Exec(ExecOutcome::Exited { code, output: String::new() }));
        }
        self.kill_side(&side);
        let Work::Process { output, .. } = &side.work else { return };
        let output = String::from_utf8_lossy(output).into_owned();
        match side.purpose {
            Purpose::Probe { connection, call } => {
                self.reply(connection, call, Outcome::Exec(ExecOutcome::Exited { code, output }));
            }
            Purpose::Session { .. } => {}
            Purpose::Hook(_) => self.end_hook(&side, verdict(code, &output)),
        }
    }

    /// Nothing runs any more: ends strays, lets the agents read the last state, and takes the socket away.
    pub(super) fn leave(&mut self) {
        self.drop_sides(|_| true);
        kernel::end_children();
        self.driver.close();
        self.save_exits();
        self.accept();
        let _gone = std::fs::remove_file(self.dir.socket());
        let until_ms = kernel::now().mono_ms + FAREWELL_MS;
        while self.still_owes() && kernel::now().mono_ms < until_ms {
            for source in self.wait_for_something(Some(until_ms)) {
                self.say_farewell(source);
            }
            self.connections.retain_mut(|connection| connection.flush(&self.published).is_ok());
            self.tend_taps();
        }
    }

    fn still_owes(&self) -> bool {
        !self.taps.is_empty() || self.connections.iter().any(Connection::wants_to_write)
    }

    /// Only readers count now, and that they are still there.
    fn say_farewell(&mut self, source: Source) {
        if matches!(source, Source::Tap { .. } | Source::Connection { .. }) {
            self.serve(source);
        }
    }
}

/// The file belongs to whoever runs in the container, who may have put anything in its place.
fn read_words(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut text = Vec::new();
    if file.metadata()?.is_file() {
        file.take(MAX_TERMINATION_BYTES).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// What the end of a hook's command says.
pub(super) fn verdict(code: i32, output: &str) -> Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("exit code {code}: {}", output.trim_end())) }
}

/// The readers that are attached to this run of a container.
pub(super) fn taps_of(taps: &mut [Tap], index: usize) -> Vec<&mut Tap> {
    taps.iter_mut().filter(|tap| tap.container == index && !tap.ended).collect()
}

fn side_pid(side: &Side) -> Option<Pid> {
    match side.work {
        Work::Process { pid, .. } => Some(pid),
        Work::Adopted { .. } | Work::Sleep | Work::Http { .. } => None,
    }
}

/// A signal's exit code is 128 more than its number.
pub(super) fn exit_code(status: i32) -> (i32, Option<i32>) {
    match status & 0x7f {
        0 => ((status >> 8) & 0xff, None),
        signal => (128 + signal, Some(signal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_short_and_the_containers_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("termination-log");
        let read = || read_words(&path).map(|text| text.len()).ok();
        assert_eq!(read(), None);
        std::fs::write(&path, "x".repeat(5000)).expect("a file");
        assert_eq!(read(), Some(4096));
        std::fs::remove_file(&path).expect("our own file");
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "pw").expect("a file");
        std::os::unix::fs::symlink(&secret, &path).expect("a link");
        assert_eq!(read(), None, "a link leads to files that are not the container's");
        std::fs::remove_file(&path).expect("our own link");
        kernel::make_fifo(&path, Mode::RWXU).expect("a FIFO");
        assert_eq!(read(), Some(0), "nobody waits for a FIFO's other end");
    }
}
