//! The supervisor's one loop: everything that happens in a pod comes by here, one thing at a time.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
    path::PathBuf,
};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, Signal},
};

use super::{
    Belongings,
    adopt::Adopted,
    connection::Connection,
    ends::taps_of,
    output::{Inlet, Output, Place},
    rest::{Rest, give_back},
    side::{Purpose, Side, Work},
    streams::{Wanted, pipes, terminal},
    taps::Tap,
};
use crate::{
    driver::{Driver, Stdio, mark::Mark},
    kernel,
    lifecycle::{Action, Input, Machine},
    plan::{Command, Launch},
    pod_dir::{PodDir, append_private, write_json},
    wire::{self, ExecOutcome, Exit, PodState},
};

const ANYBODYS_FILE: u32 = 0o666;
/// The exit code of a command that was killed with its container.
const KILLED: i32 = 128 + 9;

pub(super) struct Supervisor {
    pub(super) dir: PodDir,
    lock: File,
    pub(super) driver: Box<dyn Driver>,
    pub(super) machine: Machine,
    inputs: VecDeque<Input>,
    pub(super) containers: Vec<Slot>,
    pub(super) sides: Vec<Side>,
    pub(super) taps: Vec<Tap>,
    pub(super) listener: UnixListener,
    signals: OwnedFd,
    /// Readable when the keeper is gone.
    keeper: OwnedFd,
    orphaned: bool,
    /// Stdins and terminals that an earlier supervisor has handed on.
    pub(super) stdins: BTreeMap<i32, OwnedFd>,
    pub(super) connections: Vec<Connection>,
    pub(super) next_connection: u64,
    pub(super) published: PodState,
    /// The newest exit on record, which a lost supervisor may have written without having said so.
    pub(super) recorded: Option<String>,
    /// There are exits on record that the disk may not have yet.
    unsaved: bool,
    rest: Rest,
}

/// The process of a container, while there is one.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) pid: Option<Pid>,
    pub(super) output: Option<Output>,
    /// The writing end of its stdin, or its terminal.
    pub(super) input: Option<OwnedFd>,
    /// Another supervisor's child: its end is seen here.
    pub(super) adopted: Option<Adopted>,
}

/// How a supervisor comes to its end, unless it is killed.
pub(super) enum Outcome {
    Over,
    /// Its keeper is gone, while the pod goes on.
    Orphaned(Belongings),
}

/// What a poll was about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Signals,
    Keeper,
    Listener,
    Container { index: usize, pipe: usize },
    Adopted { index: usize },
    Side { index: usize },
    Tap { connection: u64 },
    Connection { id: u64 },
}

impl Supervisor {
    pub(super) fn new(
        belongings: Belongings,
        machine: Machine,
        sequence: u64,
        signals: OwnedFd,
        keeper: OwnedFd,
    ) -> Self {
        let Belongings { dir, lock, driver, listener, stdins } = belongings;
        let containers = machine.plan().containers.iter().map(|_| Slot::default()).collect();
        Self {
            dir,
            lock,
            driver,
            machine,
            inputs: VecDeque::new(),
            containers,
            sides: Vec::new(),
            taps: Vec::new(),
            listener,
            signals,
            keeper,
            orphaned: false,
            stdins,
            connections: Vec::new(),
            next_connection: 0,
            published: PodState { sequence, ..PodState::default() },
            recorded: None,
            unsaved: false,
            rest: Rest::default(),
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        self.adopt();
        self.feed(Input::Tick);
        self.publish();
        while !self.machine.finished() {
            if self.orphaned {
                return Outcome::Orphaned(self.hand_over());
            }
            for source in self.wait() {
                self.serve(source);
            }
            self.expire();
            self.publish();
        }
        self.leave();
        Outcome::Over
    }

    /// Lets go of everything that the next supervisor finds by itself.
    fn hand_over(self) -> Belongings {
        let Self { dir, lock, driver, listener, containers, mut stdins, .. } = self;
        let running = containers.into_iter().filter_map(|slot| Some((slot.pid?.as_raw_nonzero().get(), slot.input?)));
        stdins.extend(running);
        Belongings { dir, lock, driver, listener, stdins }
    }

    /// Waits until something is to be done; tidies up and rests when that takes long.
    fn wait(&mut self) -> Vec<Source> {
        let wake_at_ms = self.next_wake_ms();
        let sources = self.wait_for_something(self.rest.wake_at_ms(wake_at_ms, kernel::now().mono_ms));
        self.rest = self.rest.after(!sources.is_empty(), wake_at_ms, kernel::now().mono_ms);
        if self.rest == Rest::Tidy {
            self.driver.tidy();
            self.save_exits();
        }
        sources
    }

    /// Gives the machine an input and does what it says, until it has nothing more to say.
    pub(super) fn feed(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            for action in self.machine.step(input, kernel::now()) {
                self.act(action);
            }
        }
    }

    /// For what comes of an action: the machine hears it when it has said all it had to say.
    pub(super) fn feed_later(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn { index, restart_count } => {
                let input = match self.start(index, restart_count) {
                    Ok((pid, ticks)) => Input::Spawned { index, pid: pid.as_raw_nonzero().get(), ticks },
                    Err(error) if is_full(&error) => {
                        let place = self.dir.path().display();
                        Input::NoRoom { index, message: format!("no room for the container in `{place}`: {error}") }
                    }
                    Err(error) => Input::SpawnFailed { index, message: error.to_string() },
                };
                self.inputs.push_back(input);
            }
            Action::Signal { index, signal } => {
                self.signal(index, kernel::signal(signal));
            }
            Action::Kill { index } => self.signal(index, Signal::KILL),
            Action::RunHook { index, moment } => {
                if let Err(error) = self.run_hook(index, moment) {
                    self.feed_later(Input::HookEnded { index, moment, result: Err(error.to_string()) });
                }
            }
            Action::ResumeHook { index, moment, hook } => self.resume_hook(index, moment, hook),
            Action::CancelHook { index, moment } => {
                self.drop_sides(|side| side.container == index && side.purpose == Purpose::Hook(moment));
            }
            Action::Record { exit, .. } => self.record(&exit),
            Action::Finish => {}
        }
    }

    fn start(&mut self, index: usize, restart_count: u32) -> io::Result<(Pid, u64)> {
        let command = self.command(index)?;
        let plan = &self.machine.plan().containers[index];
        match std::fs::remove_file(&plan.termination_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if command.confinement.is_some() {
            // It is mounted into the container, so it must be there, for whoever the container runs as.
            File::create(&plan.termination_file)?.set_permissions(fs::Permissions::from_mode(ANYBODYS_FILE))?;
        }
        let (stdio, input, output) = self.streams(index, restart_count, &command)?;
        let mark = Mark::new(&self.mark(index))?;
        // From here on there may be a process: whoever comes after us has to know.
        self.save_state(&self.next_state());
        let spawned = self.driver.start(&command, stdio, mark)?;
        self.containers[index] = Slot { pid: Some(spawned.pid), output: Some(output), input, adopted: None };
        Ok((spawned.pid, spawned.ticks))
    }

    /// Where it is noted that a container's program has begun.
    pub(super) fn mark(&self, index: usize) -> PathBuf {
        self.dir.begun(&self.machine.plan().containers[index].name)
    }

    /// The streams that a container is started with, our end of its stdin or terminal, and where its output goes.
    fn streams(
        &mut self,
        index: usize,
        restart_count: u32,
        command: &Command,
    ) -> io::Result<(Stdio, Option<OwnedFd>, Output)> {
        let (tty, stdin_wanted) = {
            let plan = &self.machine.plan().containers[index];
            (plan.tty, plan.stdin)
        };
        if tty {
            let (near, far) = terminal(self.driver.terminal(command)?)?;
            let inlets = [Some(Inlet::Terminal(near.try_clone()?)), None];
            let output = self.output(index, restart_count, |place| Output::begin(place, inlets))?;
            return Ok((far, Some(near), output));
        }
        let (input, stdin) = if stdin_wanted { stdin()? } else { (None, None) };
        let output = self.output(index, restart_count, |place| Output::begin(place, Inlet::spools(place)?))?;
        let [stdout, stderr] = self.output(index, restart_count, |place| Output::far_ends(place, command.uid))?;
        Ok((Stdio::Pipes { stdin, stdout: Some(stdout), stderr: Some(stderr) }, input, output))
    }

    /// Does something with the place that the output of a container goes to.
    pub(super) fn output<T>(
        &self,
        index: usize,
        restart_count: u32,
        work: impl FnOnce(Place<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let plan = self.machine.plan();
        let container = &plan.containers[index].name;
        let logs = plan.log_dir.join(container);
        work(Place { dir: &self.dir, container, logs: &logs, restart_count }).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write logs to `{}`: {error}", logs.display()))
        })
    }

    fn signal(&mut self, index: usize, signal: Signal) {
        if let Some(pid) = self.containers[index].pid {
            self.driver.signal(pid, signal);
        }
    }

    pub(super) fn command(&self, index: usize) -> io::Result<Command> {
        match &self.machine.plan().containers[index].launch {
            Launch::Ready(command) => Ok(command.clone()),
            Launch::Withheld { .. } => Err(io::Error::other("the container has no command yet")),
        }
    }

    /// Starts a command whose output is kept for whoever waits for its end.
    pub(super) fn beside(&mut self, index: usize, argv: &[String]) -> io::Result<Work> {
        let (near, far) = pipes(Wanted::OUTPUT)?;
        let spawned = self.driver.exec(&self.command(index)?, argv, far, None)?;
        Ok(Work::process(spawned.pid, near))
    }

    /// Appends how a container ended, and waits until the disk has it.
    fn record(&mut self, exit: &Exit) {
        if self.recorded.as_ref() == Some(&exit.id) {
            return;
        }
        self.recorded = Some(exit.id.clone());
        let append = || -> io::Result<()> {
            let mut file = append_private(&self.dir.exits())?;
            let mut line = serde_json::to_vec(exit)?;
            line.push(b'\n');
            file.write_all(&line)
        };
        if let Err(error) = append() {
            complain(&format!("exit record of {} not written: {error}", exit.id));
        }
        self.unsaved = true;
    }

    /// Whoever is killed has written all the same: this is for a machine that loses its power, and the next container does not
    /// wait for it.
    pub(super) fn save_exits(&mut self) {
        if std::mem::take(&mut self.unsaved)
            && let Err(error) = File::open(self.dir.exits()).and_then(|file| file.sync_data())
        {
            complain(&format!("exit records not saved: {error}"));
        }
    }

    /// Makes a changed state durable against our own end, and tells the agents.
    pub(super) fn publish(&mut self) {
        let mut state = self.next_state();
        if state != self.published {
            state.sequence += 1;
            self.published = state;
            self.save_state(&self.published);
            self.connections.iter_mut().for_each(Connection::owe_state);
        }
        self.connections.retain_mut(|connection| connection.flush(&self.published).is_ok());
        self.tend_taps();
    }

    pub(super) fn next_state(&self) -> PodState {
        PodState { sequence: self.published.sequence, ..self.machine.state() }
    }

    pub(super) fn save_state(&self, state: &PodState) {
        if let Err(error) = write_json(&self.dir.state(), state) {
            complain(&format!("state not written: {error}"));
        }
    }

    fn next_wake_ms(&self) -> Option<u64> {
        let (sides, taps) = (self.sides.iter(), self.taps.iter());
        let deadlines = sides.filter_map(|side| side.deadline_ms).chain(taps.filter_map(Tap::deadline_ms));
        deadlines.chain(self.machine.wake_at_ms()).min()
    }

    pub(super) fn wait_for_something(&self, wake_at_ms: Option<u64>) -> Vec<Source> {
        let sources = self.sources();
        let mut fds: Vec<PollFd<'_>> =
            sources.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        if self.rest == Rest::Resting {
            give_back();
        }
        match kernel::wait(&mut fds, wake_at_ms) {
            Ok(()) => fds.iter().zip(&sources).filter(|(fd, _)| !fd.revents().is_empty()).map(|(_, s)| s.0).collect(),
            Err(_) => Vec::new(),
        }
    }

    fn sources(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut sources = vec![
            (Source::Signals, self.signals.as_fd(), PollFlags::IN),
            (Source::Keeper, self.keeper.as_fd(), PollFlags::IN),
            (Source::Listener, self.listener.as_fd(), PollFlags::IN),
        ];
        for (index, slot) in self.containers.iter().enumerate() {
            let pipes = slot.output.iter().flat_map(|output| output.inlets.iter().enumerate());
            let full = |pipe| self.taps.iter().any(|tap| tap.container == index && tap.is_full(pipe));
            sources.extend(pipes.filter(|(pipe, _)| !full(*pipe)).filter_map(|(pipe, fd)| {
                Some((Source::Container { index, pipe }, fd.as_ref()?.as_fd(), PollFlags::IN))
            }));
            let adopted = slot.adopted.iter();
            sources.extend(adopted.map(|adopted| (Source::Adopted { index }, adopted.pidfd.as_fd(), PollFlags::IN)));
        }
        for tap in &self.taps {
            let slow = tap.sinks.iter().flatten().filter(|sink| sink.has_backlog());
            let source = Source::Tap { connection: tap.connection };
            sources.extend(slow.map(|sink| (source, sink.pipe.as_fd(), PollFlags::OUT)));
        }
        for (index, side) in self.sides.iter().enumerate() {
            match &side.work {
                Work::Process { pipes, .. } => {
                    sources
                        .extend(pipes.iter().flatten().map(|fd| (Source::Side { index }, fd.as_fd(), PollFlags::IN)));
                }
                Work::Adopted { process, pipe, .. } => {
                    let fds = pipe.iter().map(|fd| fd.as_fd()).chain([process.pidfd.as_fd()]);
                    sources.extend(fds.map(|fd| (Source::Side { index }, fd, PollFlags::IN)));
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

    pub(super) fn serve(&mut self, source: Source) {
        match source {
            Source::Signals => {
                while matches!(rustix::io::read(&self.signals, &mut [0u8; 64]), Ok(64)) {}
                self.reap();
            }
            Source::Keeper => self.orphaned = true,
            Source::Listener => self.accept(),
            Source::Container { index, pipe } => {
                if let Some(output) = &mut self.containers[index].output {
                    output.drain(pipe, &mut taps_of(&mut self.taps, index));
                    if let Some(message) = output.trouble() {
                        self.feed(Input::LogLost { index, message });
                    }
                }
            }
            Source::Tap { connection } => {
                let now_ms = kernel::now().mono_ms;
                let taps = self.taps.iter_mut().filter(|tap| tap.connection == connection);
                taps.for_each(|tap| tap.flush(now_ms));
            }
            Source::Adopted { index } => self.adopted_ended(index),
            Source::Side { index } => self.serve_side(index),
            Source::Connection { id } => self.serve_connection(id),
        }
    }

    fn serve_side(&mut self, index: usize) {
        let Some(side) = self.sides.get_mut(index) else { return };
        side.work.drain();
        if let Work::Adopted { .. } = side.work {
            self.attend_hook(index);
        } else if let Some(result) = side.work.read_http() {
            let side = self.sides.remove(index);
            self.end_hook(&side, result);
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
                    self.reply(connection, call, wire::Outcome::Exec(ExecOutcome::TimedOut));
                }
                Purpose::Session { .. } => {}
                Purpose::Hook(_) => self.end_hook(&side, Ok(())),
            }
        }
        if self.machine.wake_at_ms().is_some_and(|at| at <= now_ms) {
            self.feed(Input::Tick);
        }
    }

    pub(super) fn kill_side(&mut self, side: &Side) {
        let pid = match &side.work {
            Work::Process { pid, .. } => Some(*pid),
            Work::Adopted { process, .. } => Pid::from_raw(process.pid),
            Work::Sleep | Work::Http { .. } => None,
        };
        if let Some(pid) = pid {
            self.driver.signal(pid, Signal::KILL);
        }
    }

    pub(super) fn drop_sides(&mut self, doomed: impl Fn(&Side) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.sides).into_iter().partition(doomed);
        self.sides = kept;
        for side in Vec::from_iter::<Vec<Side>>(gone) {
            self.kill_side(&side);
            match side.purpose {
                Purpose::Hook(_) => {}
                Purpose::Probe { connection, call } => {
                    let outcome = ExecOutcome::Failed("the container has ended".to_owned());
                    self.reply(connection, call, wire::Outcome::Exec(outcome));
                }
                Purpose::Session { connection, call } => {
                    let outcome = ExecOutcome::Exited { code: KILLED, output: String::new() };
                    self.reply(connection, call, wire::Outcome::Exec(outcome));
                }
            }
        }
    }
}

/// What ends by itself when somebody makes room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Our end of a stdin, and the container's.
fn stdin() -> io::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let (near, far) = pipes(Wanted { stdin: true, stdout: false, stderr: false })?;
    match (near, far) {
        (near, Stdio::Pipes { stdin: far, .. }) => Ok((near.stdin, far)),
        (_, Stdio::Terminal(_)) => Err(io::Error::other("a pipe is no terminal")),
    }
}

#[expect(clippy::print_stderr, reason = "the agent keeps a supervisor's stderr in a file")]
fn complain(problem: &str) {
    eprintln!("pod-supervisor: {problem}");
}
