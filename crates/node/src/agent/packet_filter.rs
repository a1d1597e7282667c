//! The packet filter table of a node: pods reach the world under the machine's address, and host ports reach pods.
//!
//! The table is ours alone, and is replaced whole in one transaction: there is never a moment with half of it.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use sluice_netlink::nft::{self, Base, Chain, DESTINATION_REWRITTEN, Hook, LOCAL, Register, SCTP, Step, TCP, UDP};
use sluice_netlink::{Family, Socket};

/// Everything that the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    /// Those of the pods, one of each family at most.
    pub(super) networks: Vec<Network>,
    pub(super) host_ports: Vec<HostPort>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) address: IpAddr,
    pub(super) prefix_length: u8,
}

/// A port of the machine that stands for one of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HostPort {
    pub(super) protocol: u8,
    pub(super) port: u16,
    /// Unspecified: any address of the machine of the pod's family.
    pub(super) address: IpAddr,
    pub(super) pod: IpAddr,
    pub(super) pod_port: u16,
}

impl HostPort {
    /// What of it is reached at `::1`, from where the kernel leads nowhere: connections are carried.
    pub(super) fn on_loopback_v6(&self) -> Option<Self> {
        let is_meant = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST].contains(&match self.address {
            IpAddr::V6(address) => address,
            IpAddr::V4(_) => return None,
        });
        (is_meant && self.protocol == TCP).then(|| Self { address: Ipv6Addr::LOCALHOST.into(), ..self.clone() })
    }

    /// The number of a protocol as Kubernetes names it.
    pub(super) fn protocol(name: &str) -> Option<u8> {
        match name {
            "TCP" => Some(TCP),
            "UDP" => Some(UDP),
            "SCTP" => Some(SCTP),
            _ => None,
        }
    }
}

/// Puts the table in place of the one before; `None` takes it away.
pub(super) fn replace(filter: &mut Socket, name: &str, table: Option<&Table>) -> io::Result<()> {
    let tables = table.map(content).unwrap_or_default();
    filter.ask_all(nft::replacement(name, sluice_netlink::families(), &tables))
}

fn content(table: &Table) -> Vec<nft::Table> {
    table.networks.iter().map(|pods| of_family(*pods, &table.host_ports)).collect()
}

fn of_family(pods: Network, host_ports: &[HostPort]) -> nft::Table {
    let family = Family::of(pods.address);
    let of_family = host_ports.iter().filter(|port| Family::of(port.pod) == family);
    let to_pods: Vec<Vec<Step>> = of_family.map(to_pod).collect();
    let machine = match family {
        Family::V4 => Network { address: [127, 0, 0, 0].into(), prefix_length: 8 },
        Family::V6 => Network { address: Ipv6Addr::LOCALHOST.into(), prefix_length: 128 },
    };
    let [mask, unequal] = pods.masked(Step::Unequal);
    let elsewhere = vec![Step::Destination(0), mask, unequal];
    let mut leaving = vec![[from(&pods), elsewhere, vec![Step::Masquerade]].concat()];
    // Back to a pod by way of the machine: the answer must come the same way.
    leaving.extend([&pods, &machine].map(|sender| [from(sender), rewritten(), vec![Step::Masquerade]].concat()));
    let chain = |name: &str, hook, priority, rules| {
        let base = Some(Base { kind: "nat", hook, priority });
        Chain { name: name.to_owned(), base, rules }
    };
    let chains = vec![
        chain("prerouting", Hook::Prerouting, -100, to_pods.clone()),
        chain("output", Hook::Output, -100, to_pods),
        chain("postrouting", Hook::Postrouting, 100, leaving),
    ];
    nft::Table { family, chains, maps: Vec::new() }
}

impl Network {
    fn mask(&self) -> Vec<u8> {
        let bytes = Family::of(self.address).address_bytes();
        let ones = |byte: u32| (u32::from(self.prefix_length)).saturating_sub(byte * 8).min(8);
        (0..bytes).map(|byte| u8::MAX.checked_shl(8 - ones(byte)).unwrap_or(0)).collect()
    }

    /// Compares the address that was loaded with the network.
    fn masked(&self, compare: impl FnOnce(Register, Vec<u8>) -> Step) -> [Step; 2] {
        [Step::Mask(0, self.mask()), compare(0, nft::address(self.address))]
    }
}

fn to_pod(port: &HostPort) -> Vec<Step> {
    let mut steps = vec![Step::DestinationKind(0), Step::Equal(0, LOCAL.to_ne_bytes().to_vec())];
    if port.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // The kernel leads nothing away from `::1`: whoever tries there must not wait for ever.
        steps.extend([Step::Destination(0), Step::Unequal(0, nft::address(Ipv6Addr::LOCALHOST))]);
    } else if !port.address.is_unspecified() {
        steps.extend([Step::Destination(0), Step::Equal(0, nft::address(port.address))]);
    }
    steps.extend([
        Step::Protocol(0),
        Step::Equal(0, vec![port.protocol]),
        Step::DestinationPort(0),
        Step::Equal(0, port.port.to_be_bytes().to_vec()),
        Step::Load(0, nft::address(port.pod)),
        Step::Load(Family::of(port.pod).address_bytes() / 4, port.pod_port.to_be_bytes().to_vec()),
        Step::RewriteDestination(0),
    ]);
    steps
}

fn from(network: &Network) -> Vec<Step> {
    let [mask, equal] = network.masked(Step::Equal);
    vec![Step::Source(0), mask, equal]
}

fn rewritten() -> Vec<Step> {
    let bit = DESTINATION_REWRITTEN.to_ne_bytes().to_vec();
    vec![Step::ConnectionStatus(0), Step::Mask(0, bit), Step::Unequal(0, vec![0; 4])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_masks() {
        let mask = |address: &str, prefix_length| {
            Network { address: address.parse().expect("an address"), prefix_length }.mask()
        };
        let v4 = |prefix_length| mask("127.0.0.1", prefix_length);
        assert_eq!([v4(24), v4(12), v4(0)], [[255, 255, 255, 0], [255, 240, 0, 0], [0; 4]]);
        assert_eq!(mask("::1", 128), [255; 16]);
        assert_eq!(mask("fd00::", 60), [&[255; 7][..], &[240], &[0; 8]].concat());
    }

    #[test]
    fn each_network_has_a_table_with_the_ports_of_its_pods() {
        let port = |address: &str, pod: &str| HostPort {
            protocol: TCP,
            port: 80,
            address: address.parse().expect("an address"),
            pod: pod.parse().expect("an address"),
            pod_port: 8080,
        };
        let network = |address: &str, prefix_length| Network { address: address.parse().expect("one"), prefix_length };
        let table = Table {
            name: "t".to_owned(),
            networks: vec![network("10.0.0.0", 24), network("fd00::", 64)],
            host_ports: vec![port("0.0.0.0", "10.0.0.2"), port("::", "fd00::2"), port("::1", "fd00::3")],
        };
        let [v4, v6] = &content(&table)[..] else { panic!("one of each family") };
        let rules = |table: &nft::Table| table.chains.iter().map(|chain| chain.rules.len()).collect::<Vec<_>>();
        assert_eq!((v4.family, rules(v4)), (Family::V4, vec![1, 1, 3]));
        assert_eq!((v6.family, rules(v6)), (Family::V6, vec![2, 2, 3]));
    }
}
