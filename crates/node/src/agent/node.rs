//! The Node object and its lease: that this machine exists, what it has, and that its agent is alive.

use std::{collections::BTreeMap, net::IpAddr, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ContainerImage, Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time},
    },
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{options::NodeOptions, pulls::Pulls};

/// Where node leases live.
const LEASE_NAMESPACE: &str = "kube-node-lease";
const LEASE_SECONDS: i32 = 40;
const LEASE_EVERY: Duration = Duration::from_secs(10);
/// Node and status are written again after so many lease renewals even if nothing changed.
const STATUS_EVERY_RENEWALS: u32 = 30;
/// Less than this left is told as a condition of the node. Nothing is evicted for it.
const MIN_MEMORY_BYTES: u64 = 100 << 20;
const MIN_DISK_PERCENT: u64 = 10;
const MIN_INODES_PERCENT: u64 = 5;
/// The most pods this node takes, as on any Kubernetes node by default.
const MAX_PODS: u32 = 110;
pub(crate) const MANAGER: &str = "sluice-node";

/// Creates the Node object or takes over the one that is there, and writes its status.
pub(crate) async fn register(
    client: &Client,
    options: &NodeOptions,
    images: Vec<ContainerImage>,
) -> Result<Node, kube::Error> {
    let nodes = Api::<Node>::all(client.clone());
    let labels = labels(&options.node_name);
    let node = Node {
        metadata: ObjectMeta {
            name: Some(options.node_name.clone()),
            labels: Some(labels.clone()),
            ..Default::default()
        },
        ..Default::default()
    };
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => info!(node = options.node_name, "Node registered"),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = serde_json::json!({"metadata": {"labels": labels}});
            nodes.patch(&options.node_name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Err(error) => return Err(error),
    }
    write_status(&nodes, options, images).await
}

/// Renews the lease, and now and then the status, or when it is another one, until told to stop. A Node object that somebody removed comes back.
pub(super) async fn keep_alive(
    client: Client,
    options: Arc<NodeOptions>,
    pulls: Pulls,
    mut stop: watch::Receiver<bool>,
) {
    let nodes = Api::<Node>::all(client.clone());
    let leases = Api::<Lease>::namespaced(client.clone(), LEASE_NAMESPACE);
    let mut tick = tokio::time::interval(LEASE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let look = || (pressure(&options.data_dir), pulls.node_images());
    let mut told = look();
    for renewal in 0u32.. {
        tokio::select! {
            _ = tick.tick() => {}
            () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
        }
        if let Err(error) = renew(&nodes, &leases, &options.node_name).await {
            warn!(%error, "Node lease not renewed");
        }
        let found = look();
        let due = renewal % STATUS_EVERY_RENEWALS == STATUS_EVERY_RENEWALS - 1 || found != told;
        told = found;
        if due && let Err(error) = register(&client, &options, pulls.node_images()).await {
            warn!(%error, "Node status not written");
        }
    }
}

async fn renew(nodes: &Api<Node>, leases: &Api<Lease>, name: &str) -> Result<(), kube::Error> {
    let now = MicroTime(Timestamp::now());
    let patch =
        serde_json::json!({"spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}});
    match leases.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        other => return other.map(drop),
    }
    let node = nodes.get(name).await?;
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid: node.uid().unwrap_or_default(),
        ..Default::default()
    };
    let lease = Lease {
        metadata: ObjectMeta { name: Some(name.to_owned()), owner_references: Some(vec![owner]), ..Default::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..Default::default()
        }),
    };
    leases.create(&PostParams::default(), &lease).await.map(drop)
}

async fn write_status(
    nodes: &Api<Node>,
    options: &NodeOptions,
    images: Vec<ContainerImage>,
) -> Result<Node, kube::Error> {
    let old = nodes.get_status(&options.node_name).await?;
    let images = Some(images).filter(|images| !images.is_empty());
    let status = NodeStatus { images, ..status(options, old.status.as_ref(), Timestamp::now()) };
    nodes
        .patch_status(
            &options.node_name,
            &PatchParams::default(),
            &Patch::Strategic(serde_json::json!({"status": status})),
        )
        .await
}

fn labels(name: &str) -> BTreeMap<String, String> {
    let (os, arch) = (std::env::consts::OS, go_arch());
    [
        ("beta.kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", os),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/os", os),
        ("kubernetes.io/hostname", name),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Kubernetes speaks of architectures as Go does.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(options: &NodeOptions, old: Option<&NodeStatus>, now: Timestamp) -> NodeStatus {
    let resources = capacity(options);
    NodeStatus {
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        conditions: Some(conditions(old, pressure(&options.data_dir), now)),
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: host_ip().to_string() },
            NodeAddress { type_: "Hostname".to_owned(), address: options.node_name.clone() },
        ]),
        node_info: Some(system_info()),
        ..Default::default()
    }
}

/// What the machine is short of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pressure {
    memory: bool,
    disk: bool,
}

/// What is left of the machine. Where the system does not say, there is enough.
#[derive(Debug, Clone, Copy)]
struct Left {
    memory_bytes: u64,
    disk_percent: u64,
    inodes_percent: u64,
}

impl Pressure {
    fn of(left: Left) -> Self {
        Self {
            memory: left.memory_bytes < MIN_MEMORY_BYTES,
            disk: left.disk_percent < MIN_DISK_PERCENT || left.inodes_percent < MIN_INODES_PERCENT,
        }
    }
}

fn pressure(data_dir: &Path) -> Pressure {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let available_kib = available.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let percent = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(100);
    let disk = rustix::fs::statvfs(data_dir).ok();
    Pressure::of(Left {
        memory_bytes: available_kib.map_or(u64::MAX, |kib| kib * 1024),
        disk_percent: disk.as_ref().map_or(100, |disk| percent(disk.f_bavail, disk.f_blocks)),
        inodes_percent: disk.as_ref().map_or(100, |disk| percent(disk.f_favail, disk.f_files)),
    })
}

fn conditions(old: Option<&NodeStatus>, pressure: Pressure, now: Timestamp) -> Vec<NodeCondition> {
    let known = old.and_then(|old| old.conditions.as_deref()).unwrap_or_default();
    let memory = match pressure.memory {
        true => ("MemoryPressure", "True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        false => ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    };
    let disk = match pressure.disk {
        true => ("DiskPressure", "True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
        false => ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    };
    [
        memory,
        disk,
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "the node agent is running"),
    ]
    .map(|(type_, status, reason, message)| NodeCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: known
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == status)
            .and_then(|condition| condition.last_transition_time.clone())
            .or(Some(Time(now))),
    })
    .to_vec()
}

/// What the machine has; nothing is set apart for the system.
pub(crate) fn capacity(options: &NodeOptions) -> BTreeMap<String, Quantity> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = rustix::system::sysinfo();
    let memory_kib = memory.totalram as u64 * u64::from(memory.mem_unit) / 1024;
    let disk_kib = rustix::fs::statvfs(&options.data_dir).map_or(0, |disk| disk.f_blocks * disk.f_frsize / 1024);
    [
        ("cpu", cpus.to_string()),
        ("memory", format!("{memory_kib}Ki")),
        ("ephemeral-storage", format!("{disk_kib}Ki")),
        ("pods", MAX_PODS.to_string()),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .into()
}

/// The address that this machine would speak to the world from. No packet is sent to find it.
pub(crate) fn host_ip() -> IpAddr {
    let route = || {
        let socket = std::net::UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    };
    route().map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
}

fn system_info() -> NodeSystemInfo {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let release = read("/etc/os-release");
    let os_image = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned());
    NodeSystemInfo {
        architecture: go_arch().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("sluice://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: rustix::system::uname().release().to_string_lossy().into_owned(),
        kubelet_version: sluice_model::OUR_VERSION.to_owned(),
        kube_proxy_version: String::new(),
        machine_id: read("/etc/machine-id"),
        operating_system: std::env::consts::OS.to_owned(),
        os_image,
        system_uuid: read("/etc/machine-id"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_short_of_something_says_so() {
        let enough = Left { memory_bytes: MIN_MEMORY_BYTES, disk_percent: 10, inodes_percent: 5 };
        let check = |left: Left, expected: &str| {
            let conditions = conditions(None, Pressure::of(left), Timestamp::UNIX_EPOCH);
            let held: Vec<String> =
                conditions.into_iter().filter(|it| it.status == "True").filter_map(|it| it.reason).collect();
            assert_eq!(held.join(" "), expected);
        };
        check(enough, "KubeletReady");
        check(Left { memory_bytes: 1, ..enough }, "KubeletHasInsufficientMemory KubeletReady");
        check(Left { disk_percent: 9, ..enough }, "KubeletHasDiskPressure KubeletReady");
        check(Left { inodes_percent: 4, ..enough }, "KubeletHasDiskPressure KubeletReady");
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_change() {
        let time = |seconds| Timestamp::from_second(seconds).expect("a time");
        let short = Pressure { disk: true, ..Pressure::default() };
        let before = conditions(None, Pressure::default(), time(1));
        let old = NodeStatus { conditions: Some(before), ..NodeStatus::default() };
        let changed = conditions(Some(&old), short, time(2));
        let since: Vec<i64> =
            changed.iter().filter_map(|it| Some(it.last_transition_time.as_ref()?.0.as_second())).collect();
        assert_eq!(since, [1, 2, 1, 1]);
    }
}
