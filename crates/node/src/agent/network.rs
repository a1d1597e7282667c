//! The network of this node's container pods: one bridge, one private network, one table of our own in the packet filter.
//!
//! Nothing of it exists before the first container pod, and nothing after the agent has stopped all pods.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodSpec;
use serde::{Deserialize, Serialize};
use sluice_model::fnv1a;
use sluice_netlink::{Links, Socket};
use sluice_pod::{
    confinement::{Ipv6End, PodNetwork},
    features::Feature,
    pod_dir::{read_json, write_json},
};
use tokio::sync::{Mutex, Notify};
use tracing::warn;

use super::{
    addresses::{AddressPool, Exhausted},
    holding::Holding,
    host_doors::HostDoors,
    options::NodeOptions,
    packet_filter::{HostPort, Network, Table, replace},
    warm::{Warm, WarmNetworks},
};

const PREFIX_LENGTH: u8 = 24;
/// Networks are chosen out of this one, the private space that networks of containers usually come from.
const CHOICE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
/// The other half holds the addresses of services.
const CHOICE_PREFIX_LENGTH: u32 = 11;
const PREFIX_LENGTH_V6: u8 = 64;
/// Private networks of IPv6 begin with a random number, so that those of different sites do not meet: ours tells the data
/// directory in its lower 32 bits.
const CHOICE_V6: u64 = 0xfd5c << 48;
/// More networks of a machine than this have not all begun where we do.
const CHOICES_V6: u64 = 256;

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
    /// A pod has the same number in both networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network_v6: Option<Ipv6Addr>,
}

/// What was decided for a pod.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) address: Ipv4Addr,
    pub(super) address_v6: Option<Ipv6Addr>,
    /// The network made ahead for it, if there is one.
    pub(super) namespace: Option<fs::File>,
}

#[derive(Debug)]
pub(super) struct PodNet {
    chosen: Chosen,
    /// Who has the network when it is not this machine's own.
    holding: Option<Holding>,
    /// New pods get addresses of both families.
    has_v6: bool,
    /// Addresses of services that the machine reaches by way of the pods' bridge.
    services_v6: Option<(Ipv6Addr, u8)>,
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
        let seed = fnv1a(data_dir.as_os_str().as_encoded_bytes());
        let mut chosen: Chosen = read_json(&file).ok().flatten().unwrap_or_else(|| {
            let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
            Chosen { network: choose(&routes, seed), name: format!("sluice{seed:08x}"), network_v6: None }
        });
        let has_v6 = options.ipv6 && !rootless && sluice_netlink::ipv6().is_ok();
        if has_v6 && chosen.network_v6.is_none() {
            let routes = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
            chosen.network_v6 = Some(choose_v6(&routes, seed));
        }
        let addresses =
            AddressPool::open(chosen.network, u32::from(PREFIX_LENGTH), data_dir.join("pod-addresses.json"), 0);
        let (addresses, warm) = (Arc::new(addresses), Arc::default());
        let holding = rootless.then(|| Holding::new(data_dir, &options.exe));
        let (state, watched) = (Mutex::default(), Notify::new());
        let services_v6 = options.service_network_v6.filter(|_| has_v6);
        let net = Self { chosen, holding, has_v6, services_v6, file, addresses, warm, state, watched };
        net.addresses.adopt(gateway(net.chosen.network));
        net
    }

    /// Says why pods have one family alone, unless that was asked for.
    pub(super) fn tell_families(options: &NodeOptions) {
        if options.ipv6
            && let Err(why) = sluice_netlink::ipv6()
        {
            warn!(%why, "Pods in containers have IPv4 alone");
        }
    }

    /// Takes note of a pod that runs already.
    pub(super) fn adopt(&mut self, uid: &str, host_ports: Vec<HostPort>) {
        self.state.get_mut().host_ports.insert(uid.to_owned(), host_ports);
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
    pub(super) fn of_pod(&self, address: Ipv4Addr, address_v6: Option<Ipv6Addr>) -> PodNetwork {
        end_of(&self.chosen, address, address_v6)
    }

    /// The address of IPv6 that goes with one of ours.
    fn beside(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        self.chosen.network_v6.filter(|_| self.has_v6).map(|network| numbered(network, address))
    }

    /// Addresses for a pod, and the network made ahead for it if there is one.
    pub(super) fn settle(&self, now: Timestamp) -> Result<Settled, Exhausted> {
        let (address, namespace) = match self.warm.take(&self.addresses) {
            Some(Warm { address, namespace }) => (address, Some(namespace)),
            None => (self.addresses.allocate(now)?, None),
        };
        Ok(Settled { address, address_v6: self.beside(address), namespace })
    }

    /// Makes networks for the next pods, in the background. The bridge must be there. A holder's namespaces are entered by
    /// supervisors alone: there, each makes its own.
    pub(super) fn prepare_more(&self) {
        if self.holding.is_some() {
            return;
        }
        let (addresses, mut chosen) = (self.addresses.clone(), self.chosen.clone());
        chosen.network_v6.take_if(|_| !self.has_v6);
        self.warm.refill(addresses, move |address| {
            end_of(&chosen, address, chosen.network_v6.map(|network| numbered(network, address)))
        });
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
        links
            .add_address(index, gateway(self.chosen.network), PREFIX_LENGTH)
            .map_err(failed("give the pods' bridge an address"))?;
        if self.holding.is_some() {
            // Its holder has set the rest.
            return Ok(());
        }
        set("net/ipv4/ip_forward", "1").map_err(failed("switch on ip_forward"))?;
        // 127.0.0.1:hostPort is a destination like any other.
        set(&format!("net/ipv4/conf/{name}/route_localnet"), "1").map_err(failed("switch on route_localnet"))?;
        match self.chosen.network_v6.filter(|_| self.has_v6) {
            Some(network) => self.bring_up_v6(network, &mut links, index),
            None => Ok(()),
        }
    }

    fn bring_up_v6(&self, network: Ipv6Addr, links: &mut Links, bridge: u32) -> Result<(), NetworkError> {
        let address = gateway_v6(network);
        links
            .add_address(bridge, address, PREFIX_LENGTH_V6)
            .map_err(failed("give the pods' bridge an IPv6 address"))?;
        // No pod is the machine's router.
        let _as_it_was = set(&format!("net/ipv6/conf/{}/accept_ra", self.chosen.name), "0");
        forward_v6().map_err(failed("switch on forwarding of IPv6"))?;
        match self.services_v6 {
            // A machine without a way out has no other route that would make it ask its packet filter.
            Some((services, prefix_length)) => {
                links.add_route(bridge, services, prefix_length).map_err(failed("lead to IPv6 addresses of services"))
            }
            None => Ok(()),
        }
    }

    async fn publish(&self, state: &mut State) -> Result<(), NetworkError> {
        let host_ports: Vec<HostPort> = state.host_ports.values().flatten().cloned().collect();
        let carried = match self.holding {
            // What arrives at the machine's own addresses does not pass this packet filter.
            Some(_) => host_ports.iter().cloned().collect(),
            None => host_ports.iter().filter_map(HostPort::on_loopback_v6).collect(),
        };
        state.doors.keep(carried).await;
        let network = |address: IpAddr, prefix_length| Network { address, prefix_length };
        let of_v6 = self.chosen.network_v6.filter(|_| self.has_v6);
        let of_v6 = of_v6.map(|address| network(address.into(), PREFIX_LENGTH_V6));
        let networks = [network(self.chosen.network.into(), PREFIX_LENGTH)].into_iter().chain(of_v6).collect();
        let table = Table { name: self.chosen.name.clone(), networks, host_ports };
        let lacking = |error| Feature::PacketFilter.explain(error);
        let filter = &mut self.packet_filter().map_err(lacking).map_err(failed("open the packet filter"))?;
        let replaced = replace(filter, &self.chosen.name, Some(&table)).map_err(lacking);
        replaced.map_err(failed("replace the pods' packet filter table"))
    }
}

fn end_of(chosen: &Chosen, address: Ipv4Addr, address_v6: Option<Ipv6Addr>) -> PodNetwork {
    let end = |(network, address)| Ipv6End { address, prefix_length: PREFIX_LENGTH_V6, gateway: gateway_v6(network) };
    PodNetwork {
        bridge: chosen.name.clone(),
        // Bridges are named after their data directory, and no address is given twice: neither is this.
        port: format!("sl{:08x}{:04x}", fnv1a(chosen.name.as_bytes()), u32::from(address) & 0xffff),
        address,
        prefix_length: PREFIX_LENGTH,
        gateway: gateway(chosen.network),
        ipv6: chosen.network_v6.zip(address_v6).map(end),
    }
}

fn gateway(network: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network) | 1)
}

fn gateway_v6(network: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(network) | 1)
}

/// The address with the same number in this network.
fn numbered(network: Ipv6Addr, address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(network) | u128::from(u32::from(address) & (u32::MAX >> PREFIX_LENGTH)))
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

/// A machine that forwards hears its own routers no more, unless a link is told to go on listening.
fn forward_v6() -> io::Result<()> {
    const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
    if fs::read_to_string(Path::new("/proc/sys").join(FORWARDING)).is_ok_and(|now| now.trim() == "1") {
        return Ok(());
    }
    for link in fs::read_dir("/proc/sys/net/ipv6/conf")?.flatten() {
        let listens = link.path().join("accept_ra");
        if fs::read_to_string(&listens).is_ok_and(|now| now.trim() == "1") {
            fs::write(listens, "2")?;
        }
    }
    set(FORWARDING, "1")
}

/// The ports of the machine that a pod asks for, at every address that it has.
pub(super) fn host_ports(spec: &PodSpec, pod: &[IpAddr]) -> Vec<HostPort> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let mapped = ports.flat_map(|port| {
        pod.iter().filter_map(|pod| {
            let any: IpAddr = match pod {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let wanted: Option<IpAddr> = port.host_ip.as_deref().and_then(|ip| ip.parse().ok());
            Some(HostPort {
                protocol: HostPort::protocol(port.protocol.as_deref().unwrap_or("TCP"))?,
                port: u16::try_from(port.host_port?).ok().filter(|port| *port != 0)?,
                address: wanted.or(Some(any)).filter(|address| address.is_ipv4() == pod.is_ipv4())?,
                pod: *pod,
                pod_port: u16::try_from(port.container_port).ok()?,
            })
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

fn choose_v6(routes: &str, seed: u32) -> Ipv6Addr {
    let taken: Vec<(u128, u32)> = routes.lines().filter_map(route_v6).collect();
    let candidate = |step: u64| u128::from(CHOICE_V6 | (u64::from(seed) << 16) | step) << 64;
    let is_free = |network: &u128| {
        !taken.iter().any(|(to, length)| {
            let common = (*length).min(u32::from(PREFIX_LENGTH_V6));
            (network ^ to) >> (u128::BITS - common) == 0
        })
    };
    let free = (0..CHOICES_V6).map(candidate).find(is_free);
    Ipv6Addr::from(free.unwrap_or_else(|| candidate(0)))
}

/// Destination and prefix length of a route, in the digits that the kernel writes.
fn route_v6(line: &str) -> Option<(u128, u32)> {
    let mut fields = line.split_whitespace();
    let destination = u128::from_str_radix(fields.next()?, 16).ok()?;
    let length = u32::from_str_radix(fields.next()?, 16).ok()?;
    (1..=u128::BITS).contains(&length).then_some((destination, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_nobody_elses_and_tells_its_data_directory() {
        let route = |to: &str, length: u8| {
            format!(
                "{:032x} {length:02x} {} 00 {} 00000100 00000001 0 0 eth0\n",
                u128::from(address_v6(to)),
                ZERO,
                ZERO
            )
        };
        const ZERO: &str = "00000000000000000000000000000000";
        let chosen = |routes: &str| choose_v6(routes, 0x1234_abcd).to_string();
        assert_eq!(chosen(""), "fd5c:1234:abcd::");
        assert_eq!(chosen(&(route("::", 0) + &route("fd00::", 64) + &route("fe80::", 64))), "fd5c:1234:abcd::");
        assert_eq!(chosen(&route("fd5c:1234:abcd::", 64)), "fd5c:1234:abcd:1::");
        assert_eq!(chosen(&route("fd5c:1234:abcd::7", 128)), "fd5c:1234:abcd:1::");
        assert_eq!(chosen(&route("fd5c:1234:abcd::", 63)), "fd5c:1234:abcd:2::");
    }

    fn address_v6(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_pod_has_the_same_number_in_both_networks() {
        let network_v6 = Some(address_v6("fd5c:1:2::"));
        let chosen = Chosen { network: Ipv4Addr::new(10, 64, 3, 0), name: "sluice0".to_owned(), network_v6 };
        let address = Ipv4Addr::new(10, 64, 3, 7);
        let end = end_of(&chosen, address, network_v6.map(|network| numbered(network, address)));
        let v6 = end.ipv6.expect("both");
        assert_eq!((v6.address, v6.gateway), (address_v6("fd5c:1:2::7"), address_v6("fd5c:1:2::1")));
        assert_eq!(end_of(&chosen, address, None).ipv6, None, "a pod that began without it stays without it");
    }

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
            {"name": "b", "ports": [{"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
                {"containerPort": 81, "hostPort": 8081, "hostIP": "::1"}]},
        ]}));
        let pod = ["10.64.0.2", "fd5c::2"].map(|address| address.parse().expect("an address"));
        let found = host_ports(&spec.expect("a spec"), &pod);
        let port = |protocol, port, address: &str, pod, pod_port| HostPort {
            protocol: HostPort::protocol(protocol).expect("a protocol"),
            port,
            address: address.parse().expect("an address"),
            pod,
            pod_port,
        };
        let [v4, v6] = pod;
        let both = [port("TCP", 8080, "0.0.0.0", v4, 80), port("TCP", 8080, "::", v6, 80)];
        let each = [port("UDP", 53, "192.0.2.1", v4, 53), port("TCP", 8081, "::1", v6, 81)];
        assert_eq!(found, [&both[..], &each[..]].concat());
    }
}
