//! The network of this node's container pods: one bridge, one private network, one table of our own in the packet filter.
//!
//! Nothing of it exists before the first container pod, and nothing after the agent has stopped all pods.

use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodSpec;
use serde::{Deserialize, Serialize};
use sluice_model::fnv1a;
use sluice_netlink::{Links, Socket};
use tokio::sync::{Mutex, Notify};
use tracing::warn;

use super::{
    addresses::{AddressPool, Exhausted},
    holding::Holding,
    host_doors::HostDoors,
    options::NodeOptions,
    packet_filter::{HostPort, Table, replace},
    warm::{Warm, WarmNetworks},
};
use crate::{
    confinement::PodNetwork,
    features::Feature,
    pod_dir::{read_json, write_json},
};

const PREFIX_LENGTH: u8 = 24;
/// Networks are chosen out of this one, the private space that networks of containers usually come from.
const CHOICE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
/// The other half holds the addresses of services.
const CHOICE_PREFIX_LENGTH: u32 = 11;

#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub(super) struct NetworkError {
    what: String,
    source: io::Error,
}

/// What was chosen once for a data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Chosen {
    network: Ipv4Addr,
    /// The name of the bridge and of the table.
    name: String,
}

#[derive(Debug)]
pub(super) struct PodNet {
    chosen: Chosen,
    /// Who has the network when it is not this machine's own.
    holding: Option<Holding>,
    file: PathBuf,
    pub(super) addresses: Arc<AddressPool>,
    warm: Arc<WarmNetworks>,
    state: Mutex<State>,
    /// There is a holder.
    watched: Notify,
}

#[derive(Debug, Default)]
struct State {
    up: bool,
    /// This process knows how to get there.
    held: bool,
    doors: HostDoors,
    /// By pod.
    host_ports: BTreeMap<String, Vec<HostPort>>,
}

impl PodNet {
    /// Remembers what was chosen for this data directory, or chooses; the machine is not touched yet.
    pub(super) fn open(options: &NodeOptions, rootless: bool) -> Self {
        let data_dir = &options.data_dir;
        let file = data_dir.join("network.json");
        let chosen = read_json(&file).ok().flatten().unwrap_or_else(|| {
            let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
            let seed = fnv1a(data_dir.as_os_str().as_encoded_bytes());
            Chosen { network: choose(&routes, seed), name: format!("sluice{seed:08x}") }
        });
        let addresses =
            AddressPool::open(chosen.network, u32::from(PREFIX_LENGTH), data_dir.join("pod-addresses.json"), 0);
        let (addresses, warm) = (Arc::new(addresses), Arc::default());
        let holding = rootless.then(|| Holding::new(data_dir, &options.exe));
        let net = Self { chosen, holding, file, addresses, warm, state: Mutex::default(), watched: Notify::new() };
        net.addresses.adopt(net.gateway());
        net
    }

    /// Takes note of a pod that runs already.
    pub(super) fn adopt(&mut self, uid: &str, host_ports: Vec<HostPort>) {
        self.state.get_mut().host_ports.insert(uid.to_owned(), host_ports);
    }

    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.chosen.network) | 1)
    }

    /// Where supervisors find the way into the pods' namespaces.
    pub(super) fn holder(&self) -> Option<PathBuf> {
        self.holding.as_ref().map(|holding| holding.directory().to_owned())
    }

    fn links(&self) -> io::Result<Links> {
        self.holding.as_ref().map_or_else(Links::open, Holding::links)
    }

    fn packet_filter(&self) -> io::Result<Socket> {
        self.holding.as_ref().map_or_else(Socket::netfilter, Holding::packet_filter)
    }

    /// The pod's end of it.
    pub(super) fn of_pod(&self, address: Ipv4Addr) -> PodNetwork {
        end_of(&self.chosen.name, self.gateway(), address)
    }

    /// An address for a pod, and the network made ahead for it if there is one.
    pub(super) fn settle(&self, now: Timestamp) -> Result<(Ipv4Addr, Option<fs::File>), Exhausted> {
        match self.warm.take(&self.addresses) {
            Some(Warm { address, namespace }) => Ok((address, Some(namespace))),
            None => Ok((self.addresses.allocate(now)?, None)),
        }
    }

    /// Makes networks for the next pods, in the background. The bridge must be there. A holder's namespaces are entered by
    /// supervisors alone: there, each makes its own.
    pub(super) fn prepare_more(&self) {
        if self.holding.is_some() {
            return;
        }
        let (addresses, bridge, gateway) = (self.addresses.clone(), self.chosen.name.clone(), self.gateway());
        self.warm.refill(addresses, move |address| end_of(&bridge, gateway, address));
    }

    /// Lets requests to ports of the machine reach a pod, and makes sure that there is a network at all.
    pub(super) async fn join(&self, uid: &str, host_ports: Vec<HostPort>) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        self.hold(&mut state).await?;
        if !state.up {
            write_json(&self.file, &self.chosen).map_err(failed("remember the pods' network"))?;
            self.bring_up()?;
        }
        let news = state.host_ports.get(uid).map_or(!host_ports.is_empty(), |known| *known != host_ports);
        if news {
            state.host_ports.insert(uid.to_owned(), host_ports);
        }
        if news || !state.up {
            self.publish(&mut state).await?;
        }
        state.up = true;
        Ok(())
    }

    /// Makes sure that somebody has the namespaces, where they are not the machine's own.
    async fn hold(&self, state: &mut State) -> Result<(), NetworkError> {
        let Some(holding) = self.holding.clone() else { return Ok(()) };
        let held = tokio::task::spawn_blocking(move || holding.ensure()).await.map_err(io::Error::other);
        if held.flatten().map_err(failed("hold the pods' namespaces"))? {
            (state.up, state.held) = (false, false);
        }
        if !state.held {
            let directory = self.holder().unwrap_or_default();
            sluice_reach::add(self.chosen.network, PREFIX_LENGTH, &directory);
            state.held = true;
        }
        self.watched.notify_one();
        Ok(())
    }

    /// Replaces a holder that is lost, for as long as this runs: without one, nobody reaches a pod.
    pub(super) async fn stay_held(&self) {
        let Some(holding) = &self.holding else { return };
        loop {
            match holding.watch() {
                Some(holder) => drop(holder.readable().await),
                None => {
                    self.watched.notified().await;
                    continue;
                }
            }
            if let Err(error) = self.hold(&mut *self.state.lock().await).await {
                warn!(%error, "The pods' network is out of reach");
            }
        }
    }

    /// The pod is gone.
    pub(super) async fn leave(&self, uid: &str) -> Result<(), NetworkError> {
        let mut state = self.state.lock().await;
        match state.host_ports.remove(uid).is_some_and(|ports| !ports.is_empty()) && state.up {
            true => self.publish(&mut state).await,
            false => Ok(()),
        }
    }

    /// Takes the bridge and the table away, if this data directory ever had any.
    pub(super) async fn remove(&self) -> Result<(), NetworkError> {
        self.warm.close();
        let mut state = self.state.lock().await;
        if !self.file.exists() {
            return Ok(());
        }
        *state = State::default();
        if let Some(holding) = &self.holding {
            return holding.end().map_err(failed("end the holder of the pods' namespaces"));
        }
        let filter = &mut self.packet_filter().map_err(failed("open the packet filter"))?;
        replace(filter, &self.chosen.name, None).map_err(failed("remove the pods' packet filter table"))?;
        let removed = self.links().and_then(|mut links| links.remove(&self.chosen.name));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove the pods' bridge")(error)),
            _ => Ok(()),
        }
    }

    fn bring_up(&self) -> Result<(), NetworkError> {
        let name = &self.chosen.name;
        let mut links = self.links().map_err(failed("configure the network"))?;
        // A bridge that takes its address from a pod's cable would change it with every pod.
        let [a, b, c, d] = fnv1a(name.as_bytes()).to_be_bytes();
        links
            .add_bridge(name, [2, 0, a, b, c, d])
            .map_err(|error| failed("make the pods' bridge")(Feature::Bridge.explain(error)))?;
        let index = links.find(name).map_err(failed("find the pods' bridge"))?;
        links.add_address(index, self.gateway(), PREFIX_LENGTH).map_err(failed("give the pods' bridge an address"))?;
        if self.holding.is_some() {
            // Its holder has set the rest.
            return Ok(());
        }
        set("net/ipv4/ip_forward", "1").map_err(failed("switch on ip_forward"))?;
        // 127.0.0.1:hostPort is a destination like any other.
        set(&format!("net/ipv4/conf/{name}/route_localnet"), "1").map_err(failed("switch on route_localnet"))
    }

    async fn publish(&self, state: &mut State) -> Result<(), NetworkError> {
        let host_ports = state.host_ports.values().flatten().cloned();
        if self.holding.is_some() {
            // What arrives at the machine's own addresses does not pass this packet filter.
            state.doors.keep(host_ports.clone().collect()).await;
        }
        let table = Table {
            name: self.chosen.name.clone(),
            network: self.chosen.network,
            prefix_length: PREFIX_LENGTH,
            host_ports: host_ports.collect(),
        };
        let lacking = |error| Feature::PacketFilter.explain(error);
        let filter = &mut self.packet_filter().map_err(lacking).map_err(failed("open the packet filter"))?;
        let replaced = replace(filter, &self.chosen.name, Some(&table)).map_err(lacking);
        replaced.map_err(failed("replace the pods' packet filter table"))
    }
}

fn end_of(bridge: &str, gateway: Ipv4Addr, address: Ipv4Addr) -> PodNetwork {
    PodNetwork {
        bridge: bridge.to_owned(),
        // Bridges are named after their data directory, and no address is given twice: neither is this.
        port: format!("sl{:08x}{:04x}", fnv1a(bridge.as_bytes()), u32::from(address) & 0xffff),
        address,
        prefix_length: PREFIX_LENGTH,
        gateway,
    }
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> NetworkError {
    let what = what.to_owned();
    move |source| NetworkError { what, source }
}

fn set(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    // Somebody else may have set it where we may not.
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) { Ok(()) } else { fs::write(path, value) }
}

/// The ports of the machine that a pod asks for.
pub(super) fn host_ports(spec: &PodSpec, pod: Ipv4Addr) -> Vec<HostPort> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let mapped = ports.filter_map(|port| {
        Some(HostPort {
            protocol: HostPort::protocol(port.protocol.as_deref().unwrap_or("TCP"))?,
            port: u16::try_from(port.host_port?).ok().filter(|port| *port != 0)?,
            address: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()).unwrap_or(Ipv4Addr::UNSPECIFIED),
            pod,
            pod_port: u16::try_from(port.container_port).ok()?,
        })
    });
    mapped.collect()
}

/// A network that no route of the machine leads to; another data directory begins its search elsewhere.
fn choose(routes: &str, seed: u32) -> Ipv4Addr {
    let taken: Vec<(u32, u32)> = routes.lines().skip(1).filter_map(route).collect();
    let count = 1u32 << (u32::from(PREFIX_LENGTH) - CHOICE_PREFIX_LENGTH);
    let candidate = |number: u32| u32::from(CHOICE) | ((number % count) << (32 - u32::from(PREFIX_LENGTH)));
    let mask = u32::MAX << (32 - u32::from(PREFIX_LENGTH));
    let free = |network: &u32| !taken.iter().any(|(to, wide)| (network ^ to) & (mask & wide) == 0);
    let candidates = (0..count).map(|step| candidate(seed.wrapping_add(step)));
    Ipv4Addr::from(candidates.clone().find(free).unwrap_or_else(|| candidate(seed)))
}

/// Destination and mask of a route, which the kernel writes as they lie in memory. The default route leads everywhere and
/// says nothing.
fn route(line: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |place: usize| {
        u32::from_str_radix(fields.get(place)?, 16).ok().map(|raw| u32::from_be_bytes(raw.to_ne_bytes()))
    };
    number(1).zip(number(7)).filter(|(_, mask)| *mask != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_nobody_elses() {
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let text = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let route = |to, mask| format!("eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", text(to), text(mask));
        assert_eq!(choose(header, 0), Ipv4Addr::new(10, 64, 0, 0));
        assert_eq!(choose(header, 0x1234), Ipv4Addr::new(10, 64 + 0x12, 0x34, 0));
        let one = header.to_owned() + &route([0; 4], [0; 4]) + &route([10, 64, 0, 0], [255, 255, 255, 0]);
        assert_eq!(choose(&one, 0), Ipv4Addr::new(10, 64, 1, 0));
        let wide = header.to_owned() + &route([10, 64, 0, 0], [255, 255, 0, 0]);
        assert_eq!(choose(&wide, 0), Ipv4Addr::new(10, 65, 0, 0));
        let narrow = header.to_owned() + &route([10, 64, 0, 128], [255, 255, 255, 128]);
        assert_eq!(choose(&narrow, 0), Ipv4Addr::new(10, 64, 1, 0));
    }

    #[test]
    fn ports_of_the_machine_are_those_of_the_manifest() {
        let spec = serde_json::from_value(serde_json::json!({"containers": [
            {"name": "a", "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]},
            {"name": "b", "ports": [{"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"}]},
        ]}));
        let pod = Ipv4Addr::new(10, 64, 0, 2);
        let found = host_ports(&spec.expect("a spec"), pod);
        let port = |protocol, port, address: [u8; 4], pod_port| HostPort {
            protocol: HostPort::protocol(protocol).expect("a protocol"),
            port,
            address: address.into(),
            pod,
            pod_port,
        };
        assert_eq!(found, [port("TCP", 8080, [0; 4], 80), port("UDP", 53, [192, 0, 2, 1], 53)]);
    }
}
