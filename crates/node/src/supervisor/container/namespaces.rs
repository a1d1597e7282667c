//! The namespaces that the containers of a pod share. The supervisor makes and holds them: no process pauses for them, and
//! with the last container and the supervisor they are gone, the pod's cable with them.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::Pid,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};
use sluice_netlink::{Cable, Links};

use super::{
    super::kernel::{self, Fork},
    cgroup::Group,
};
use crate::{
    confinement::{PodNetwork, Sandbox},
    wire::Family,
};

const NETWORK: &str = "network";
/// The name of the link inside a pod.
const INSIDE: &str = "eth0";
/// In a network of its own, a pod may use any port and send pings, as anywhere.
const OWN_NETWORK: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Held open for as long as the pod lives.
#[derive(Debug)]
pub(super) struct Shared {
    held: Vec<(&'static str, File)>,
}

impl Shared {
    /// Makes the namespaces and the pod's end of the network, and comes back to the machine's own.
    pub(super) fn make(sandbox: &Sandbox, group: &Group) -> io::Result<Self> {
        let kinds = kinds(sandbox);
        let home: Vec<(LinkNameSpaceType, File)> =
            kinds.iter().map(|kind| Ok((kind.link, own(kind.file)?))).collect::<io::Result<_>>()?;
        let mut here = if sandbox.network.is_some() { Some(Links::open()?) } else { None };
        let flags = kinds.iter().fold(UnshareFlags::empty(), |all, kind| all | kind.flag);
        unshare(flags)?;
        let inside = furnish(sandbox, &kinds);
        for (kind, namespace) in &home {
            // Staying in a pod's namespaces would be wrong for everything that follows.
            move_into_link_name_space(namespace.as_fd(), Some(*kind))?;
        }
        let (mut held, mut there) = inside?;
        if let (Some(network), Some(here), Some(there)) = (&sandbox.network, &mut here, &mut there) {
            connect(network, &held, here, there)?;
        }
        if shares_processes(sandbox) {
            held.push(("pid", processes(group)?));
        }
        Ok(Self { held })
    }

    /// Takes hold of those that a running container of the pod is in: whoever made them is gone.
    pub(super) fn adopt(sandbox: &Sandbox, pid: Pid) -> io::Result<Self> {
        let of_container = |name: &'static str, file: &str| -> io::Result<_> {
            Ok((name, File::open(format!("/proc/{}/ns/{file}", pid.as_raw_nonzero()))?))
        };
        let kinds = kinds(sandbox).into_iter().map(|kind| (kind.name, kind.file));
        let processes = shares_processes(sandbox).then_some(("pid", "pid"));
        let held = kinds.chain(processes).map(|(name, file)| of_container(name, file));
        Ok(Self { held: held.collect::<io::Result<_>>()? })
    }

    /// Whether containers see each other's processes.
    pub(super) fn of_processes(&self) -> bool {
        self.held.iter().any(|(kind, _)| *kind == "pid")
    }

    /// A socket belongs to the network in which it was made, wherever it goes.
    pub(super) fn socket(&self, family: Family) -> io::Result<Option<OwnedFd>> {
        let Some((_, network)) = self.held.iter().find(|(kind, _)| *kind == NETWORK) else { return Ok(None) };
        let home = own("net")?;
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        let family = match family {
            Family::V4 => AddressFamily::INET,
            Family::V6 => AddressFamily::INET6,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None);
        move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(Some(socket?))
    }

    /// Kinds, as OCI calls them, and where libcontainer finds them.
    pub(super) fn paths(&self) -> Vec<(&'static str, String)> {
        let pid = std::process::id();
        self.held.iter().map(|(kind, file)| (*kind, format!("/proc/{pid}/fd/{}", file.as_raw_fd()))).collect()
    }
}

struct Kind {
    name: &'static str,
    file: &'static str,
    flag: UnshareFlags,
    link: LinkNameSpaceType,
}

fn kinds(sandbox: &Sandbox) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if sandbox.network.is_some() {
        kinds.push(Kind { name: NETWORK, file: "net", flag: UnshareFlags::NEWNET, link: LinkNameSpaceType::Network });
        // A pod on the machine's network has the machine's name.
        kinds.push(Kind {
            name: "uts",
            file: "uts",
            flag: UnshareFlags::NEWUTS,
            link: LinkNameSpaceType::HostNameAndNISDomainName,
        });
    }
    if !sandbox.host_ipc {
        kinds.push(Kind {
            name: "ipc",
            file: "ipc",
            flag: UnshareFlags::NEWIPC,
            link: LinkNameSpaceType::InterProcessCommunication,
        });
    }
    kinds
}

type Furnished = (Vec<(&'static str, File)>, Option<Links>);

/// Inside: takes hold of the namespaces and sets what can only be set from within.
fn furnish(sandbox: &Sandbox, kinds: &[Kind]) -> io::Result<Furnished> {
    let held = kinds.iter().map(|kind| Ok((kind.name, own(kind.file)?))).collect::<io::Result<_>>()?;
    let mut links = None;
    if sandbox.network.is_some() {
        rustix::system::sethostname(sandbox.hostname.as_bytes())?;
        OWN_NETWORK.iter().for_each(|(name, value)| drop(set(name, value)));
        let mut inside = Links::open()?;
        inside.raise_index(LOOPBACK)?;
        links = Some(inside);
    }
    for (name, value) in &sandbox.sysctls {
        set(name, value)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot set sysctl `{name}`: {error}")))?;
    }
    Ok((held, links))
}

const LOOPBACK: u32 = 1;
fn shares_processes(sandbox: &Sandbox) -> bool {
    sandbox.share_pids && !sandbox.host_pid
}

/// No container has such a name.
const FIRST_PROCESS: &str = "_first";

/// A namespace of processes for a whole pod. Its first process ends with the pod's control group: with it, all others end.
fn processes(group: &Group) -> io::Result<File> {
    let home = own("pid")?;
    unshare(UnshareFlags::NEWPID)?;
    let forked = kernel::fork();
    if let Ok(Fork::Child) = forked {
        let _nameless = rustix::thread::set_name(c"sluice-first");
        kernel::rest_for_good();
    }
    // Containers that are started from here on begin elsewhere again.
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
    let Fork::Parent(first) = forked? else { unreachable!("the child rests for good") };
    group.container(FIRST_PROCESS).take(first)?;
    File::open(format!("/proc/{}/ns/pid", first.as_raw_nonzero()))
}

fn connect(network: &PodNetwork, held: &[(&str, File)], here: &mut Links, there: &mut Links) -> io::Result<()> {
    let namespace = held.iter().find(|(kind, _)| *kind == NETWORK).map(|(_, file)| file.as_fd());
    let namespace = namespace.ok_or_else(|| io::Error::other("the pod has no network namespace"))?;
    // One of that name is left from a supervisor that was killed just now.
    let _none = here.remove(&network.port);
    let cable = Cable { bridge: &network.bridge, port: &network.port, far_name: INSIDE, far_namespace: namespace };
    here.add_cable(&cable).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot connect the pod to `{}`: {error}", network.bridge))
    })?;
    // A pod reaches itself by the address of its service.
    let port = Path::new("/sys/class/net").join(&network.port).join("brport/hairpin_mode");
    fs::write(port, "1")?;
    let inside = there.find(INSIDE)?;
    there.add_address(inside, network.address, network.prefix_length)?;
    there.raise_index(inside)?;
    there.add_default_route(inside, network.gateway)
}

fn own(kind: &str) -> io::Result<File> {
    File::open(format!("/proc/thread-self/ns/{kind}"))
}

fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(name.replace('.', "/")), value)
}

#[expect(unsafe_code, reason = "unshare can break what other threads rely on")]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: the supervisor has one thread, and these flags leave its files and descriptors as they are.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}
