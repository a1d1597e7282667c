//! What stands in for containers on systems that have no such thing: a reason not to start.

use std::{io, path::Path};

use super::{Driver, Spawned, Stdio, Survivor, mark::Mark};
use crate::{
    confinement::Sandbox,
    kernel::{Pid, Signal},
    plan::{Command, PodPlan},
};

/// There is none.
pub(crate) enum ContainerDriver {}

impl ContainerDriver {
    pub(crate) fn new(_pod: &Path, _plan: &PodPlan, _sandbox: &Sandbox, _survivors: &[Survivor]) -> io::Result<Self> {
        Err(io::Error::other("containers take Linux: run the pod with runtimeClassName process"))
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
