//! Where an agent keeps its things and what it calls itself.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::system::uname;

/// How long a stop waits for the gateways to withdraw a pod, unless told otherwise.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What runs pods that do not say so themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    /// Processes for process images, containers for all other images where the machine can make them.
    #[default]
    Auto,
    /// Containers for everything: process images see the machine's files through a layer of their own.
    Container,
    /// Plain processes for everything.
    Process,
}

#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The name of the Node object; the host name by default.
    pub node_name: String,
    /// `pods/`, `volumes/` and `logs/` lie below it.
    pub data_dir: PathBuf,
    /// The binary that answers to `pod-supervisor` and `demo-shop`.
    pub exe: PathBuf,
    /// The longest a stop waits for the gateways to let go of a pod; not charged to its grace period.
    pub drain_timeout: Duration,
    /// Process pods get their addresses out of this network, prefix length 10.
    pub pod_network: Ipv4Addr,
    pub driver: Driver,
    /// Where containers ask for names; without it they ask whom the machine asks.
    pub cluster_dns: Option<Ipv4Addr>,
    /// Pods in containers get addresses of IPv6, too, where the machine has it.
    pub ipv6: bool,
    /// The network of the services' IPv6 addresses, if they have any.
    pub service_network_v6: Option<(Ipv6Addr, u8)>,
}

impl NodeOptions {
    pub fn new(data_dir: impl Into<PathBuf>, exe: impl Into<PathBuf>) -> Self {
        Self {
            node_name: host_name(),
            data_dir: data_dir.into(),
            exe: exe.into(),
            drain_timeout: DRAIN_TIMEOUT,
            pod_network: Ipv4Addr::new(127, 64, 0, 0),
            driver: Driver::default(),
            cluster_dns: None,
            ipv6: true,
            service_network_v6: None,
        }
    }

    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("pods")
    }

    /// Of claims: they outlive pods.
    pub(crate) fn volumes_dir(&self) -> PathBuf {
        self.data_dir.join("volumes")
    }

    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }
}

/// A log directory's name is what the kubelet's would be, so that log shippers find their way.
pub(crate) fn pod_log_dir(logs: &Path, namespace: &str, name: &str, uid: &str) -> PathBuf {
    logs.join(format!("{namespace}_{name}_{uid}"))
}

/// The host's name in the form that object names allow.
fn host_name() -> String {
    let name = uname().nodename().to_string_lossy().to_lowercase();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '-' }).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
