//! The supervisor's one loop: everything that happens in a pod comes by here, one thing at a time.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    process::ExitCode,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait},
};

use super::{
    connection::Connection,
    driver::{Driver, ProcessDriver},
    kernel,
    output::Output,
    side::{Purpose, Side, Work},
};
use crate::{
    lifecycle::{Action, Input, Machine, Moment},
    plan::{Command, Hook, Launch},
    pod_dir::{PodDir, write_json},
    wire::{Call, ExecOutcome, Exit, Message, Outcome, PodState, Request, WIRE_VERSION},
};

/// Agents at one time; more are turned away.
const MAX_CONNECTIONS: usize = 16;
/// Hooks and probes at one time; more probes are refused.
const MAX_SIDES: usize = 64;
/// What a termination message may hold.
const MAX_TERMINATION_BYTES: usize = 4096;
/// How long a finished supervisor stays for agents that still read.
const FAREWELL_MS: u64 = 1_000;
/// Rounds of killing what a finished pod has left behind; each round can uncover orphans of the one before.
const MAX_SWEEPS: usize = 16;

pub(super) struct Supervisor {
    dir: PodDir,
    /// Held, not used: it keeps other supervisors away.
    _lock: File,
    driver: ProcessDriver,
    machine: Machine,
    inputs: VecDeque<Input>,
    containers: Vec<Slot>,
    sides: Vec<Side>,
    listener: UnixListener,
    signals: OwnedFd,
    connections: Vec<Connection>,
    next_connection: u64,
    published: PodState,
}

/// The process of a container, while there is one.
#[derive(Default)]
struct Slot {
    pid: Option<Pid>,
    output: Option<Output>,
}

/// What a poll was about.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Container { index: usize, pipe: usize },
    Side { index: usize },
    Connection { id: u64 },
}

impl Supervisor {
    pub(super) fn new(
        dir: PodDir,
        lock: File,
        machine: Machine,
        sequence: u64,
        listener: UnixListener,
        signals: OwnedFd,
    ) -> Self {
        let containers = machine.plan().containers.iter().map(|_| Slot::default()).collect();
        Self {
            dir,
            _lock: lock,
            driver: ProcessDriver,
            machine,
            inputs: VecDeque::new(),
            containers,
            sides: Vec::new(),
            listener,
            signals,
            connections: Vec::new(),
            next_connection: 0,
            published: PodState { sequence, ..PodState::default() },
        }
    }

    pub(super) fn run(mut self) -> ExitCode {
        self.feed(Input::Tick);
        self.publish();
        while !self.machine.finished() {
            for source in self.wait_for_something(self.next_wake_ms()) {
                self.serve(source);
            }
            self.expire();
            self.publish();
        }
        self.leave();
        ExitCode::SUCCESS
    }

    /// Gives the machine an input and does what it says, until it has nothing more to say.
    fn feed(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            for action in self.machine.step(input, kernel::now()) {
                self.act(action);
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn { index, restart_count } => {
                let input = match self.start(index, restart_count) {
                    Ok((pid, ticks)) => Input::Spawned { index, pid: pid.as_raw_nonzero().get(), ticks },
                    Err(error) => Input::SpawnFailed { index, message: error.to_string() },
                };
                self.inputs.push_back(input);
            }
            Action::Signal { index, signal } => {
                self.signal(index, Signal::from_named_raw(signal).unwrap_or(Signal::TERM));
            }
            Action::Kill { index } => self.signal(index, Signal::KILL),
            Action::RunHook { index, moment } => {
                if let Err(error) = self.run_hook(index, moment) {
                    self.inputs.push_back(Input::HookEnded { index, moment, result: Err(error.to_string()) });
                }
            }
            Action::CancelHook { index, moment } => {
                self.drop_sides(|side| side.container == index && side.purpose == Purpose::Hook(moment));
            }
            Action::Record { exit, .. } => self.record(&exit),
            Action::Finish => {}
        }
    }

    fn start(&mut self, index: usize, restart_count: u32) -> io::Result<(Pid, u64)> {
        let plan = &self.machine.plan().containers[index];
        let Launch::Ready(command) = &plan.launch else { return Err(io::Error::other("no command yet")) };
        let log_dir = self.machine.plan().log_dir.join(&plan.name);
        match std::fs::remove_file(&plan.termination_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let spawned = self.driver.start(command)?;
        let output = match Output::new(&log_dir, restart_count, spawned.stdout, spawned.stderr) {
            Ok(output) => output,
            Err(error) => {
                self.driver.signal(spawned.pid, Signal::KILL);
                return Err(io::Error::new(
                    error.kind(),
                    format!("cannot write logs to `{}`: {error}", log_dir.display()),
                ));
            }
        };
        self.containers[index] = Slot { pid: Some(spawned.pid), output: Some(output) };
        Ok((spawned.pid, spawned.ticks))
    }

    fn signal(&mut self, index: usize, signal: Signal) {
        if let Some(pid) = self.containers[index].pid {
            self.driver.signal(pid, signal);
        }
    }

    fn command(&self, index: usize) -> io::Result<Command> {
        match &self.machine.plan().containers[index].launch {
            Launch::Ready(command) => Ok(command.clone()),
            Launch::Withheld { .. } => Err(io::Error::other("the container has no command yet")),
        }
    }

    fn run_hook(&mut self, index: usize, moment: Moment) -> io::Result<()> {
        let plan = &self.machine.plan().containers[index];
        let hook = match moment {
            Moment::PostStart => plan.post_start.clone(),
            Moment::PreStop => plan.pre_stop.clone(),
        };
        let (work, deadline_ms) = match hook {
            None => return Err(io::Error::other("the plan has no such hook")),
            Some(Hook::Exec { command }) => (Work::process(self.driver.exec(&self.command(index)?, &command)?), None),
            Some(Hook::Http { address, port, path, headers }) => (Work::http(&address, port, &path, &headers)?, None),
            Some(Hook::Sleep { seconds }) => (Work::Sleep, Some(kernel::now().mono_ms + seconds * 1000)),
        };
        self.sides.push(Side { container: index, purpose: Purpose::Hook(moment), work, deadline_ms });
        Ok(())
    }

    /// Appends how a container ended, and waits until the disk has it.
    fn record(&mut self, exit: &Exit) {
        let append = || -> io::Result<()> {
            let mut file = File::options().append(true).create(true).open(self.dir.exits())?;
            let mut line = serde_json::to_vec(exit)?;
            line.push(b'\n');
            file.write_all(&line)?;
            file.sync_data()
        };
        if let Err(error) = append() {
            complain(&format!("exit record of {} not written: {error}", exit.id));
        }
    }

    /// Makes a changed state durable against our own end, and tells the agents.
    fn publish(&mut self) {
        let mut state = self.machine.state();
        state.sequence = self.published.sequence;
        if state != self.published {
            state.sequence += 1;
            self.published = state;
            if let Err(error) = write_json(&self.dir.state(), &self.published) {
                complain(&format!("state not written: {error}"));
            }
            self.connections.iter_mut().for_each(Connection::owe_state);
        }
        self.connections.retain_mut(|connection| connection.flush(&self.published).is_ok());
    }

    fn next_wake_ms(&self) -> Option<u64> {
        self.sides.iter().filter_map(|side| side.deadline_ms).chain(self.machine.wake_at_ms()).min()
    }

    fn wait_for_something(&self, wake_at_ms: Option<u64>) -> Vec<Source> {
        let sources = self.sources();
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let timeout = wake_at_ms.map(|at_ms| {
            let wait_ms = at_ms.saturating_sub(kernel::now().mono_ms);
            Timespec { tv_sec: (wait_ms / 1000).cast_signed(), tv_nsec: (wait_ms % 1000 * 1_000_000).cast_signed() }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => fds.iter().zip(&sources).filter(|(fd, _)| !fd.revents().is_empty()).map(|(_, s)| s.0).collect(),
            // Interrupted: whatever it was is still there at the next turn.
            Err(_) => Vec::new(),
        }
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut sources = vec![
            (Source::Signals, self.signals.as_fd(), PollFlags::IN),
            (Source::Listener, self.listener.as_fd(), PollFlags::IN),
        ];
        for (index, slot) in self.containers.iter().enumerate() {
            let pipes = slot.output.iter().flat_map(|output| output.pipes.iter().enumerate());
            sources.extend(pipes.filter_map(|(pipe, fd)| {
                Some((Source::Container { index, pipe }, fd.as_ref()?.as_fd(), PollFlags::IN))
            }));
        }
        for (index, side) in self.sides.iter().enumerate() {
            match &side.work {
                Work::Process { pipes, .. } => {
                    sources
                        .extend(pipes.iter().flatten().map(|fd| (Source::Side { index }, fd.as_fd(), PollFlags::IN)));
                }
                Work::Http { stream, .. } => sources.push((Source::Side { index }, stream.as_fd(), PollFlags::IN)),
                Work::Sleep => {}
            }
        }
        for connection in &self.connections {
            let write = if connection.wants_to_write() { PollFlags::OUT } else { PollFlags::empty() };
            sources.push((Source::Connection { id: connection.id }, connection.stream.as_fd(), PollFlags::IN | write));
        }
        sources
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Signals => {
                while matches!(rustix::io::read(&self.signals, &mut [0u8; 64]), Ok(64)) {}
                self.reap();
            }
            Source::Listener => self.accept(),
            Source::Container { index, pipe } => {
                if let Some(output) = &mut self.containers[index].output {
                    output.drain(pipe);
                }
            }
            Source::Side { index } => self.serve_side(index),
            Source::Connection { id } => self.serve_connection(id),
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() == MAX_CONNECTIONS {
                continue;
            }
            if let Ok(mut connection) = Connection::new(self.next_connection, stream) {
                connection.send(&Message::Hello { version: WIRE_VERSION, pid: std::process::id() });
                self.next_connection += 1;
                self.connections.push(connection);
            }
        }
    }

    fn serve_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        match connection.read() {
            Ok(calls) => calls.into_iter().for_each(|call| self.answer(id, call)),
            Err(_) => self.connections.retain(|connection| connection.id != id),
        }
    }

    fn answer(&mut self, connection: u64, call: Call) {
        if let Some(outcome) = self.handle(connection, call.id, call.request) {
            self.reply(connection, call.id, outcome);
        }
    }

    fn reply(&mut self, connection: u64, call: u64, outcome: Outcome) {
        if let Some(connection) = self.connections.iter_mut().find(|candidate| candidate.id == connection) {
            connection.send(&Message::Reply { id: call, outcome });
        }
    }

    /// `None`: the reply comes later.
    fn handle(&mut self, connection: u64, call: u64, request: Request) -> Option<Outcome> {
        let find = |machine: &Machine, name: &str| machine.plan().containers.iter().position(|plan| plan.name == name);
        let unknown = |name: &str| Some(Outcome::Refused(format!("no container `{name}`")));
        match request {
            Request::Status => return Some(Outcome::State(self.published.clone())),
            Request::Watch => {
                if let Some(connection) = self.connections.iter_mut().find(|candidate| candidate.id == connection) {
                    connection.watching = true;
                    connection.owe_state();
                }
            }
            Request::Stop { grace_seconds } => self.feed(Input::Stop { grace_ms: grace_seconds.saturating_mul(1000) }),
            Request::End { container, id, grace_seconds, message } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                self.feed(Input::End { index, id, grace_ms: grace_seconds.saturating_mul(1000), message });
            }
            Request::Started { container, id } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                self.feed(Input::StartupPassed { index, id });
            }
            Request::Provide { container, launch } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                self.feed(Input::Provide { index, launch: *launch });
                if let Err(error) = write_json(&self.dir.plan(), self.machine.plan()) {
                    return Some(Outcome::Refused(format!("plan not written: {error}")));
                }
            }
            Request::Exec { container, command, timeout_ms } => {
                let Some(index) = find(&self.machine, &container) else { return unknown(&container) };
                let purpose = Purpose::Probe { connection, call };
                return self
                    .probe(index, purpose, &command, timeout_ms)
                    .err()
                    .map(|error| Outcome::Exec(ExecOutcome::Failed(error.to_string())));
            }
        }
        Some(Outcome::Done)
    }

    fn probe(&mut self, index: usize, purpose: Purpose, command: &[String], timeout_ms: u64) -> io::Result<()> {
        if self.containers[index].pid.is_none() {
            return Err(io::Error::other("the container does not run"));
        }
        if self.sides.len() >= MAX_SIDES {
            return Err(io::Error::other(format!("{MAX_SIDES} commands run in this pod already")));
        }
        let work = Work::process(self.driver.exec(&self.command(index)?, command)?);
        let deadline_ms = Some(kernel::now().mono_ms.saturating_add(timeout_ms));
        self.sides.push(Side { container: index, purpose, work, deadline_ms });
        Ok(())
    }

    fn serve_side(&mut self, index: usize) {
        let Some(side) = self.sides.get_mut(index) else { return };
        side.work.drain();
        if let Some(result) = side.work.read_http() {
            let side = self.sides.remove(index);
            self.end_hook(&side, result);
        }
    }

    fn end_hook(&mut self, side: &Side, result: Result<(), String>) {
        if let Purpose::Hook(moment) = side.purpose {
            self.feed(Input::HookEnded { index: side.container, moment, result });
        }
    }

    /// Deadlines of the machine and of what runs beside the containers.
    fn expire(&mut self) {
        let now_ms = kernel::now().mono_ms;
        while let Some(index) = self.sides.iter().position(|side| side.deadline_ms.is_some_and(|at| at <= now_ms)) {
            let side = self.sides.remove(index);
            self.kill_side(&side);
            match side.purpose {
                Purpose::Probe { connection, call } => {
                    self.reply(connection, call, Outcome::Exec(ExecOutcome::TimedOut));
                }
                Purpose::Hook(_) => self.end_hook(&side, Ok(())),
            }
        }
        if self.machine.wake_at_ms().is_some_and(|at| at <= now_ms) {
            self.feed(Input::Tick);
        }
    }

    fn kill_side(&mut self, side: &Side) {
        if let Work::Process { pid, .. } = side.work {
            self.driver.signal(pid, Signal::KILL);
        }
    }

    fn drop_sides(&mut self, doomed: impl Fn(&Side) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.sides).into_iter().partition(doomed);
        self.sides = kept;
        for side in Vec::from_iter::<Vec<Side>>(gone) {
            self.kill_side(&side);
            if let Purpose::Probe { connection, call } = side.purpose {
                let outcome = ExecOutcome::Failed("the container has ended".to_owned());
                self.reply(connection, call, Outcome::Exec(outcome));
            }
        }
    }

    /// Takes in every child that has ended: containers, commands, and orphans that nobody else waits for.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(index) = self.containers.iter().position(|slot| slot.pid == Some(pid)) {
                self.container_ended(index, pid, status);
            } else if let Some(index) = self.sides.iter().position(|side| side_pid(side) == Some(pid)) {
                self.side_ended(index, status);
            }
        }
    }

    fn container_ended(&mut self, index: usize, pid: Pid, status: WaitStatus) {
        // Whatever the first process has left behind ends with it.
        self.driver.signal(pid, Signal::KILL);
        self.drop_sides(|side| side.container == index);
        let mut slot = std::mem::take(&mut self.containers[index]);
        if let Some(output) = &mut slot.output {
            output.close();
        }
        let (code, signal) = exit_code(status);
        let message = self.last_words(index, code, slot.output.as_ref());
        self.feed(Input::Exited { index, code, signal, message });
    }

    fn last_words(&self, index: usize, code: i32, output: Option<&Output>) -> String {
        let plan = &self.machine.plan().containers[index];
        let mut text = std::fs::read(&plan.termination_file).unwrap_or_default();
        text.truncate(MAX_TERMINATION_BYTES);
        match output {
            Some(output) if text.is_empty() && code != 0 && plan.termination_from_logs => output.tail(),
            _ => String::from_utf8_lossy(&text).into_owned(),
        }
    }

    fn side_ended(&mut self, index: usize, status: WaitStatus) {
        let mut side = self.sides.remove(index);
        side.work.drain();
        self.kill_side(&side);
        let (code, _) = exit_code(status);
        let Work::Process { output, .. } = &side.work else { return };
        let output = String::from_utf8_lossy(output).into_owned();
        match side.purpose {
            Purpose::Probe { connection, call } => {
                self.reply(connection, call, Outcome::Exec(ExecOutcome::Exited { code, output }));
            }
            Purpose::Hook(_) if code == 0 => self.end_hook(&side, Ok(())),
            Purpose::Hook(_) => self.end_hook(&side, Err(format!("exit code {code}: {}", output.trim_end()))),
        }
    }

    /// Nothing runs any more: ends strays, lets the agents read the last state, and takes the socket away.
    fn leave(&mut self) {
        self.drop_sides(|_| true);
        for _ in 0..MAX_SWEEPS {
            let strays = kernel::children();
            if strays.is_empty() {
                break;
            }
            for stray in strays {
                let _gone = kill_process(stray, Signal::KILL);
                let _reaped = rustix::process::waitpid(Some(stray), WaitOptions::empty());
            }
        }
        self.accept();
        let _gone = std::fs::remove_file(self.dir.socket());
        let until_ms = kernel::now().mono_ms + FAREWELL_MS;
        while self.connections.iter().any(Connection::wants_to_write) && kernel::now().mono_ms < until_ms {
            self.wait_for_something(Some(until_ms));
            self.connections.retain_mut(|connection| connection.flush(&self.published).is_ok());
        }
    }
}

fn side_pid(side: &Side) -> Option<Pid> {
    match side.work {
        Work::Process { pid, .. } => Some(pid),
        Work::Sleep | Work::Http { .. } => None,
    }
}

/// A signal's exit code is 128 more than its number.
fn exit_code(status: WaitStatus) -> (i32, Option<i32>) {
    match status.terminating_signal() {
        Some(signal) => (128 + signal, Some(signal)),
        None => (status.exit_status().unwrap_or_default(), None),
    }
}

#[expect(clippy::print_stderr, reason = "the agent keeps a supervisor's stderr in a file")]
fn complain(problem: &str) {
    eprintln!("pod-supervisor: {problem}");
}
