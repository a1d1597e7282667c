//! How a process of a container comes into being: a fork that prepares itself and becomes a program, while its parent waits for
//! what comes of it.

use std::{
    convert::Infallible,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
};

use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal, Uid, WaitOptions, kill_process, pidfd_open, waitpid},
    thread::UnshareFlags,
};

use super::{
    super::{Stdio, cgroup::Group, mark::Mark, not_started},
    privileges::{Privileges, User},
    syscalls,
};
use crate::kernel::{self, Fork};

/// The exit code of a process that did not become a program.
const NOTHING_STARTED: i32 = 127;
/// What a process may say of its failure.
const MAX_LAST_WORDS: u64 = 4096;
const GO: u8 = b'g';
const ALIVE: u8 = b'a';
/// How long a child that has closed its pipe may take to end.
const END_PATIENCE_MS: u64 = 100;

/// What a process takes along when it is born.
pub(super) struct Birth {
    pub(super) group: Group,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) mark: Option<Mark>,
    pub(super) privileges: Privileges,
    pub(super) argv: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) streams: Streams,
}

impl Birth {
    /// Forks a process that takes its place by `take_place` and becomes its program. Returns once it has, or with its reason why
    /// not.
    pub(super) fn give(
        self,
        namespaces: UnshareFlags,
        take_place: impl FnOnce(&Self) -> io::Result<()>,
    ) -> io::Result<Pid> {
        let ((go, mut gate), (words, mut told)) = (pipe()?, pipe()?);
        let (fork, doors) = fork_in(&self.group, namespaces)?;
        match fork {
            Fork::Child => {
                drop((gate, words));
                // Nothing of the parent's may run here: neither what it would do next, nor what it would take down.
                let error = match catch_unwind(AssertUnwindSafe(|| self.live(go, &doors, take_place))) {
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the supervisor failed while it made the process ready".to_owned(),
                };
                let _unheard = told.write_all(error.as_bytes());
                if let Some(mark) = &self.mark {
                    mark.take_back();
                }
                syscalls::exit_at_once(NOTHING_STARTED)
            }
            Fork::Parent(pid) => {
                drop((go, told));
                self.accompany(pid, &mut gate, words).inspect_err(|_| abort(pid)).map(|()| pid)
            }
        }
    }

    /// The child's side.
    fn live(
        &self,
        mut go: File,
        doors: &[File],
        take_place: impl FnOnce(&Self) -> io::Result<()>,
    ) -> io::Result<Infallible> {
        kernel::join(doors).map_err(|error| io::Error::other(format!("cannot join the control groups: {error}")))?;
        if let Some(adjustment) = self.oom_score_adj {
            // Lowering it takes a capability that even root may lack; the container runs as well without.
            let _best_effort = fs::write("/proc/self/oom_score_adj", adjustment.to_string());
        }
        take_place(self)?;
        // Without a parent there is nobody to become anything for, and it must know who this is.
        go.read_exact(&mut [0]).map_err(|_| io::Error::other("whoever started this is gone"))?;
        self.streams.take()?;
        if let Some(mark) = &self.mark {
            mark.begin()?;
        }
        let program = self.argv.first().map_or("", String::as_str);
        self.privileges.confine().map_err(|error| io::Error::other(format!("cannot confine `{program}`: {error}")))?;
        execute(&self.argv, &self.environment)
    }

    /// The parent's side.
    fn accompany(&self, child: Pid, gate: &mut File, words: File) -> io::Result<()> {
        if let Some(mark) = &self.mark {
            mark.announce(child.as_raw_nonzero().get().cast_unsigned())?;
        }
        // A child that ended early has left its reason.
        let _ended = gate.write_all(&[GO]);
        let words = io::read_to_string(words.take(MAX_LAST_WORDS))?;
        if !words.is_empty() {
            return Err(io::Error::other(words));
        }
        match &self.mark {
            Some(mark) if !mark.has_begun() => Err(io::Error::other(unheard_of(child))),
            _ => Ok(()),
        }
    }
}

/// Forks a process in new namespaces, whose control group is this one when it has gone through the doors that come with it.
///
/// It is born in a group of version 2. But if the group of its parent was once killed as a whole, as service managers do with one
/// that they use again, then newer kernels take it for one of those that were to be killed: nothing is heard of it, and the
/// next one goes there by a door.
pub(super) fn fork_in(group: &Group, namespaces: UnshareFlags) -> io::Result<(Fork, Vec<File>)> {
    let (mut birthplace, mut doors) = (group.unified(), group.doors()?);
    loop {
        let (mut sign, mut alive) = pipe()?;
        match syscalls::fork_into(namespaces, birthplace.as_ref().map(OwnedFd::as_fd))? {
            Fork::Child => {
                let _unheard = alive.write_all(&[ALIVE]);
                return Ok((Fork::Child, doors));
            }
            Fork::Parent(pid) => {
                drop(alive);
                if sign.read_exact(&mut [0]).is_ok() || birthplace.take().is_none() {
                    return Ok((Fork::Parent(pid), doors));
                }
                abort(pid);
                doors.extend(group.front_door()?);
            }
        }
    }
}

/// The reading end and the writing one.
fn pipe() -> io::Result<(File, File)> {
    kernel::pipe().map(|(read, write)| (read.into(), write.into()))
}

/// What is to be said of a child that ended without a word.
fn unheard_of(child: Pid) -> String {
    if let Ok(pidfd) = pidfd_open(child, PidfdFlags::empty()) {
        let until_ms = kernel::now().mono_ms + END_PATIENCE_MS;
        let _still_there = kernel::wait(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(until_ms));
    }
    let status = waitpid(Some(child), WaitOptions::NOHANG).ok().flatten().map(|(_, status)| status);
    let how = match status.and_then(rustix::process::WaitStatus::terminating_signal) {
        Some(signal) => format!(" by signal {signal}"),
        None => String::new(),
    };
    format!("the container ended{how} before its program began; is its memory limit too low?")
}

/// Ends a child that shall become nothing.
fn abort(child: Pid) {
    let _gone = kill_process(child, Signal::KILL);
    let _forgotten = waitpid(Some(child), WaitOptions::empty());
}

/// What a process reads and writes: pipes, or a terminal that controls its session.
pub(super) struct Streams {
    ends: [OwnedFd; 3],
    terminal: bool,
}

impl Streams {
    /// A terminal belongs to whoever works on it.
    pub(super) fn new(stdio: Stdio, user: &User) -> io::Result<Self> {
        let null = || -> io::Result<OwnedFd> { Ok(File::options().read(true).write(true).open("/dev/null")?.into()) };
        let or_null = |stream: Option<OwnedFd>| stream.map_or_else(null, Ok);
        Ok(match stdio {
            Stdio::Pipes { stdin, stdout, stderr } => {
                Self { ends: [or_null(stdin)?, or_null(stdout)?, or_null(stderr)?], terminal: false }
            }
            Stdio::Terminal(far) => {
                rustix::fs::fchown(&far, Some(Uid::from_raw(user.uid)), None)?;
                Self { ends: [far.try_clone()?, far.try_clone()?, far], terminal: true }
            }
        })
    }

    /// Takes its place on them, in a session of its own.
    fn take(&self) -> io::Result<()> {
        let [stdin, stdout, stderr] = &self.ends;
        rustix::process::setsid()?;
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        if self.terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        Ok(())
    }
}

/// Becomes a program, which is looked for in its own `$PATH`.
fn execute(argv: &[String], environment: &[(String, String)]) -> io::Result<Infallible> {
    let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("no command given"))?;
    syscalls::close_others_on_exec();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    let error = command.exec();
    let path = environment.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path.as_str());
    Err(not_started(program, path, " in the container's files", &error))
}
