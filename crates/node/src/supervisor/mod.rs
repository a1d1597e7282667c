//! `sluice pod-supervisor DIR`: one small process per pod, which owns its processes and outlives the engine.
//!
//! Single-threaded, no runtime: `poll` over the pipes of the containers, the socket and a signal pipe, around the pure
//! machine in [`crate::lifecycle`]. It reads `plan.json`, keeps `state.json` true, appends every ended container to
//! `exits.jsonl`, writes the logs, and answers agents on `supervisor.sock` (see [`crate::wire`]).
//!
//! When a supervisor itself is killed, its processes lose their log pipes and their keeper: the agent notices at once, kills
//! what is left of their process groups and starts a supervisor that goes on from `state.json`, restart counts included.

mod calls;
mod connection;
pub(crate) mod container;
pub(crate) mod driver;
mod ends;
mod framing;
pub(crate) mod kernel;
pub(crate) mod log_file;
mod output;
mod rest;
mod run;
mod sessions;
mod side;
pub(crate) mod stdio;
mod taps;

use std::{
    ffi::OsString,
    fs, io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::{
    event::Timespec,
    fs::{FlockOperation, flock},
};

use self::{
    container::ContainerDriver,
    driver::{Driver, ProcessDriver},
};
use crate::{
    lifecycle::Machine,
    plan::{PLAN_VERSION, PodPlan},
    pod_dir::{PodDir, SOCKET, append_private, make_private, read_json},
    wire::PodState,
};

/// What `ps` and `top` show.
const PROCESS_NAME: &std::ffi::CStr = c"sluice-pod";

/// How long another supervisor may take to let go of a pod.
const LOCK_PATIENCE_MS: u64 = 500;
const LOCK_RETRY_NS: i64 = 5_000_000;

#[derive(Debug, thiserror::Error)]
enum SetupError {
    #[error("usage: pod-supervisor DIR")]
    Usage,
    #[error("cannot {what} `{}`", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` is no plan that this version reads", path.display())]
    Plan { path: PathBuf },
    #[error("another supervisor runs this pod already")]
    Taken,
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },
}

/// Runs a supervisor over the pod directory in `args` (what follows the subcommand's name).
///
/// The process that was started returns as soon as the socket takes connections; the supervisor goes on in a child of its own
/// session. What goes wrong before is said on stderr.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match set_up(args) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(supervisor)) => supervisor.run(),
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the agent keeps a supervisor's stderr in a file")]
fn report(error: &SetupError) {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    eprintln!("pod-supervisor: {error}{cause}");
}

/// Everything that can fail, up to the point where the pod may start; `None` in the process that is to leave.
fn set_up(args: impl IntoIterator<Item = OsString>) -> Result<Option<run::Supervisor>, SetupError> {
    let directory = PathBuf::from(args.into_iter().next().ok_or(SetupError::Usage)?);
    let directory = fs::canonicalize(&directory).map_err(file("find", &directory))?;
    std::env::set_current_dir(&directory).map_err(file("enter", &directory))?;
    let dir = PodDir::new(directory);
    let plan: PodPlan = read_json(&dir.plan())
        .map_err(file("read", &dir.plan()))?
        .filter(|plan: &PodPlan| plan.version <= PLAN_VERSION)
        .ok_or(SetupError::Plan { path: dir.plan() })?;
    if plan.sandbox.is_some() {
        container::seclude(dir.path()).map_err(system("make a mount namespace"))?;
    }
    let saved: Option<PodState> = read_json(&dir.state()).map_err(file("read", &dir.state()))?;
    let lock = append_private(&dir.lock()).map_err(file("create", &dir.lock()))?;
    hold(&lock)?;
    // What can fail fails before the agent is told that the pod runs. Namespaces are inherited.
    let driver = driver(&dir, &plan)?;
    let listener = listen().map_err(file("bind", &dir.socket()))?;

    if !kernel::detach().map_err(system("fork"))? {
        return Ok(None);
    }
    // Names and orphans are niceties: a kernel that refuses them still runs pods.
    let _nameless = rustix::thread::set_name(PROCESS_NAME);
    let _orphans_go_to_init = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let signals = kernel::child_signals().map_err(system("handle signals"))?;
    let (now, boot_id) = (kernel::now(), kernel::boot_id());
    let sequence = saved.as_ref().map_or(0, |saved| saved.sequence);
    let machine = match &saved {
        Some(saved) => Machine::resume(plan, boot_id, saved, now),
        None => Machine::new(plan, boot_id),
    };
    Ok(Some(run::Supervisor::new(dir, lock, driver, machine, sequence, listener, signals)))
}

fn driver(dir: &PodDir, plan: &PodPlan) -> Result<Box<dyn Driver>, SetupError> {
    Ok(match &plan.sandbox {
        None => Box::new(ProcessDriver),
        Some(sandbox) => {
            Box::new(ContainerDriver::new(dir.path(), plan, sandbox).map_err(system("make the pod's sandbox"))?)
        }
    })
}

/// A supervisor that was killed just now may still hold its lock while the kernel takes it apart.
fn hold(lock: &fs::File) -> Result<(), SetupError> {
    let until_ms = kernel::now().mono_ms + LOCK_PATIENCE_MS;
    while flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        if kernel::now().mono_ms >= until_ms {
            return Err(SetupError::Taken);
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: LOCK_RETRY_NS };
        let _interrupted = rustix::event::poll(&mut [], Some(&pause));
    }
    Ok(())
}

fn listen() -> io::Result<UnixListener> {
    match fs::remove_file(SOCKET) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(SOCKET)?;
    make_private(Path::new(SOCKET))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SetupError {
    let path = path.to_owned();
    move |source| SetupError::File { what, path, source }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> SetupError {
    move |source| SetupError::System { what, source }
}
