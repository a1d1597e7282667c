//! Outlives the supervisor, so that a pod loses nothing with it: the first process of a pod, which does next to nothing.
//!
//! The keeper is the supervisor's parent. When the supervisor is killed, the kernel hands its children to the keeper, which is
//! their subreaper: how they end is written down in `reaped.json` before the kernel forgets it. The keeper holds the FIFOs
//! that containers write to and the socket that agents connect to, and forks the next supervisor at once. And when a keeper is
//! killed, its supervisor sees it by a pidfd, and becomes the keeper of the next one.

use std::{collections::VecDeque, io, os::fd::OwnedFd, process::ExitCode};

use rustix::{
    event::Timespec,
    process::{Pid, getpid},
};
use serde::{Deserialize, Serialize};

use super::{rest, spool};
use crate::{
    kernel::{self, Fork},
    plan::PodPlan,
    pod_dir::{PodDir, read_json, write_json},
    wire::Identity,
};

pub const PROCESS_NAME: &std::ffi::CStr = c"sluice-keeper";
/// Ends that are remembered for a supervisor to read, the newest ones.
const MAX_REAPED: usize = 256;
/// A supervisor that ends sooner than this has not ended by chance, and the next one is given time.
const SUSPICIOUSLY_SHORT_MS: u64 = 250;
const PAUSE_NS: i64 = 500_000_000;

/// A process that ended when no supervisor was there to wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaped {
    pub pid: i32,
    /// When it was started, which tells it from a later process with the same id.
    pub ticks: u64,
    /// As `wait` has it.
    pub status: i32,
}

/// Who is at work on a pod, for agents that get no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepers {
    pub keeper: Identity,
    pub supervisor: Identity,
}

/// What a process is after [`keep`].
#[derive(Debug)]
pub(super) enum Kept {
    /// A supervisor; a pidfd tells when it has lost its keeper.
    Supervisor(OwnedFd),
    /// The keeper of a pod that has ended.
    Over(ExitCode),
}

/// Forks a supervisor, and another one whenever it is lost. Returns in each supervisor at once, and in the keeper in the end.
pub(super) fn keep(dir: &PodDir, plan: &PodPlan) -> io::Result<Kept> {
    let _held = spool::hold(dir, plan)?;
    kernel::be_deaf();
    let myself = kernel::hold_ourselves()?;
    let mut reaped: VecDeque<Reaped> = read_json(&dir.reaped())?.unwrap_or_default();
    loop {
        let born_ms = kernel::now().mono_ms;
        let supervisor = match kernel::fork()? {
            Fork::Child => return Ok(Kept::Supervisor(myself)),
            Fork::Parent(supervisor) => supervisor,
        };
        kernel::be_called(PROCESS_NAME);
        let keepers = Keepers { keeper: kernel::identity(getpid()), supervisor: kernel::identity(supervisor) };
        let _unknown = write_json(&dir.keepers(), &keepers);
        rest::give_back();
        if attend(dir, supervisor, &mut reaped)? == 0 {
            kernel::end_children();
            return Ok(Kept::Over(ExitCode::SUCCESS));
        }
        if kernel::now().mono_ms < born_ms + SUSPICIOUSLY_SHORT_MS {
            let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE_NS };
            let _interrupted = rustix::event::poll(&mut [], Some(&pause));
        }
    }
}

/// Waits for the supervisor's end and says how it was. Whoever else ends meanwhile was left behind by an earlier one.
fn attend(dir: &PodDir, supervisor: Pid, reaped: &mut VecDeque<Reaped>) -> io::Result<i32> {
    loop {
        let ended = kernel::wait_for_end()?;
        if ended.pid != supervisor {
            let pid = ended.pid.as_raw_nonzero().get();
            let ticks = kernel::start_ticks(pid).unwrap_or_default();
            reaped.push_back(Reaped { pid, ticks, status: ended.status });
            reaped.drain(..reaped.len().saturating_sub(MAX_REAPED));
            // Before the kernel forgets it; without a disk nobody learns of it.
            let _unknown = write_json(&dir.reaped(), &reaped);
        }
        kernel::forget(ended.pid);
        if ended.pid == supervisor {
            return Ok(ended.status);
        }
    }
}
