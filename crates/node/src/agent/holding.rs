//! The agent's end of the holder: starts it, sees that there is one, and asks it for what only it can make.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use sluice_lend::{Holder, Thing};
use sluice_netlink::{Links, Socket};
use sluice_pod::{
    holder::{RECORD, Record, number_of},
    kernel::start_ticks,
    pod_dir::{PRIVATE_DIR, make_dir, read_json},
};
use tokio::net::UnixStream;
use tracing::{info, warn};

/// The namespaces of this node's pods, when it runs without root.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    directory: PathBuf,
    exe: PathBuf,
}

impl Holding {
    pub(super) fn new(data_dir: &Path, exe: &Path) -> Self {
        Self { directory: data_dir.join("rootless"), exe: exe.to_owned() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes sure that there is a holder, in the namespaces of the one before if anything lives in them. Says whether the
    /// namespaces are new ones.
    pub(super) fn ensure(&self) -> io::Result<bool> {
        if Holder::connect(&self.directory).is_ok() {
            return Ok(false);
        }
        make_dir(&self.directory, PRIVATE_DIR)?;
        let known: Option<Record> = read_json(&self.directory.join(RECORD))?;
        let survivor = known.and_then(|known| living_beside(&known));
        let mut command = Command::new(&self.exe);
        command.arg("pods-holder").arg(&self.directory);
        if let Some(pid) = survivor {
            command.args(["--join", &pid.to_string()]);
        }
        let said = self.directory.join("holder.log");
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&said)?).status()?;
        if !status.success() {
            let said = fs::read_to_string(said).unwrap_or_default();
            return Err(io::Error::other(said.lines().last().unwrap_or("the holder says nothing").to_owned()));
        }
        self.tell(survivor.is_some());
        Ok(survivor.is_none())
    }

    fn tell(&self, joined: bool) {
        let Ok(Some(Record { users, outward, .. })) = read_json(&self.directory.join(RECORD)) else { return };
        match joined {
            true => warn!("The holder of the pods' namespaces was lost: another one has taken over"),
            false => info!(users, "Pods run in a user namespace; limits of control groups are advice"),
        }
        if users == 1 {
            warn!(
                "Containers have one user, root: install `uidmap` and give this user ranges in /etc/subuid and /etc/subgid"
            );
        }
        if !outward {
            warn!(
                "Containers have no way out of this machine: install `slirp4netns`, and let this user open /dev/net/tun"
            );
        }
    }

    /// Readable when the holder is gone; `None` when there is none.
    pub(super) fn watch(&self) -> Option<UnixStream> {
        let connection = StdStream::from(OwnedFd::from(Holder::connect(&self.directory).ok()?));
        connection.set_nonblocking(true).ok()?;
        UnixStream::from_std(connection).ok()
    }

    pub(super) fn links(&self) -> io::Result<Links> {
        Links::over(Holder::connect(&self.directory)?.ask_one(Thing::Links)?)
    }

    pub(super) fn packet_filter(&self) -> io::Result<Socket> {
        Socket::over(Holder::connect(&self.directory)?.ask_one(Thing::Filter)?)
    }

    /// Ends the holder; with it and the last supervisor, network and mounts are gone.
    pub(super) fn end(&self) -> io::Result<()> {
        let known: Option<Record> = read_json(&self.directory.join(RECORD))?;
        if let Some(known) = known
            && start_ticks(known.pid) == Some(known.ticks)
            && let Some(pid) = Pid::from_raw(known.pid)
        {
            kill_process(pid, Signal::KILL)?;
        }
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what belongs to ids of the namespace, which nobody outside may touch.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let status =
            Command::new(&self.exe).arg("pods-holder").arg(&self.directory).arg("--remove").arg(path).status()?;
        if status.success() { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// Some process in the namespaces of a holder: a supervisor, while the containers of pods have networks of their own.
fn living_beside(holder: &Record) -> Option<i32> {
    let is_in = |pid: i32, kind, namespace| number_of(&pid.to_string(), kind).is_ok_and(|number| number == namespace);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|process| process.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| is_in(*pid, "user", holder.users_namespace) && is_in(*pid, "net", holder.network_namespace))
}
