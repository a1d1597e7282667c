//! What makes a container out of a command. The supervisor's loop knows nothing else of it.
//!
//! `process` is there on every system, `container` on Linux alone. Both put their processes into control groups (`cgroup`) where
//! there are any, and leave a `mark` when a program begins.

#[cfg(unix)]
pub mod cgroup;
#[cfg(unix)]
#[cfg_attr(not(all(target_os = "linux", target_pointer_width = "64")), path = "no_containers.rs")]
pub mod container;
pub mod mark;
#[cfg_attr(windows, path = "process/windows.rs")]
pub mod process;

use std::{
    io,
    path::{Path, is_separator},
};

use self::mark::Mark;
pub use self::process::ProcessDriver;
use crate::{
    kernel::{self, Pid, Signal, Socket, StreamEnd},
    plan::Command,
    wire::Family,
};

/// What a process on a terminal is told it is, unless its container says.
#[cfg(unix)]
pub(crate) const DEFAULT_TERM: &str = "xterm";

pub trait Driver {
    /// Starts a container. Its end is seen by waiting for its process, which must be our child.
    fn start(&mut self, command: &Command, stdio: Stdio, mark: Mark) -> io::Result<Spawned>;
    /// Starts another process inside a running container. Without a mark nobody asks for it after its supervisor.
    fn exec(&mut self, command: &Command, argv: &[String], stdio: Stdio, mark: Option<Mark>) -> io::Result<Spawned>;
    /// A new terminal for a container that is about to start, or for a command beside one that runs: our side of it. It must
    /// be one of the container's own, or programs there neither find it by name nor can be interrupted on it.
    fn terminal(&mut self, _command: &Command) -> io::Result<StreamEnd> {
        kernel::machine_terminal()
    }
    /// A TCP socket in the network of the pod, when that is not the machine's.
    fn socket(&self, _family: Family) -> io::Result<Option<Socket>> {
        Ok(None)
    }
    /// Signals everything in a container, or everything that an `exec` has started.
    fn signal(&mut self, pid: Pid, signal: Signal);
    /// Takes a container over that a lost supervisor has started.
    fn adopt(&mut self, _command: &Command, _pid: Pid) {}
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

/// What only the driver can know of how a container ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Remains {
    /// The kernel ended something in it for want of memory.
    pub out_of_memory: bool,
}

/// The streams that a process is born with.
#[derive(Debug)]
pub enum Stdio {
    /// Without stdin it reads nothing; what has no reader goes nowhere.
    Pipes { stdin: Option<StreamEnd>, stdout: Option<StreamEnd>, stderr: Option<StreamEnd> },
    /// The far side of a terminal, which becomes the process's controlling one.
    Terminal(StreamEnd),
}

/// A container that runs without a supervisor.
#[derive(Debug, Clone)]
pub struct Survivor {
    /// As the plan has it.
    pub container: String,
    pub pid: Pid,
}

#[derive(Debug)]
pub struct Spawned {
    pub pid: Pid,
    pub ticks: u64,
}

impl Spawned {
    /// A child that nobody has waited for.
    pub(super) fn new(pid: Pid) -> Self {
        Self { pid, ticks: kernel::start_ticks(pid.as_raw_nonzero().get()).unwrap_or(0) }
    }
}

/// Why a program was not started, for whoever wrote its name. `place`: where it was looked for.
pub(super) fn not_started(program: &str, path: &str, place: &str, error: &io::Error) -> io::Error {
    let why = match error.kind() {
        io::ErrorKind::NotFound if exists(program, path) => format!("its interpreter or loader is missing{place}"),
        io::ErrorKind::NotFound => format!("no such program{place}; give its full path or check $PATH"),
        io::ErrorKind::PermissionDenied => "it may not be executed".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), format!("cannot start `{program}`: {why}"))
}

fn exists(program: &str, path: &str) -> bool {
    if program.contains(is_separator) {
        return Path::new(program).exists();
    }
    std::env::split_paths(path).any(|directory| directory.join(program).exists())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_start_is_told_why() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = directory.path().join("script");
        std::fs::write(&script, "#!/no/such/shell\n").expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).expect("a mode");
        let path = "/nowhere:/bin";
        let check = |program: &str, why: &str| {
            let error = std::process::Command::new(program).env_clear().env("PATH", path).spawn();
            let error = not_started(program, path, " here", &error.expect_err("no program"));
            assert_eq!(error.to_string(), format!("cannot start `{program}`: {why}"));
        };
        check("no-such-program", "no such program here; give its full path or check $PATH");
        check(&script.to_string_lossy(), "its interpreter or loader is missing here");
        check("/etc/passwd", "it may not be executed");
        check("/bin", "it may not be executed");
    }
}
