//! What separates a container from the machine: the part of the plan that only the container driver reads.
//!
//! Like all of the plan it only ever grows, and absent fields mean what the older side did.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// What the containers of a pod share. A pod without one runs as plain processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// Whose namespaces the pod runs in; `None`: the machine's own, as root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<PathBuf>,
    pub hostname: String,
    /// `None`: the pod uses the machine's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<PodNetwork>,
    #[serde(default)]
    pub host_ipc: bool,
    #[serde(default)]
    pub host_pid: bool,
    /// The containers see each other's processes.
    #[serde(default)]
    pub share_pids: bool,
    /// What all containers together may use.
    #[serde(default)]
    pub resources: Resources,
    /// `net.*` and `kernel.shm*` settings of the pod's own namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<(String, String)>,
}

/// One end of a cable to the node's bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetwork {
    pub bridge: String,
    /// The name of the machine's end.
    pub port: String,
    pub address: Ipv4Addr,
    pub prefix_length: u8,
    pub gateway: Ipv4Addr,
    /// Beside it, where the machine has IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6End>,
}

/// The same end in the other internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ipv6End {
    pub address: Ipv6Addr,
    pub prefix_length: u8,
    pub gateway: Ipv6Addr,
}

impl Confinement {
    /// How far the mounts of any of its volumes reach.
    pub fn propagation(&self) -> Propagation {
        self.mounts.iter().map(|mount| mount.propagation).max().unwrap_or_default()
    }
}

/// How one container is confined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confinement {
    /// The container's name, by which a later command finds it.
    pub container: String,
    pub root: Root,
    #[serde(default)]
    pub read_only_root: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Where the image wants a volume of its own: the container gets one that ends with it, unless a mount is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_volumes: Vec<PathBuf>,
    /// The user that the image names, which only its own `/etc/passwd` can tell; ids of the manifest stand in the command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_user: String,
    /// `runAsNonRoot`: a user that turns out to be root is refused.
    #[serde(default)]
    pub non_root: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    /// The image's own `/etc/group` adds no more of them.
    #[serde(default)]
    pub own_groups_only: bool,
    /// By name, such as `CAP_CHOWN`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    #[serde(default)]
    pub no_new_privileges: bool,
    #[serde(default)]
    pub privileged: bool,
    /// The default filter of system calls.
    #[serde(default)]
    pub seccomp: bool,
    /// A filter that the machine's owner has written, as the text of a profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<String>,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// Directories of the machine that a container never sees into.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Root {
    /// The machine's own files, under a layer that takes every change and goes with the container.
    Machine,
    /// The unpacked layers of an image, bottom first.
    Layers(Vec<PathBuf>),
}

/// A file or directory of the node, seen in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    pub source: PathBuf,
    /// Below `source`, never leaving it whatever links a container has made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<PathBuf>,
    pub target: PathBuf,
    #[serde(default)]
    pub read_only: bool,
    /// Read-only with everything that is mounted below it.
    #[serde(default)]
    pub recursively: bool,
    #[serde(default)]
    pub propagation: Propagation,
    /// In memory instead of on disk: the source is only the name of the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryDisk>,
}

/// Where mounts show up that are made below a volume while it is in use. Ordered by how far they reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    #[default]
    None,
    /// Those of the machine in the container, too.
    HostToContainer,
    /// And those of the container on the machine.
    Bidirectional,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryDisk {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// `fsGroup`: whose it is, as is everything that is made in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
}

/// What a container may use; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each [`CPU_PERIOD_US`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota_us: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<i64>,
}

pub const CPU_PERIOD_US: u64 = 100_000;
