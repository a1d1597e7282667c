//! `sluice pods-holder DIR`: keeps the namespaces in which pods run when the engine is not root.
//!
//! One user, mount, control group and network namespace for all pods of a node: they share the user's ranges of ids and a
//! bridge. `maps` says which ids there are, `space` makes the namespaces and furnishes them, `serve` hands them and sockets
//! of their network out to the engine and to supervisors, which the kernel would not let in by themselves. The holder does
//! nothing else; supervisors keep the namespaces alive without it, and another holder joins them (`--join PID`).
//!
//! `--probe` only tries whether this machine lets us.

mod maps;
mod serve;
mod space;

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::FdFlags,
    pipe::{PipeFlags, pipe_with},
    process::Pid,
};
use serde::{Deserialize, Serialize};
use sluice_lend::{Holder, Thing};

use crate::{
    kernel::{self, Fork},
    pod_dir::{append_private, write_json},
};

pub(crate) use space::enter;
use space::namespaces_of;
pub use space::number_of;

/// What `ps` and `top` show.
const PROCESS_NAME: &std::ffi::CStr = c"sluice-holder";
/// The user-space network that leads outwards, of Debian's package of that name.
const OUTWARD: &str = "slirp4netns";
const OUTWARD_LINK: &str = "tap0";
/// More than a route of the machine can carry is only copied less often.
const OUTWARD_MTU: &str = "65520";

/// Which holder there is, in its directory.
pub const RECORD: &str = "holder.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub pid: i32,
    /// When it was started, which tells it from a later process with the same id.
    pub ticks: u64,
    /// The numbers of the user and network namespaces, by which others in them are found.
    pub users_namespace: u64,
    pub network_namespace: u64,
    /// How many users there are in it.
    pub users: u32,
    /// Whether there is a way out of the machine.
    pub outward: bool,
}

/// Runs a holder; returns once it serves. What goes wrong is said on stderr.
#[expect(clippy::print_stderr, reason = "the agent reads a holder's stderr")]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let done = match (args.next(), args.next(), args.next()) {
        (Some(flag), None, None) if flag == "--probe" => space::probe().map(|()| ExitCode::SUCCESS),
        (Some(directory), None, None) => start(Path::new(&directory), None),
        (Some(directory), Some(flag), Some(pid)) if flag == "--join" => {
            start(Path::new(&directory), pid.to_string_lossy().parse().ok())
        }
        (Some(directory), Some(flag), Some(path)) if flag == "--remove" => {
            remove(Path::new(&directory), Path::new(&path)).map(|()| ExitCode::SUCCESS)
        }
        _ => Err(io::Error::other("usage: pods-holder DIR [--join PID | --remove PATH]")),
    };
    done.unwrap_or_else(|error| {
        eprintln!("pods-holder: {error}");
        ExitCode::FAILURE
    })
}

/// Removes a directory as root of the namespaces: what containers wrote there belongs to ids that only these know.
fn remove(directory: &Path, path: &Path) -> io::Result<()> {
    enter(Holder::connect(directory)?.ask(Thing::Namespaces)?)?;
    fs::remove_dir_all(path)
}

fn start(directory: &Path, join: Option<i32>) -> io::Result<ExitCode> {
    let directory = fs::canonicalize(directory)?;
    std::env::set_current_dir(&directory)?;
    let lock = append_private(Path::new("holder.lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("another holder keeps the pods' namespaces already"))?;
    let (from_holder, to_starter) = pipe_with(PipeFlags::CLOEXEC)?;
    let (from_starter, to_holder) = pipe_with(PipeFlags::CLOEXEC)?;
    // Nothing is ever written to it: who has the one end sees when the other is gone.
    let (death, life) = pipe_with(PipeFlags::CLOEXEC)?;
    match kernel::fork()? {
        Fork::Parent(holder) => {
            drop((to_starter, from_starter, life));
            let ends = (File::from(from_holder), File::from(to_holder), death);
            attend(holder, ends, join.is_some()).map(|()| ExitCode::SUCCESS)
        }
        Fork::Child => {
            drop((from_holder, to_holder, death));
            let _held = (lock, life);
            hold(File::from(to_starter), File::from(from_starter), (&directory, join))
        }
    }
}

/// What the holder tells its starter, in this order.
const UNSHARED: u8 = b'u';
const FURNISHED: u8 = b'f';
const SERVING: u8 = b's';
/// What the starter says to go on, with the number of users, and then whether there is a way out.
type Word = [u8; 4];

/// The starter, which stays outside: gives the holder its ids and the way out, which only somebody outside can.
fn attend(holder: Pid, (mut from, mut to, death): (File, File, OwnedFd), joins: bool) -> io::Result<()> {
    let mut hear = |expected: u8| {
        let mut word = [0];
        match from.read_exact(&mut word) {
            Ok(()) if word[0] == expected => Ok(()),
            // It has said itself why.
            _ => Err(io::Error::other("the holder did not come up")),
        }
    };
    if !joins {
        hear(UNSHARED)?;
        let users = maps::give(holder)?;
        to.write_all(&users.to_ne_bytes())?;
    }
    hear(FURNISHED)?;
    let word: Word = u32::from(lead_outward(holder, &death).unwrap_or(false)).to_ne_bytes();
    to.write_all(&word)?;
    hear(SERVING)
}

/// Starts the way out, which ends when it sees the holder's death, and says whether there is one.
fn lead_outward(holder: Pid, death: &OwnedFd) -> io::Result<bool> {
    let (ready, tell) = pipe_with(PipeFlags::CLOEXEC)?;
    let log = append_private(Path::new("outward.log"))?;
    for inherited in [death, &tell] {
        rustix::io::fcntl_setfd(inherited, FdFlags::empty())?;
    }
    let child = Command::new(OUTWARD)
        .args(["--configure", "--disable-host-loopback", "--mtu", OUTWARD_MTU])
        .args(["--ready-fd", &tell.as_raw_fd().to_string(), "--exit-fd", &death.as_raw_fd().to_string()])
        .args([&holder.as_raw_nonzero().to_string(), OUTWARD_LINK])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A signal to the engine's terminal is not for it.
        .process_group(0)
        .spawn();
    drop((child?, tell));
    Ok(File::from(ready).read(&mut [0])? == 1)
}

/// The holder itself.
fn hold(mut to: File, mut from: File, (directory, join): (&Path, Option<i32>)) -> io::Result<ExitCode> {
    rustix::process::setsid()?;
    let _nameless = rustix::thread::set_name(PROCESS_NAME);
    kernel::be_deaf();
    let mut hear = || {
        let mut word: Word = [0; 4];
        // Without its starter nobody waits for it.
        from.read_exact(&mut word).map(|()| u32::from_ne_bytes(word))
    };
    let users = match join {
        Some(pid) => {
            space::join(pid)?;
            // A mount namespace begins at its root.
            std::env::set_current_dir(directory)?;
            maps::count(&fs::read_to_string("/proc/self/uid_map")?)
        }
        None => {
            space::unshare_users()?;
            to.write_all(&[UNSHARED])?;
            let users = hear()?;
            space::furnish()?;
            users
        }
    };
    to.write_all(&[FURNISHED])?;
    let outward = hear()? != 0;
    let server = serve::Server::open()?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let ticks = kernel::start_ticks(pid).unwrap_or(0);
    let (users_namespace, network_namespace) = (space::number_of("self", "user")?, space::number_of("self", "net")?);
    let record = Record { pid, ticks, users_namespace, network_namespace, users, outward };
    write_json(Path::new(RECORD), &record)?;
    to.write_all(&[SERVING])?;
    drop((to, from));
    server.run()
}
