//! The namespaces that the containers of a pod share. The supervisor makes and holds them: no process pauses for them, and
//! with the last container and the supervisor they are gone, the pod's cable with them.
//!
//! Making a network takes the kernel's lock over all links several times, which whoever takes a network apart holds for long. So
//! the agent makes some ahead ([`network_ahead`]) and hands one over as the supervisor's standard input.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::Pid,
    thread::{
        LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_link_name_space, move_into_thread_name_spaces,
    },
};
use sluice_netlink::{Cable, Links};

use super::{super::cgroup::Group, birth::fork_in, syscalls};
use crate::{
    confinement::{PodNetwork, Resources, Sandbox},
    features::Feature,
    kernel::{self, Fork},
    wire::Family,
};

const NETWORK: &str = "network";
const PROCESSES: &str = "processes";
const PIDS: LinkNameSpaceType = LinkNameSpaceType::ProcessID;
/// The name of the link inside a pod.
const INSIDE: &str = "eth0";
/// In a network of its own, a pod may use any port and send pings, as anywhere. Its addresses are known to be nobody else's, and
/// asking would fail: a bridge that sends back what a port said makes the pod hear its own question. Routers are not on its bridge.
const OWN_NETWORK: [(&str, &str); 4] = [
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
];

/// Held open for as long as the pod lives.
#[derive(Debug)]
pub(super) struct Shared {
    held: Vec<(&'static str, File)>,
}

impl Shared {
    /// Makes the namespaces and the pod's end of the network, unless that was handed over, and comes back to the machine's own.
    pub(super) fn make(sandbox: &Sandbox, group: &Group) -> io::Result<Self> {
        let kinds = kinds(sandbox);
        let given = handed_over()?.filter(|_| sandbox.network.is_some());
        let home: Vec<(LinkNameSpaceType, File)> =
            kinds.iter().map(|kind| Ok((kind.link, own(kind.file)?))).collect::<io::Result<_>>()?;
        let mut here = if sandbox.network.is_some() && given.is_none() { Some(Links::open()?) } else { None };
        let flags = kinds.iter().fold(UnshareFlags::empty(), |all, kind| all | kind.flag);
        unshare(if given.is_some() { flags - UnshareFlags::NEWNET } else { flags })?;
        if let Some(network) = &given {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        let inside = furnish(sandbox, &kinds, given.is_some());
        for (kind, namespace) in &home {
            // Staying in a pod's namespaces would be wrong for everything that follows.
            move_into_link_name_space(namespace.as_fd(), Some(*kind))?;
        }
        let (mut held, mut there) = inside?;
        if let (Some(network), Some(here), Some(there)) = (&sandbox.network, &mut here, &mut there) {
            let namespace = held.iter().find(|(kind, _)| *kind == NETWORK).map(|(_, file)| file);
            let namespace = namespace.ok_or_else(|| io::Error::other("the pod has no network namespace"))?;
            connect(network, namespace, here, there)?;
        }
        if shares_processes(sandbox) {
            held.push((PROCESSES, processes(group)?));
        }
        Ok(Self { held })
    }

    /// Takes hold of those that a running container of the pod is in: whoever made them is gone.
    pub(super) fn adopt(sandbox: &Sandbox, pid: Pid) -> io::Result<Self> {
        let of_container = |name: &'static str, file: &str| -> io::Result<_> {
            Ok((name, File::open(format!("/proc/{}/ns/{file}", pid.as_raw_nonzero()))?))
        };
        let kinds = kinds(sandbox).into_iter().map(|kind| (kind.name, kind.file));
        let processes = shares_processes(sandbox).then_some((PROCESSES, "pid"));
        let held = kinds.chain(processes).map(|(name, file)| of_container(name, file));
        Ok(Self { held: held.collect::<io::Result<_>>()? })
    }

    /// Whether containers see each other's processes.
    pub(super) fn of_processes(&self) -> bool {
        self.held.iter().any(|(kind, _)| *kind == PROCESSES)
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

    /// The calling process goes where the pod's containers are, but for their processes: among them it must be born.
    pub(super) fn enter(&self) -> io::Result<()> {
        let others = self.held.iter().filter(|(kind, _)| *kind != PROCESSES);
        others.into_iter().try_for_each(|(_, namespace)| Ok(move_into_link_name_space(namespace.as_fd(), None)?))
    }

    /// Does something that makes children, which are born among the processes of the pod if it shares them.
    pub(super) fn among_processes<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.held.iter().find(|(kind, _)| *kind == PROCESSES) {
            Some((_, namespace)) => born_in(|| move_into_link_name_space(namespace.as_fd(), Some(PIDS)), act),
            None => act(),
        }
    }
}

/// Does something that makes children, which are born among the processes of a container.
pub(super) fn among_processes_of<T>(container: BorrowedFd<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    born_in(|| move_into_thread_name_spaces(container, ThreadNameSpaceType::PROCESS_ID), act)
}

fn born_in<T>(go: impl FnOnce() -> rustix::io::Result<()>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let home = own("pid")?;
    go()?;
    let done = act();
    // Whoever is started from here on begins elsewhere again.
    move_into_link_name_space(home.as_fd(), Some(PIDS))?;
    done
}

/// What a container has of its own or of its pod, rather than of the machine. Its processes apart: among them one is born.
pub(super) fn of_container(sandbox: &Sandbox) -> ThreadNameSpaceType {
    let own = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::CONTROL_GROUP;
    kinds(sandbox).iter().fold(own, |all, kind| all | ThreadNameSpaceType::from_bits_retain(kind.flag.bits()))
}

/// Sees its own control groups as the topmost from here on.
pub(super) fn own_groups() -> io::Result<()> {
    unshare(UnshareFlags::NEWCGROUP)
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
fn furnish(sandbox: &Sandbox, kinds: &[Kind], connected: bool) -> io::Result<Furnished> {
    let held = kinds.iter().map(|kind| Ok((kind.name, own(kind.file)?))).collect::<io::Result<_>>()?;
    let mut links = None;
    if sandbox.network.is_some() {
        rustix::system::sethostname(sandbox.hostname.as_bytes())?;
        if !connected {
            links = Some(furnish_network(sandbox.holder.is_some())?);
        }
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
    let group = group.container(FIRST_PROCESS);
    group.make_inside(&Resources::default())?;
    if group.directories().is_empty() {
        return Err(io::Error::other("there is no control group by which the pod's processes could be ended together"));
    }
    let (joined, told) = kernel::pipe()?;
    let (fork, doors) = fork_in(&group, UnshareFlags::NEWPID)?;
    match fork {
        Fork::Child => {
            if kernel::join(&doors).is_err() {
                syscalls::exit_at_once(1);
            }
            let _unheard = rustix::io::write(&told, b"j");
            let _nameless = rustix::thread::set_name(c"sluice-first");
            syscalls::rest_for_good();
        }
        Fork::Parent(first) => {
            drop(told);
            match rustix::io::read(&joined, &mut [0u8]) {
                Ok(1) => File::open(format!("/proc/{}/ns/pid", first.as_raw_nonzero())),
                _ => Err(io::Error::other("the first of the pod's processes cannot join its control group")),
            }
        }
    }
}

/// Inside a new network namespace: what every pod's is like.
fn furnish_network(held_by_user: bool) -> io::Result<Links> {
    OWN_NETWORK.iter().for_each(|(name, value)| drop(set(name, value)));
    let mut inside = Links::open()?;
    inside.raise_index(LOOPBACK)?;
    if held_by_user {
        leave_services(&mut inside)?;
    }
    Ok(inside)
}

/// Without root, services have addresses in the upper half of the loopback network: a pod keeps the lower half for itself and
/// sends what is for the upper one to its gateway, where the engine listens.
fn leave_services(inside: &mut Links) -> io::Result<()> {
    inside.add_address(LOOPBACK, Ipv4Addr::LOCALHOST, 9)?;
    inside.remove_address(LOOPBACK, Ipv4Addr::LOCALHOST, 8)?;
    for links in ["all", "default"] {
        set(&format!("net.ipv4.conf.{links}.route_localnet"), "1")?;
    }
    Ok(())
}

/// Makes a network namespace for a pod to come, connected as the pod will be, for as long as somebody holds the file. Leaves the
/// calling thread in it.
pub fn network_ahead(network: &PodNetwork) -> io::Result<File> {
    let mut here = Links::open()?;
    unshare(UnshareFlags::NEWNET)?;
    let namespace = own("net")?;
    let mut there = furnish_network(false)?;
    connect(network, &namespace, &mut here, &mut there)?;
    Ok(namespace)
}

/// The network that the agent has made ahead, which it hands over as standard input. Nobody else inherits it.
fn handed_over() -> io::Result<Option<File>> {
    /// `NSFS_MAGIC` of the kernel: what a namespace is a file of.
    const NAMESPACES: u64 = 0x6e73_6673;
    let given = rustix::stdio::stdin();
    if rustix::fs::fstatfs(given)?.f_type as u64 != NAMESPACES {
        return Ok(None);
    }
    let held = File::from(given.try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(Some(held))
}

fn connect(network: &PodNetwork, namespace: &File, here: &mut Links, there: &mut Links) -> io::Result<()> {
    // One of that name is left from a supervisor that was killed just now.
    let _none = here.remove(&network.port);
    let cable =
        Cable { bridge: &network.bridge, port: &network.port, far_name: INSIDE, far_namespace: namespace.as_fd() };
    here.add_cable(&cable).map_err(|error| Feature::Veth.explain(error)).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot connect the pod to `{}`: {error}", network.bridge))
    })?;
    // A pod reaches itself by the address of its service.
    here.allow_hairpin(&network.port)?;
    let inside = there.find(INSIDE)?;
    there.add_address(inside, network.address, network.prefix_length)?;
    if let Some(ipv6) = network.ipv6 {
        there.add_address(inside, ipv6.address, ipv6.prefix_length)?;
    }
    there.raise_index(inside)?;
    there.add_default_route(inside, network.gateway)?;
    network.ipv6.map_or(Ok(()), |ipv6| there.add_default_route(inside, ipv6.gateway))
}

fn own(kind: &str) -> io::Result<File> {
    File::open(format!("/proc/thread-self/ns/{kind}"))
}

fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(name.replace('.', "/")), value)
}

#[expect(unsafe_code, reason = "unshare can break what other threads rely on")]
fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: these flags leave files and descriptors as they are, and concern the calling thread alone: the supervisor has no
    // other, the agent makes networks in threads that end with it.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}
