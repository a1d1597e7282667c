//! The standard streams of a process: the far ends are its own, the near ends are ours or an agent's.

use std::{io, os::fd::OwnedFd};

use crate::{driver::Stdio, kernel};

/// Our ends of pipes, none of which ever blocks.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// Which streams are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Wanted {
    /// What a command that nobody talks to needs.
    pub(crate) const OUTPUT: Self = Self { stdin: false, stdout: true, stderr: true };
}

/// Pipes for the streams that are wanted.
pub(crate) fn pipes(wanted: Wanted) -> io::Result<(Ends, Stdio)> {
    let make = |wanted: bool| -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        Ok(if wanted { Some(kernel::pipe()?) } else { None })
    };
    let (far_in, near_in) = make(wanted.stdin)?.unzip();
    let (near_out, far_out) = make(wanted.stdout)?.unzip();
    let (near_err, far_err) = make(wanted.stderr)?.unzip();
    for near in [&near_in, &near_out, &near_err].into_iter().flatten() {
        kernel::set_nonblocking(near)?;
    }
    let near = Ends { stdin: near_in, stdout: near_out, stderr: near_err };
    Ok((near, Stdio::Pipes { stdin: far_in, stdout: far_out, stderr: far_err }))
}

/// The far side of a new terminal, and ours again.
pub(crate) fn terminal(near: OwnedFd) -> io::Result<(OwnedFd, Stdio)> {
    let far = kernel::far_side(&near)?;
    kernel::set_nonblocking(&near)?;
    Ok((near, Stdio::Terminal(far)))
}
