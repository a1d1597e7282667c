//! What stands in for containers on systems that have no such thing: a reason not to start.

use std::{io, path::Path};

use super::{Driver, Spawned, Stdio, Survivor, mark::Mark};
use crate::{
    confinement::Sandbox,
    kernel::{Pid, Signal},
    plan::{Command, PodPlan},
};

/// There is nowhere to go.
pub(crate) fn move_in(_pod: &Path, _sandbox: &Sandbox) -> io::Result<()> {
    Err(io::Error::other("containers take Linux on a processor of 64 bits: run the pod with runtimeClassName process"))
}

/// There is none.
pub(crate) enum ContainerDriver {}

impl ContainerDriver {
    /// Never gets here, for want of a place: see [`move_in`].
    pub(crate) fn new(pod: &Path, _plan: &PodPlan, sandbox: &Sandbox, _survivors: &[Survivor]) -> io::Result<Self> {
        move_in(pod, sandbox).and(Err(io::ErrorKind::Unsupported.into()))
    }
}

impl Driver for ContainerDriver {
    fn start(&mut self, _command: &Command, _stdio: Stdio, _mark: Mark) -> io::Result<Spawned> {
        match *self {}
    }

    fn exec(
        &mut self,
        _command: &Command,
        _argv: &[String],
        _stdio: Stdio,
        _mark: Option<Mark>,
    ) -> io::Result<Spawned> {
        match *self {}
    }

    fn signal(&mut self, _pid: Pid, _signal: Signal) {
        match *self {}
    }
}
