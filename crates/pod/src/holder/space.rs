//! The namespaces, as they are made and entered.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    process::{getegid, geteuid},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};
use sluice_lend::MAX_DESCRIPTORS;
use sluice_netlink::Links;

/// In the order in which they can be entered: the first gives the right to enter the others.
const NAMESPACES: [(&str, LinkNameSpaceType); MAX_DESCRIPTORS] = [
    ("user", LinkNameSpaceType::User),
    ("mnt", LinkNameSpaceType::Mount),
    ("cgroup", LinkNameSpaceType::ControlGroup),
    // Supervisors come back to these from those of their pods.
    ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
    ("ipc", LinkNameSpaceType::InterProcessCommunication),
    ("net", LinkNameSpaceType::Network),
];
/// What the network of the pods needs, whatever the machine has set.
const SETTINGS: [(&str, &str); 6] = [
    ("net/ipv4/ip_forward", "1"),
    // Services are reached at loopback addresses, which pods send to their gateway.
    ("net/ipv4/conf/all/route_localnet", "1"),
    ("net/ipv4/conf/default/route_localnet", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
];
const LOOPBACK: u32 = 1;

/// Goes on in a user namespace of its own, in which nobody has an id yet.
pub(super) fn unshare_users() -> io::Result<()> {
    unshare(UnshareFlags::NEWUSER).map_err(|error| {
        io::Error::new(error.kind(), format!("{}{}", told("make a user namespace", &error), what_allows(&error)))
    })
}

/// The settings of a machine that keep users from having namespaces, by what the kernel answers.
fn what_allows(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => ": the sysctl user.max_user_namespaces allows no more of them",
        Some(Errno::PERM | Errno::ACCESS) => {
            ": allow it with the sysctl kernel.unprivileged_userns_clone=1, or \
             kernel.apparmor_restrict_unprivileged_userns=0, where the machine has one of these"
        }
        Some(Errno::INVAL | Errno::NOSYS) => ": the kernel lacks CONFIG_USER_NS",
        _ => "",
    }
}

/// Makes everything else. This process is root in its user namespace by now.
pub(super) fn furnish() -> io::Result<()> {
    let mounts = UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP;
    unshare(mounts | UnshareFlags::NEWNET | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)
        .map_err(|error| told("make namespaces", &error))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // The machine's own shows the machine's network.
    mount("sysfs", "/sys", "sysfs", plain, None).map_err(|error| told("mount /sys", &error.into()))?;
    // Below this there is only what we may change.
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", plain, None)
        .map_err(|error| told("mount control groups", &error.into()))?;
    Links::open()?.raise_index(LOOPBACK)?;
    for (name, value) in SETTINGS {
        fs::write(Path::new("/proc/sys").join(name), value).map_err(|error| told(&format!("set {name}"), &error))?;
    }
    Ok(())
}

/// Tries everything that [`furnish`] does, with one user.
pub(super) fn probe() -> io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    unshare_users()?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1\n")).map_err(|error| told("be root in a namespace", &error))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))?;
    furnish()
}

/// Enters the namespaces of a process that is in them already.
pub(super) fn join(pid: i32) -> io::Result<()> {
    enter(namespaces_of(&pid.to_string())?)
}

/// Enters namespaces that [`namespaces_of`] has opened. The process must have one thread.
pub(crate) fn enter(namespaces: Vec<OwnedFd>) -> io::Result<()> {
    for ((_, kind), namespace) in NAMESPACES.into_iter().zip(namespaces) {
        move_into_link_name_space(namespace.as_fd(), Some(kind))?;
    }
    Ok(())
}

/// Opens the namespaces of a process.
pub(super) fn namespaces_of(process: &str) -> io::Result<Vec<OwnedFd>> {
    NAMESPACES.iter().map(|(name, _)| Ok(File::open(format!("/proc/{process}/ns/{name}"))?.into())).collect()
}

/// The number of a process's namespace of some kind.
pub fn number_of(process: &str, kind: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{process}/ns/{kind}"))?.ino())
}

fn told(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}

#[expect(unsafe_code, reason = "unshare can break what other threads rely on")]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the holder has one thread, and these flags leave its descriptors as they are.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}
