//! The OCI runtime specification of a container, as JSON. Pure.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde_json::{Value, json};

use super::executor::capability_set;
use crate::{
    confinement::{CPU_PERIOD_US, Confinement, Propagation, Resources},
    plan::Command,
    supervisor::cgroup::cpu_weight,
};

/// Who a container's processes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// What the driver has made ready for a container.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) root: &'a Path,
    /// Absolute sources and where they show up, in order.
    pub(super) binds: Vec<Bind>,
    pub(super) shared_memory: Option<&'a Path>,
    /// For a container that starts on the first of its terminals.
    pub(super) terminals: Option<&'a Path>,
    /// Kinds of namespaces and where they are held; an empty path makes a new one.
    pub(super) namespaces: Vec<(&'static str, String)>,
    pub(super) cgroup: &'a str,
    pub(super) cgroups: Cgroups,
    /// What this node may do itself, so that it can hand it on.
    pub(super) possible: CapabilitySet,
    /// Whether control groups are ours to write: if not, limits are advice.
    pub(super) limits: bool,
    /// Whether the pod's network belongs to a user namespace outside of its own.
    pub(super) foreign_network: bool,
    /// Whether there is the group that terminals belong to.
    pub(super) terminal_group: bool,
    pub(super) devices: Vec<Value>,
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

impl Access {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Full => &["rbind", "rw"],
            Self::ReadOnly => &["rbind", "ro"],
            Self::AllReadOnly => &["rbind", "ro", "rro"],
        }
    }
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
const TERMINALS: [&str; 4] = ["newinstance", "ptmxmode=0666", "mode=0620", TERMINAL_GROUP];
const TERMINAL_GROUP: &str = "gid=5";

/// Without the group where there is none.
pub(super) fn terminal_options(group: bool) -> impl Iterator<Item = &'static str> {
    TERMINALS.into_iter().filter(move |option| group || *option != TERMINAL_GROUP)
}

const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) const ALL_CAPABILITIES: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

pub(super) fn container(command: &Command, confinement: &Confinement, user: &User, place: &Place<'_>) -> Value {
    let namespaces = place.namespaces.iter().map(|(kind, path)| match path.as_str() {
        "" => json!({ "type": kind }),
        path => json!({ "type": kind, "path": path }),
    });
    let mut linux = json!({
        "namespaces": namespaces.collect::<Vec<_>>(),
        "cgroupsPath": place.cgroup,
        "resources": if place.limits {
            resources(&confinement.resources, confinement.privileged, place.cgroups == Cgroups::Unified)
        } else {
            json!({})
        },
        "rootfsPropagation": match confinement.propagation() {
            Propagation::None => "private",
            Propagation::HostToContainer => "slave",
            // Shared within the container; only what is held as shared with the machine reaches it.
            Propagation::Bidirectional => "shared",
        },
    });
    if confinement.privileged {
        linux["devices"] = Value::Array(place.devices.clone());
    } else {
        linux["readonlyPaths"] = json!(READ_ONLY);
        let hidden = confinement.hidden.iter().map(|path| path.to_string_lossy().into_owned());
        linux["maskedPaths"] = MASKED.iter().map(|path| (*path).to_owned()).chain(hidden).collect();
    }
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": place.root, "readonly": confinement.read_only_root },
        "process": process(command, confinement, user, &command.argv, place.possible),
        "mounts": mounts(confinement, place),
        "linux": linux,
    })
}

/// A process of a container: its first, or a later one.
pub(super) fn process(
    command: &Command,
    confinement: &Confinement,
    user: &User,
    argv: &[String],
    possible: CapabilitySet,
) -> Value {
    let held = held_capabilities(confinement, possible);
    json!({
        "terminal": false,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": argv,
        "env": command.env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "cwd": command.dir,
        "capabilities": { "bounding": held, "effective": held, "permitted": held, "inheritable": [], "ambient": [] },
        "noNewPrivileges": confinement.no_new_privileges,
    })
}

/// What a process holds until its filter is in place. Without `no_new_privs` the kernel takes a filter only from somebody
/// with `CAP_SYS_ADMIN`, and takes capabilities out of the bounding set only for somebody with `CAP_SETPCAP`: both are held
/// for the moment, and given up just before the program starts.
fn held_capabilities(confinement: &Confinement, possible: CapabilitySet) -> Vec<String> {
    if confinement.privileged {
        let all = ALL_CAPABILITIES.map(str::to_owned).into_iter();
        return all.filter(|name| possible.contains(capability_set(std::slice::from_ref(name)))).collect();
    }
    let mut held = confinement.capabilities.clone();
    for needed in ["CAP_SYS_ADMIN", "CAP_SETPCAP"] {
        if !held.iter().any(|name| name == needed) {
            held.push(needed.to_owned());
        }
    }
    held
}

fn mounts(confinement: &Confinement, place: &Place<'_>) -> Vec<Value> {
    let sys = if confinement.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        terminals(place.terminals, place.terminal_group),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys] }),
    ];
    if place.foreign_network {
        // The kernel mounts it only for the owner of the network that it shows.
        mounts.retain(|mount| mount["destination"] != "/sys");
        mounts.push(json!({ "destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro"] }));
    }
    match &place.cgroups {
        Cgroups::Unified => {
            mounts.push(json!({ "destination": CGROUPS, "type": "cgroup", "source": "cgroup",
                                "options": ["nosuid", "noexec", "nodev", "relatime", sys] }));
        }
        Cgroups::Several { directory, views } => {
            let options = ["bind", "nosuid", "noexec", "nodev"];
            mounts.push(json!({ "destination": CGROUPS, "type": "bind", "source": directory,
                                "options": options.iter().chain(&["ro"]).collect::<Vec<_>>() }));
            mounts.extend(views.iter().map(|(name, group)| {
                json!({ "destination": format!("{CGROUPS}/{name}"), "type": "bind", "source": group,
                        "options": options.iter().chain(&[sys]).collect::<Vec<_>>() })
            }));
        }
    }
    if let Some(shared) = place.shared_memory {
        mounts.push(json!({ "destination": "/dev/shm", "type": "bind", "source": shared, "options": ["rbind", "rw"] }));
    }
    if let Some(terminals) = place.terminals {
        let first = terminals.join("0");
        mounts
            .push(json!({ "destination": "/dev/console", "type": "bind", "source": first, "options": ["bind", "rw"] }));
    }
    // What lies below another mount comes after it.
    let mut binds: Vec<&Bind> = place.binds.iter().collect();
    binds.sort_by_key(|bind| bind.target.components().count());
    mounts.extend(binds.into_iter().map(|bind| {
        json!({ "destination": bind.target, "type": "bind", "source": bind.source, "options": bind.access.options() })
    }));
    mounts
}

fn terminals(made: Option<&Path>, group: bool) -> Value {
    match made {
        Some(made) => json!({ "destination": "/dev/pts", "type": "bind", "source": made, "options": ["bind", "rw"] }),
        None => {
            let options: Vec<&str> = ["nosuid", "noexec"].into_iter().chain(terminal_options(group)).collect();
            json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options })
        }
    }
}

fn resources(resources: &Resources, privileged: bool, unified: bool) -> Value {
    let mut cpu = json!({});
    match resources.cpu_shares {
        // Version 2 has weights, which libcontainer would reckon by the older formula.
        Some(shares) if !unified => cpu["shares"] = json!(shares),
        _ => {}
    }
    if let Some(quota) = resources.cpu_quota_us {
        cpu["quota"] = json!(quota);
        cpu["period"] = json!(CPU_PERIOD_US);
    }
    let mut all = json!({ "cpu": cpu, "devices": [{ "allow": privileged, "access": "rwm" }] });
    if let Some(limit) = resources.memory_bytes {
        all["memory"] = json!({ "limit": limit });
    }
    if let Some(limit) = resources.pids {
        all["pids"] = json!({ "limit": limit });
    }
    if unified {
        // A container that lost one of its processes for want of memory is worth no more than one that ended.
        let mut files = json!({ "memory.oom.group": "1" });
        if let Some(shares) = resources.cpu_shares {
            files["cpu.weight"] = json!(cpu_weight(shares).to_string());
        }
        all["unified"] = files;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confinement::Root;

    fn confinement() -> Confinement {
        let value = json!({
            "container": "web", "root": "machine", "capabilities": ["CAP_CHOWN"], "seccomp": true, "hidden": ["/data"],
            "resources": { "cpuShares": 102, "cpuQuotaUs": 20000, "memoryBytes": 1024, "pids": 7 },
        });
        serde_json::from_value(value).expect("a confinement")
    }

    fn command() -> Command {
        serde_json::from_value(json!({ "argv": ["/bin/web", "-v"], "env": [["A", "1"]], "dir": "/srv" }))
            .expect("a command")
    }

    fn place() -> Place<'static> {
        let bind = Bind { source: "/pods/1/hosts".into(), target: "/etc/hosts".into(), access: Access::ReadOnly };
        Place {
            root: Path::new("/pods/1/root"),
            binds: vec![bind],
            shared_memory: Some(Path::new("/pods/1/shm")),
            terminals: None,
            namespaces: vec![("pid", String::new()), ("network", "/proc/9/fd/4".to_owned())],
            cgroup: "/sluice/pod1/web",
            cgroups: Cgroups::Several {
                directory: "/pods/1/cgroup".into(),
                views: vec![("cpu".to_owned(), "/sys/fs/cgroup/cpu/sluice/pod1/web".into())],
            },
            possible: CapabilitySet::all(),
            limits: true,
            foreign_network: false,
            terminal_group: true,
            devices: Vec::new(),
        }
    }

    #[test]
    fn a_privileged_container_gets_what_the_node_has() {
        let user = User { uid: 0, gid: 0, groups: Vec::new() };
        let confinement = Confinement { privileged: true, ..confinement() };
        let possible = CapabilitySet::CHOWN | CapabilitySet::SYS_ADMIN;
        let spec = container(&command(), &confinement, &user, &Place { possible, ..place() });
        assert_eq!(spec["process"]["capabilities"]["bounding"], json!(["CAP_CHOWN", "CAP_SYS_ADMIN"]));
    }

    #[test]
    fn version_2_has_weights_and_ends_a_container_as_a_whole() {
        let user = User { uid: 0, gid: 0, groups: Vec::new() };
        let spec = container(&command(), &confinement(), &user, &Place { cgroups: Cgroups::Unified, ..place() });
        let resources = &spec["linux"]["resources"];
        assert_eq!(resources["unified"], json!({ "memory.oom.group": "1", "cpu.weight": "17" }));
        assert_eq!(resources["cpu"], json!({ "quota": 20000, "period": 100_000 }));
    }

    #[test]
    fn a_container_sees_its_control_groups_and_changes_none() {
        let user = User { uid: 0, gid: 0, groups: Vec::new() };
        let options = |confinement: &Confinement| {
            let spec = container(&command(), confinement, &user, &place());
            let mounts = spec["mounts"].as_array().expect("mounts").clone();
            let found = mounts.into_iter().find(|mount| mount["destination"] == "/sys/fs/cgroup/cpu");
            found.expect("a mount")["options"].clone()
        };
        assert_eq!(options(&confinement()), json!(["bind", "nosuid", "noexec", "nodev", "ro"]));
        let privileged = Confinement { privileged: true, ..confinement() };
        assert_eq!(options(&privileged), json!(["bind", "nosuid", "noexec", "nodev", "rw"]));
    }

    #[test]
    fn mounts_reach_as_far_as_the_farthest_of_them() {
        let user = User { uid: 0, gid: 0, groups: Vec::new() };
        let propagation = |wish: &str| {
            let mount = json!({ "source": "/a", "target": "/b", "propagation": wish });
            let mounts = vec![serde_json::from_value(mount).expect("a mount")];
            let confinement = Confinement { mounts, ..confinement() };
            container(&command(), &confinement, &user, &place())["linux"]["rootfsPropagation"].clone()
        };
        assert_eq!(["none", "hostToContainer", "bidirectional"].map(propagation), ["private", "slave", "shared"]);
    }

    #[test]
    fn a_container_gets_its_limits_and_no_more_capabilities_than_it_may_keep() {
        let user = User { uid: 7, gid: 8, groups: vec![9] };
        let confinement = confinement();
        assert_eq!(confinement.root, Root::Machine);
        let spec = container(&command(), &confinement, &user, &place());
        assert_eq!(
            spec["linux"]["resources"],
            json!({
                "cpu": { "shares": 102, "quota": 20000, "period": 100_000 }, "memory": { "limit": 1024 },
                "pids": { "limit": 7 }, "devices": [{ "allow": false, "access": "rwm" }],
            })
        );
        assert_eq!(
            spec["linux"]["namespaces"],
            json!([{ "type": "pid" }, { "type": "network", "path": "/proc/9/fd/4" }])
        );
        assert_eq!(spec["process"]["user"], json!({ "uid": 7, "gid": 8, "additionalGids": [9] }));
        assert_eq!(spec["process"]["env"], json!(["A=1"]));
        assert_eq!(spec["process"]["capabilities"]["bounding"], json!(["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_SETPCAP"]));
        let masked = spec["linux"]["maskedPaths"].as_array().expect("paths");
        assert!(masked.contains(&json!("/data")) && masked.contains(&json!("/proc/kcore")), "{masked:?}");
        let mounts = spec["mounts"].as_array().expect("mounts");
        assert!(mounts.iter().any(|mount| mount["destination"] == "/sys" && mount["options"][3] == "ro"));
        assert_eq!(mounts.last().expect("a bind")["options"], json!(["rbind", "ro"]));
    }

    #[test]
    fn a_privileged_container_sees_the_machine_as_it_is() {
        let user = User { uid: 0, gid: 0, groups: Vec::new() };
        let confinement = Confinement { privileged: true, ..confinement() };
        let spec = container(&command(), &confinement, &user, &place());
        assert_eq!(spec["linux"]["maskedPaths"], Value::Null);
        assert_eq!(spec["linux"]["resources"]["devices"][0]["allow"], true);
        assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().map(Vec::len), Some(ALL_CAPABILITIES.len()));
    }
}
