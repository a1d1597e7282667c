//! The Node object and its lease: that this machine exists, what it has, and that its agent is alive.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

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

/// Renews the lease, and now and then the status, until told to stop. A Node object that somebody removed comes back.
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
    for renewal in 0u32.. {
        tokio::select! {
            _ = tick.tick() => {}
            () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
        }
        if let Err(error) = renew(&nodes, &leases, &options.node_name).await {
            warn!(%error, "Node lease not renewed");
        }
        if renewal % STATUS_EVERY_RENEWALS == STATUS_EVERY_RENEWALS - 1
            && let Err(error) = register(&client, &options, pulls.node_images()).await
        {
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
        conditions: Some(conditions(old, now)),
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".to_owned(), address: host_ip().to_string() },
            NodeAddress { type_: "Hostname".to_owned(), address: options.node_name.clone() },
        ]),
        node_info: Some(system_info()),
        ..Default::default()
    }
}

fn conditions(old: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let known = old.and_then(|old| old.conditions.as_deref()).unwrap_or_default();
    [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
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
