//! What makes a container out of a command. The supervisor's loop knows nothing else of it.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::kernel;
use crate::plan::Command;

pub(crate) trait Driver {
    /// Starts a container. Its end is seen by waiting for its process, which must be our child.
    fn start(&mut self, command: &Command) -> io::Result<Spawned>;
    /// Starts a second process inside a running container.
    fn exec(&mut self, command: &Command, argv: &[String]) -> io::Result<Spawned>;
    /// Signals everything in a container, or everything that an `exec` has started.
    fn signal(&mut self, pid: Pid, signal: Signal);
}

#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) ticks: u64,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// A container is a process group of the machine: no isolation, no privilege, no image.
#[derive(Debug)]
pub(crate) struct ProcessDriver;

impl Driver for ProcessDriver {
    fn start(&mut self, command: &Command) -> io::Result<Spawned> {
        spawn(command, &command.argv)
    }

    fn exec(&mut self, command: &Command, argv: &[String]) -> io::Result<Spawned> {
        spawn(command, argv)
    }

    fn signal(&mut self, pid: Pid, signal: Signal) {
        // The only failure is that nobody is left, which is what a signal is for.
        let _gone = kill_process_group(pid, signal);
    }
}

fn spawn(command: &Command, argv: &[String]) -> io::Result<Spawned> {
    let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("no command given"))?;
    let mut process = std::process::Command::new(program);
    process
        .args(arguments)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&command.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(gid) = command.gid {
        process.gid(gid);
    }
    if let Some(uid) = command.uid {
        process.uid(uid);
    }
    let mut child = process.spawn().map_err(|error| explain(&error, program, command))?;
    let pid = Pid::from_child(&child);
    let pipe = |missing| io::Error::other(format!("{missing} is not a pipe"));
    let stdout = OwnedFd::from(child.stdout.take().ok_or_else(|| pipe("stdout"))?);
    let stderr = OwnedFd::from(child.stderr.take().ok_or_else(|| pipe("stderr"))?);
    kernel::set_nonblocking(&stdout)?;
    kernel::set_nonblocking(&stderr)?;
    Ok(Spawned { pid, ticks: kernel::start_ticks(pid.as_raw_nonzero().get()).unwrap_or(0), stdout, stderr })
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
