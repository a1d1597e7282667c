//! `sluice pod-supervisor DIR`: one small process per pod, which owns its processes and outlives the engine.
//!
//! Single-threaded, no runtime: `poll` over the pipes of the containers, the socket and a signal pipe, around the pure
//! machine in [`crate::lifecycle`]. It reads `plan.json`, keeps `state.json` true, appends every ended container to
//! `exits.jsonl`, writes the logs, and answers agents on `supervisor.sock` (see [`crate::wire`]).
//!
//! When a supervisor itself is killed, its `keeper` forks the next one, which adopts what runs (`adopt`) and goes on from
//! `state.json`; `spool` says why no log line is lost or doubled by it. When both are killed, the agent starts both again.

mod adopt;
mod calls;
mod connection;
mod ends;
mod framing;
mod hooks;
pub mod keeper;
pub mod log_file;
mod output;
mod rest;
mod run;
mod sessions;
mod side;
pub mod spool;
mod streams;
mod taps;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::{
    event::Timespec,
    fs::{FlockOperation, flock},
    process::Pid,
};

use self::{
    keeper::{Keepers, Kept},
    run::Outcome,
};
use crate::{
    driver::{
        Driver, ProcessDriver, Survivor,
        container::{self, ContainerDriver},
    },
    kernel,
    lifecycle::Machine,
    plan::{PLAN_VERSION, PodPlan},
    pod_dir::{
        PRIVATE_DIR, PodDir, Recovered, SOCKET, append_private, make_dir, make_private, read_json, recover_json,
    },
    wire::{Condition, Identity, PodState},
};

/// What `ps` and `top` show.
pub const PROCESS_NAME: &std::ffi::CStr = c"sluice-pod";

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
    #[error("the pod is over")]
    Finished,
    #[error("cannot {what}")]
    System { what: &'static str, source: io::Error },
}

/// Runs a supervisor over the pod directory in `args` (what follows the subcommand's name).
///
/// The process that was started returns as soon as the socket takes connections; the supervisor goes on in a child of its own
/// session. What goes wrong before is said on stderr.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match set_up(args).and_then(|belongings| belongings.map_or(Ok(ExitCode::SUCCESS), supervise)) {
        Ok(code) => code,
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

/// What a keeper and its supervisors have in common, each next one by inheritance.
struct Belongings {
    dir: PodDir,
    /// Held, not used: it keeps other supervisors away.
    lock: fs::File,
    driver: Box<dyn Driver>,
    listener: UnixListener,
    /// Stdins and terminals of running containers, by their processes' ids.
    stdins: BTreeMap<i32, OwnedFd>,
}

/// Everything that can fail, up to the point where the pod may start. The process that was called is done then, and told so
/// by `None`.
fn set_up(args: impl IntoIterator<Item = OsString>) -> Result<Option<Belongings>, SetupError> {
    let directory = PathBuf::from(args.into_iter().next().ok_or(SetupError::Usage)?);
    let directory = fs::canonicalize(&directory).map_err(file("find", &directory))?;
    std::env::set_current_dir(&directory).map_err(file("enter", &directory))?;
    let dir = PodDir::new(directory);
    let plan = read_plan(&dir)?;
    if let Some(sandbox) = &plan.sandbox {
        container::move_in(dir.path(), sandbox).map_err(system("go where the pod's containers are made"))?;
    }
    let saved = read_state(&dir)?;
    if saved.as_ref().is_some_and(|saved| saved.finished) {
        return Err(SetupError::Finished);
    }
    let lock = append_private(&dir.lock()).map_err(file("create", &dir.lock()))?;
    if hold(&lock).is_err() {
        if keepers_live(&dir) {
            return Err(SetupError::Taken);
        }
        adopt::end_half_made(&dir);
        hold(&lock)?;
    }
    end_unrecorded(&dir, saved.as_ref());
    // What can fail fails before the agent is told that the pod runs. Namespaces are inherited.
    let driver = driver(&dir, &plan, &survivors(saved.as_ref()))?;
    spool::hold(&dir, &plan).map_err(file("make the FIFOs in", &dir.stdio()))?;
    make_dir(&dir.marks(), PRIVATE_DIR).map_err(file("create", &dir.marks()))?;
    let listener = listen().map_err(file("bind", &dir.socket()))?;

    if !kernel::detach().map_err(system("fork"))? {
        return Ok(None);
    }
    Ok(Some(Belongings { dir, lock, driver, listener, stdins: BTreeMap::new() }))
}

/// Keeps a supervisor, or is one: a supervisor that loses its keeper becomes the keeper of the next one.
fn supervise(mut belongings: Belongings) -> Result<ExitCode, SetupError> {
    loop {
        be_a_parent();
        let dir = &belongings.dir;
        let first = read_plan(dir)?;
        let keeper = match keeper::keep(dir, &first).map_err(system("keep the supervisor"))? {
            Kept::Over(code) => return Ok(code),
            Kept::Supervisor(keeper) => keeper,
        };
        be_a_parent();
        // The plan may be another one than the keeper has read, which is good enough when there is none any more.
        let (plan, saved) = (read_plan(dir).unwrap_or(first), read_state(dir)?);
        end_unrecorded(dir, saved.as_ref());
        let signals = kernel::child_signals().map_err(system("handle signals"))?;
        let (now, boot_id) = (kernel::now(), kernel::boot_id());
        let sequence = saved.as_ref().map_or(0, |saved: &PodState| saved.sequence);
        let machine = match &saved {
            Some(saved) => Machine::resume(plan, boot_id, saved, now),
            None => Machine::new(plan, boot_id),
        };
        match run::Supervisor::new(belongings, machine, sequence, signals, keeper).run() {
            Outcome::Over => return Ok(ExitCode::SUCCESS),
            Outcome::Orphaned(left) => belongings = left,
        }
    }
}

fn read_plan(dir: &PodDir) -> Result<PodPlan, SetupError> {
    read_json(&dir.plan())
        .map_err(file("read", &dir.plan()))?
        .filter(|plan: &PodPlan| plan.version <= PLAN_VERSION)
        .ok_or(SetupError::Plan { path: dir.plan() })
}

/// Without a state nobody knows what an earlier supervisor has started.
fn end_unrecorded(dir: &PodDir, saved: Option<&PodState>) {
    if saved.is_none() && dir.stdio().exists() {
        adopt::end_writers(dir);
    }
}

/// A state that cannot be understood is as good as none.
fn read_state(dir: &PodDir) -> Result<Option<PodState>, SetupError> {
    Ok(match recover_json(&dir.state()).map_err(file("read", &dir.state()))? {
        Recovered::Whole(saved) => saved,
        Recovered::Damaged(_) => None,
    })
}

fn be_a_parent() {
    kernel::be_called(PROCESS_NAME);
    kernel::take_in_orphans();
}

/// What runs of a pod that has lost both its supervisor and its keeper.
fn survivors(saved: Option<&PodState>) -> Vec<Survivor> {
    let boot_id = kernel::boot_id();
    let containers = saved.filter(|saved| saved.boot_id == boot_id).into_iter().flat_map(|saved| &saved.containers);
    let alive = containers.filter_map(|container| match container.condition {
        Condition::Running { pid, ticks, .. } => {
            kernel::hold_process(pid, ticks).filter(|pidfd| !kernel::has_ended(pidfd))?;
            Some(Survivor { container: container.name.clone(), pid: Pid::from_raw(pid)? })
        }
        Condition::Waiting { .. } | Condition::Terminated(_) => None,
    });
    alive.collect()
}

fn driver(dir: &PodDir, plan: &PodPlan, survivors: &[Survivor]) -> Result<Box<dyn Driver>, SetupError> {
    Ok(match &plan.sandbox {
        None => {
            let driver = ProcessDriver::new(plan, survivors);
            Box::new(driver.map_err(system("make the pod's control groups"))?)
        }
        Some(sandbox) => {
            let driver = ContainerDriver::new(dir.path(), plan, sandbox, survivors);
            Box::new(driver.map_err(file("make the pod's sandbox in", dir.path()))?)
        }
    })
}

fn keepers_live(dir: &PodDir) -> bool {
    let live = |process: Identity| {
        kernel::hold_process(process.pid, process.ticks).is_some_and(|pidfd| !kernel::has_ended(&pidfd))
    };
    // Whoever cannot be asked is better left alone.
    match read_json(&dir.keepers()) {
        Ok(Some(Keepers { keeper, supervisor })) => live(keeper) || live(supervisor),
        _ => true,
    }
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
