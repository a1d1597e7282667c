//! The packet filter table of a node: pods reach the world under the machine's address, and host ports reach pods.
//!
//! The table is ours alone, and is replaced whole in one transaction: there is never a moment with half of it.

use std::{io, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use sluice_netlink::Socket;
use sluice_netlink::nft::{self, Base, Chain, DESTINATION_REWRITTEN, Hook, LOCAL, Register, SCTP, Step, TCP, UDP};

/// Everything that the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    /// The network of the pods.
    pub(super) network: Ipv4Addr,
    pub(super) prefix_length: u8,
    pub(super) host_ports: Vec<HostPort>,
}

/// A port of the machine that stands for one of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HostPort {
    pub(super) protocol: u8,
    pub(super) port: u16,
    /// Unspecified: any address of the machine.
    pub(super) address: Ipv4Addr,
    pub(super) pod: Ipv4Addr,
    pub(super) pod_port: u16,
}

impl HostPort {
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
    let table = table.map(content);
    filter.ask_all(nft::replacement(name, table.as_ref()))
}

fn content(table: &Table) -> nft::Table {
    let to_pods: Vec<Vec<Step>> = table.host_ports.iter().map(to_pod).collect();
    let pods = Network { address: table.network, prefix_length: table.prefix_length };
    let machine = Network { address: Ipv4Addr::new(127, 0, 0, 0), prefix_length: 8 };
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
    nft::Table { chains, maps: Vec::new() }
}

struct Network {
    address: Ipv4Addr,
    prefix_length: u8,
}

impl Network {
    fn mask(&self) -> [u8; 4] {
        u32::MAX.checked_shl(32 - u32::from(self.prefix_length)).unwrap_or(0).to_be_bytes()
    }

    /// Compares the address that was loaded with the network.
    fn masked(&self, compare: impl FnOnce(Register, Vec<u8>) -> Step) -> [Step; 2] {
        [Step::Mask(0, self.mask().to_vec()), compare(0, self.address.octets().to_vec())]
    }
}

fn to_pod(port: &HostPort) -> Vec<Step> {
    let mut steps = vec![Step::DestinationKind(0), Step::Equal(0, LOCAL.to_ne_bytes().to_vec())];
    if !port.address.is_unspecified() {
        steps.extend([Step::Destination(0), Step::Equal(0, port.address.octets().to_vec())]);
    }
    steps.extend([
        Step::Protocol(0),
        Step::Equal(0, vec![port.protocol]),
        Step::DestinationPort(0),
        Step::Equal(0, port.port.to_be_bytes().to_vec()),
        Step::Load(0, port.pod.octets().to_vec()),
        Step::Load(1, port.pod_port.to_be_bytes().to_vec()),
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
    use sluice_netlink::Message;

    use super::*;

    const NEW_TABLE: u16 = 0xa00;
    const DELETE_TABLE: u16 = 0xa02;
    const NEW_CHAIN: u16 = 0xa03;
    const NEW_RULE: u16 = 0xa06;
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;

    #[test]
    fn networks_have_masks() {
        let mask = |prefix_length| Network { address: Ipv4Addr::LOCALHOST, prefix_length }.mask();
        assert_eq!([mask(24), mask(8), mask(0)], [[255, 255, 255, 0], [255, 0, 0, 0], [0; 4]]);
    }

    #[test]
    fn a_table_is_replaced_in_one_batch() {
        let port = HostPort {
            protocol: TCP,
            port: 80,
            address: Ipv4Addr::UNSPECIFIED,
            pod: [10, 0, 0, 2].into(),
            pod_port: 8080,
        };
        let table =
            Table { name: "t".to_owned(), network: [10, 0, 0, 0].into(), prefix_length: 24, host_ports: vec![port] };
        let kinds = |table: Option<&Table>| {
            let messages = nft::replacement("t", table.map(content).as_ref());
            messages.iter().map(Message::kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(None), [BATCH_BEGIN, NEW_TABLE, DELETE_TABLE, BATCH_END]);
        let all = kinds(Some(&table));
        assert_eq!((all[0], all[3], all[all.len() - 1]), (BATCH_BEGIN, NEW_TABLE, BATCH_END));
        let count = |kind| all.iter().filter(|other| **other == kind).count();
        assert_eq!((count(NEW_CHAIN), count(NEW_RULE)), (3, 5));
    }
}
