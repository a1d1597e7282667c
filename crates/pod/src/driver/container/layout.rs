//! What a container is made of, before there is one: its mounts, devices and masks. Pure.

use std::path::{Path, PathBuf};

use rustix::{fs::FileType, mount::MountAttrFlags};

use super::devices::COMMON;
use crate::confinement::{Confinement, Propagation};

/// Everything that the first process of a container sets up around itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) propagation: Propagation,
    /// In the order in which they are made.
    pub(super) mounts: Vec<Mounted>,
    pub(super) devices: Vec<Node>,
    /// Bound from the machine instead of made: without root, nobody makes devices.
    pub(super) bind_devices: bool,
    /// What tells about the machine, and is covered by nothing.
    pub(super) masked: Vec<PathBuf>,
    pub(super) read_only: Vec<PathBuf>,
    pub(super) read_only_root: bool,
    /// Where programs start; made if it is not there.
    pub(super) dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) target: PathBuf,
    pub(super) content: Content,
    pub(super) attributes: MountAttrFlags,
    /// The attributes hold for everything that is mounted below, too.
    pub(super) with_all_below: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A new file system of this kind.
    New { kind: &'static str, options: Vec<(&'static str, &'static str)> },
    /// What is found here, with everything that is mounted below it if so wished.
    Bound { source: PathBuf, recursive: bool },
}

/// A file in `/dev`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Below `/dev`.
    pub(super) name: PathBuf,
    pub(super) kind: FileType,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

/// What the driver has made ready for a container.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// Absolute sources and where they show up, in order.
    pub(super) binds: Vec<Bind>,
    pub(super) shared_memory: Option<&'a Path>,
    /// For a container that starts on the first of its terminals.
    pub(super) terminals: Option<&'a Path>,
    pub(super) cgroups: Cgroups,
    /// Whether we live in a user namespace, without root.
    pub(super) in_namespace: bool,
    /// Whether the pod's network belongs to a user namespace outside of its own.
    pub(super) foreign_network: bool,
    /// Whether there is the group that terminals belong to.
    pub(super) terminal_group: bool,
    /// The machine's, for a container that may use them all.
    pub(super) devices: Vec<Node>,
    pub(super) dir: &'a Path,
}

/// What a container sees of its control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cgroups {
    /// The one hierarchy of version 2.
    Unified,
    /// A directory with a place for each of these hierarchies of version 1.
    Several { directory: PathBuf, views: Vec<(String, PathBuf)> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) source: PathBuf,
    pub(super) target: PathBuf,
    pub(super) access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Full,
    ReadOnly,
    /// With everything that is mounted below it.
    AllReadOnly,
}

/// What of `/proc` and `/sys` tells about the machine rather than the container.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Options of a container's `/dev/pts`. Every mount of it is a set of terminals of its own.
const TERMINALS: [(&str, &str); 3] = [("ptmxmode", "0666"), ("mode", "0620"), TERMINAL_GROUP];
const TERMINAL_GROUP: (&str, &str) = ("gid", "5");

/// Without the group where there is none.
pub(super) fn terminal_options(group: bool) -> Vec<(&'static str, &'static str)> {
    TERMINALS.into_iter().filter(|option| group || *option != TERMINAL_GROUP).collect()
}

/// What every container finds in `/dev` beside devices.
pub(super) const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

const CGROUPS: &str = "/sys/fs/cgroup";

const PLAIN: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const READ: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

pub(super) fn layout(confinement: &Confinement, place: &Place<'_>) -> Layout {
    let common = COMMON.map(|(name, major, minor)| Node {
        name: name.into(),
        kind: FileType::CharacterDevice,
        major,
        minor,
        mode: 0o666,
        owner: (0, 0),
    });
    let named = |name: &Path| place.devices.iter().any(|device| device.name == name);
    let mut devices: Vec<Node> = common.into_iter().filter(|device| !named(&device.name)).collect();
    devices.extend(place.devices.iter().cloned());
    let (masked, read_only) = match confinement.privileged {
        true => (Vec::new(), Vec::new()),
        false => (
            MASKED.iter().map(PathBuf::from).chain(confinement.hidden.iter().cloned()).collect(),
            READ_ONLY.iter().map(PathBuf::from).collect(),
        ),
    };
    Layout {
        propagation: confinement.propagation(),
        mounts: mounts(confinement, place),
        devices,
        bind_devices: place.in_namespace,
        masked,
        read_only,
        read_only_root: confinement.read_only_root,
        dir: place.dir.to_owned(),
    }
}

fn mounts(confinement: &Confinement, place: &Place<'_>) -> Vec<Mounted> {
    let machinery = if confinement.privileged { PLAIN } else { PLAIN | READ };
    let mut mounts = vec![
        new("/proc", "proc", &[], PLAIN),
        new("/dev", "tmpfs", &[("mode", "755"), ("size", "65536k")], MountAttrFlags::MOUNT_ATTR_NOSUID),
        terminals(place.terminals, place.terminal_group),
        new("/dev/mqueue", "mqueue", &[], PLAIN),
        match place.foreign_network {
            // The kernel mounts it only for the owner of the network that it shows.
            true => bound("/sys", Path::new("/sys"), true, READ),
            false => new("/sys", "sysfs", &[], machinery),
        },
    ];
    match &place.cgroups {
        Cgroups::Unified => mounts.push(new(CGROUPS, "cgroup2", &[], machinery)),
        Cgroups::Several { directory, views } => {
            mounts.push(bound(CGROUPS, directory, false, PLAIN | READ));
            mounts.extend(views.iter().map(|(name, group)| {
                let target = Path::new(CGROUPS).join(name);
                bound(target, group, false, machinery)
            }));
        }
    }
    if let Some(shared) = place.shared_memory {
        mounts.push(bound("/dev/shm", shared, true, MountAttrFlags::empty()));
    }
    if let Some(terminals) = place.terminals {
        mounts.push(bound("/dev/console", &terminals.join("0"), false, MountAttrFlags::empty()));
    }
    // What lies below another mount comes after it.
    let mut binds: Vec<&Bind> = place.binds.iter().collect();
    binds.sort_by_key(|bind| bind.target.components().count());
    mounts.extend(binds.into_iter().map(|Bind { source, target, access }| {
        let attributes = if *access == Access::Full { MountAttrFlags::empty() } else { READ };
        Mounted { with_all_below: *access == Access::AllReadOnly, ..bound(target, source, true, attributes) }
    }));
    mounts
}

fn new(
    target: impl Into<PathBuf>,
    kind: &'static str,
    options: &[(&'static str, &'static str)],
    attributes: MountAttrFlags,
) -> Mounted {
    let content = Content::New { kind, options: options.to_vec() };
    Mounted { target: target.into(), content, attributes, with_all_below: false }
}

fn bound(target: impl Into<PathBuf>, source: &Path, recursive: bool, attributes: MountAttrFlags) -> Mounted {
    let content = Content::Bound { source: source.to_owned(), recursive };
    Mounted { target: target.into(), content, attributes, with_all_below: false }
}

fn terminals(made: Option<&Path>, group: bool) -> Mounted {
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    match made {
        Some(made) => bound("/dev/pts", made, false, attributes),
        None => new("/dev/pts", "devpts", &terminal_options(group), attributes),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn confinement() -> Confinement {
        let value = json!({ "container": "web", "root": "machine", "hidden": ["/data"] });
        serde_json::from_value(value).expect("a confinement")
    }

    fn bind(source: &str, target: &str, access: Access) -> Bind {
        Bind { source: source.into(), target: target.into(), access }
    }

    fn place() -> Place<'static> {
        Place {
            binds: vec![
                bind("/pods/1/deep", "/etc/app/deep", Access::AllReadOnly),
                bind("/pods/1/hosts", "/etc/hosts", Access::ReadOnly),
            ],
            shared_memory: Some(Path::new("/pods/1/shm")),
            terminals: None,
            cgroups: Cgroups::Several {
                directory: "/pods/1/cgroup".into(),
                views: vec![("cpu".to_owned(), "/sys/fs/cgroup/cpu/sluice/pod1/web".into())],
            },
            in_namespace: false,
            foreign_network: false,
            terminal_group: true,
            devices: Vec::new(),
            dir: Path::new("/srv"),
        }
    }

    fn mount<'a>(layout: &'a Layout, target: &str) -> &'a Mounted {
        layout.mounts.iter().find(|mount| mount.target == Path::new(target)).expect("a mount")
    }

    #[test]
    fn a_container_sees_the_machine_through_masks() {
        let layout = layout(&confinement(), &place());
        assert!(layout.masked.contains(&"/data".into()) && layout.masked.contains(&"/proc/kcore".into()));
        assert!(layout.read_only.contains(&"/proc/sys".into()));
        assert_eq!(mount(&layout, "/sys").attributes, PLAIN | READ);
        assert_eq!(mount(&layout, "/sys/fs/cgroup/cpu").attributes, PLAIN | READ);
        assert_eq!(layout.devices.len(), COMMON.len());
    }

    #[test]
    fn a_privileged_container_sees_the_machine_as_it_is() {
        let disk =
            Node { name: "vda".into(), kind: FileType::BlockDevice, major: 254, minor: 0, mode: 0o660, owner: (0, 6) };
        let null = Node {
            name: "null".into(),
            kind: FileType::CharacterDevice,
            major: 1,
            minor: 3,
            mode: 0o600,
            owner: (0, 0),
        };
        let confinement = Confinement { privileged: true, ..confinement() };
        let layout = layout(&confinement, &Place { devices: vec![disk.clone(), null.clone()], ..place() });
        assert!(layout.masked.is_empty() && layout.read_only.is_empty());
        assert_eq!(mount(&layout, "/sys").attributes, PLAIN);
        assert_eq!(mount(&layout, "/sys/fs/cgroup/cpu").attributes, PLAIN);
        assert!(layout.devices.contains(&disk));
        let nulls: Vec<_> = layout.devices.iter().filter(|device| device.name == Path::new("null")).collect();
        assert_eq!(nulls, [&null], "the machine's own takes the place of the usual one");
    }

    #[test]
    fn what_lies_below_another_mount_comes_after_it() {
        let layout = layout(&confinement(), &place());
        let last: Vec<_> = layout.mounts.iter().rev().take(2).map(|mount| mount.target.to_str()).collect();
        assert_eq!(last, [Some("/etc/app/deep"), Some("/etc/hosts")]);
        assert!(mount(&layout, "/etc/app/deep").with_all_below && !mount(&layout, "/etc/hosts").with_all_below);
        assert_eq!(mount(&layout, "/etc/hosts").attributes, READ);
    }

    #[test]
    fn terminals_are_new_unless_the_container_starts_on_one() {
        let kind = |place: &Place<'_>| mount(&layout(&confinement(), place), "/dev/pts").content.clone();
        let options = vec![("ptmxmode", "0666"), ("mode", "0620")];
        let nobodys = Place { terminal_group: false, ..place() };
        assert_eq!(kind(&nobodys), Content::New { kind: "devpts", options });
        let made = Place { terminals: Some(Path::new("/pods/1/pts")), ..place() };
        assert_eq!(kind(&made), Content::Bound { source: "/pods/1/pts".into(), recursive: false });
        let console = mount(&layout(&confinement(), &made), "/dev/console").content.clone();
        assert_eq!(console, Content::Bound { source: "/pods/1/pts/0".into(), recursive: false });
    }

    #[test]
    fn without_root_nothing_is_mounted_that_belongs_to_the_machine() {
        let layout = layout(&confinement(), &Place { in_namespace: true, foreign_network: true, ..place() });
        assert_eq!(mount(&layout, "/sys").content, Content::Bound { source: "/sys".into(), recursive: true });
        assert!(layout.bind_devices);
    }
}
