//! What makes a container out of a command. The supervisor's loop knows nothing else of it.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{
    kernel,
    stdio::{self, Stdio},
};
use crate::{plan::Command, wire::Family};

/// What a process on a terminal is told it is, unless its container says.
pub(super) const DEFAULT_TERM: &str = "xterm";

pub(crate) trait Driver {
    /// Starts a container. Its end is seen by waiting for its process, which must be our child.
    fn start(&mut self, command: &Command, stdio: Stdio) -> io::Result<Spawned>;
    /// Starts a second process inside a running container.
    fn exec(&mut self, command: &Command, argv: &[String], stdio: Stdio) -> io::Result<Spawned>;
    /// A new terminal for a container that is about to start, or for a command beside one that runs: our side of it. It must
    /// be one of the container's own, or programs there neither find it by name nor can be interrupted on it.
    fn terminal(&mut self, _command: &Command) -> io::Result<OwnedFd> {
        stdio::machine_terminal()
    }
    /// A TCP socket in the network of the pod, when that is not the machine's.
    fn socket(&self, _family: Family) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }
    /// Signals everything in a container, or everything that an `exec` has started.
    fn signal(&mut self, pid: Pid, signal: Signal);
    /// Takes a container over that a lost supervisor has started.
    fn adopt(&mut self, _command: &Command, _pid: Pid) {}
    /// What a start came to that a lost supervisor had announced. Asked when everything half-made has been ended.
    fn begun(&self, _command: &Command) -> Begun {
        Begun::Unknown
    }
    /// A lost supervisor was about to start this one, and has not come to its end: takes away what there is of it.
    fn abandon(&mut self, _command: &Command) {}
    /// The first process of a container is gone: ends and takes away what it leaves behind.
    fn ended(&mut self, pid: Pid) -> Remains {
        self.signal(pid, Signal::KILL);
        Remains::default()
    }
    /// Takes away what is left of ended containers. Comes after everything that somebody waits for.
    fn tidy(&mut self) {}
    /// The pod is over.
    fn close(&mut self) {}
}

/// What a driver knows of a start that it did not see the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    /// The kernel's table of processes has to tell.
    Unknown,
    Nothing,
    /// The program ran, or runs, as this process.
    Process(i32),
}

/// What only the driver can know of how a container ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The kernel ended something in it for want of memory.
    pub(crate) out_of_memory: bool,
}

#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) ticks: u64,
}

/// A container is a process group of the machine: no isolation, no privilege, no image.
#[derive(Debug)]
pub(crate) struct ProcessDriver;

impl Driver for ProcessDriver {
    fn start(&mut self, command: &Command, stdio: Stdio) -> io::Result<Spawned> {
        spawn(command, &command.argv, stdio)
    }

    fn exec(&mut self, command: &Command, argv: &[String], stdio: Stdio) -> io::Result<Spawned> {
        spawn(command, argv, stdio)
    }

    fn signal(&mut self, pid: Pid, signal: Signal) {
        // The only failure is that nobody is left, which is what a signal is for.
        let _gone = kill_process_group(pid, signal);
    }
}

fn spawn(command: &Command, argv: &[String], stdio: Stdio) -> io::Result<Spawned> {
    let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("no command given"))?;
    let mut process = process::Command::new(program);
    process
        .args(arguments)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&command.dir);
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => {
            process.stdin(stream(stdin)).stdout(stream(stdout)).stderr(stream(stderr)).process_group(0);
        }
        Stdio::Terminal(far) => on_terminal(&mut process, far, command)?,
    }
    if let Some(gid) = command.gid {
        process.gid(gid);
    }
    if let Some(uid) = command.uid {
        process.uid(uid);
    }
    let child = process.spawn().map_err(|error| explain(&error, program, command))?;
    let pid = Pid::from_child(&child);
    Ok(Spawned { pid, ticks: kernel::start_ticks(pid.as_raw_nonzero().get()).unwrap_or(0) })
}

fn stream(end: Option<OwnedFd>) -> process::Stdio {
    end.map_or_else(process::Stdio::null, process::Stdio::from)
}

/// All three streams are the terminal, which belongs to the process's user and controls its session.
fn on_terminal(process: &mut process::Command, far: OwnedFd, command: &Command) -> io::Result<()> {
    if let Some(uid) = command.uid {
        rustix::fs::fchown(&far, Some(rustix::process::Uid::from_raw(uid)), None)?;
    }
    if !command.env.iter().any(|(name, _)| name == "TERM") {
        process.env("TERM", DEFAULT_TERM);
    }
    process.stdin(far.try_clone()?).stdout(far.try_clone()?).stderr(far);
    kernel::lead_session_on_stdin(process);
    Ok(())
}

/// The kernel says "no such file" for a missing program and a missing directory alike.
fn explain(error: &io::Error, program: &str, command: &Command) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::NotFound if !command.dir.is_dir() => {
            format!("cannot start `{program}`: its working directory `{}` does not exist", command.dir.display())
        }
        io::ErrorKind::NotFound => {
            format!("cannot start `{program}`: no such program; give its full path or check $PATH")
        }
        io::ErrorKind::PermissionDenied => format!("cannot start `{program}`: it may not be executed ({error})"),
        _ => format!("cannot start `{program}`: {error}"),
    };
    io::Error::new(error.kind(), text)
}
