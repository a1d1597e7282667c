//! Doors opened in the kernel's packet filter: one table of ours in each family, replaced in one transaction.
//!
//! A packet to a service's address and port is led by one map to the chain of its door; there a backend is drawn, or found by the
//! client's address where clients stay with theirs. A door without backends refuses. The table stays when the engine goes:
//! pods run on, and so do the services that lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

use sluice_model::fnv1a;
use sluice_netlink::nft::{self, Base, Chain, Elements, Hook, Map, Register, Step, Table};
use sluice_netlink::{Family, Socket, conntrack, families};

use crate::doors::{Door, Protocol};

const TABLE: &str = "sluice-services";
const ADDRESSES: &str = "addresses";
const NODE_PORTS: &str = "node-ports";
const CLOSED: &str = "closed";
/// Clients that stay are told apart by the last byte of their addresses.
const CLIENT_GROUPS: u16 = 256;

/// Whoever has this may write the table; one engine per network namespace. Ends with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Owner {
    _name: UnixListener,
}

impl Owner {
    /// Fails where another engine is the owner, and where tables may not be written. What an earlier owner left stays until
    /// the first table of this one.
    pub(crate) fn claim() -> io::Result<Self> {
        let name = UnixListener::bind_addr(&UnixAddr::from_abstract_name(TABLE)?)?;
        // Tables of another name show as well whether we may.
        Socket::netfilter()?.ask_all(nft::replacement("sluice-try", &[Family::V4], &[]))?;
        Ok(Self { _name: name })
    }
}

/// What the table says now.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    doors: Option<Vec<Door>>,
}

impl Filter {
    pub(crate) fn keep(&mut self, doors: &[Door]) -> io::Result<()> {
        if self.doors.as_deref() == Some(doors) {
            return Ok(());
        }
        Socket::netfilter()?.ask_all(nft::replacement(TABLE, families(), &tables(doors, families())))?;
        let before = self.doors.replace(doors.to_owned());
        let left = udp_backends(before.as_deref().unwrap_or_default());
        for backend in left.difference(&udp_backends(doors)) {
            // Whoever keeps sending would otherwise reach it for ever.
            conntrack::forget_udp(*backend)?;
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self) -> io::Result<()> {
        self.doors = None;
        Socket::netfilter()?.ask_all(nft::replacement(TABLE, families(), &[]))
    }
}

fn udp_backends(doors: &[Door]) -> BTreeSet<SocketAddr> {
    let udp = doors.iter().filter(|door| door.protocol == Protocol::Udp);
    udp.flat_map(|door| door.backends.iter().chain(&door.node_backends)).copied().collect()
}

/// IPv4 always, so that a table that was left has a successor; IPv6 only where a service has it.
fn tables(doors: &[Door], families: &[Family]) -> Vec<Table> {
    let is_used = |family: &&Family| **family == Family::V4 || doors.iter().any(|door| door.family == **family);
    families.iter().filter(is_used).map(|family| table(*family, doors)).collect()
}

/// How many registers an address takes.
fn width(family: Family) -> Register {
    family.address_bytes() / 4
}

/// Doors of the table, as they are put together.
#[derive(Debug)]
struct Plan {
    family: Family,
    chains: Vec<Chain>,
    maps: Vec<Map>,
    addresses: BTreeMap<Vec<u8>, String>,
    node_ports: BTreeMap<Vec<u8>, String>,
    closed: BTreeSet<Vec<u8>>,
}

fn table(family: Family, doors: &[Door]) -> Table {
    let mut plan = Plan {
        family,
        chains: Vec::new(),
        maps: Vec::new(),
        addresses: BTreeMap::new(),
        node_ports: BTreeMap::new(),
        closed: BTreeSet::new(),
    };
    let doors: Vec<&Door> = doors.iter().filter(|door| door.family == family).collect();
    for (number, door) in doors.iter().enumerate() {
        plan.add(number, door);
    }
    let Plan { chains, mut maps, addresses, node_ports, closed, .. } = plan;
    let way_bytes = family.address_bytes() + 8;
    let map = |name: &str, key_bytes, elements| Map { name: name.to_owned(), key_bytes, elements };
    maps.push(map(ADDRESSES, way_bytes, Elements::Chains(addresses.into_iter().collect())));
    maps.push(map(NODE_PORTS, 8, Elements::Chains(node_ports.into_iter().collect())));
    maps.push(map(CLOSED, way_bytes, Elements::Keys(closed.into_iter().collect())));
    maps.push(hairpins(family, &doors));
    // Chains must be known before they are led to.
    Table { family, chains: chains.into_iter().chain(entrances(family)).collect(), maps }
}

fn entrances(family: Family) -> Vec<Chain> {
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let port = width(family);
    let key = [Step::Destination(0), Step::Protocol(port), Step::DestinationPort(port + 1)];
    let mut local = vec![Step::DestinationKind(0), Step::Equal(0, nft::LOCAL.to_ne_bytes().to_vec())];
    if family == Family::V6 {
        // The kernel leads nothing away from `::1`: such ports are opened in user space.
        local.extend([Step::Destination(0), Step::Unequal(0, nft::address(Ipv6Addr::LOCALHOST))]);
    }
    let to_address = [&key[..], &[Step::Dispatch(0, ADDRESSES.to_owned())]].concat();
    let node_port = [Step::Protocol(0), Step::DestinationPort(1), Step::Dispatch(0, NODE_PORTS.to_owned())];
    let to_node_port = [&local[..], &node_port].concat();
    let refuse = [&key[..], &[Step::Known(0, CLOSED.to_owned()), Step::Refuse]].concat();
    let chain = |name: &str, base, rules| Chain { name: name.to_owned(), base, rules };
    let rewriting = |name, hook| chain(name, base("nat", hook, -100), vec![to_address.clone(), to_node_port.clone()]);
    let refusing = |name, hook| chain(name, base("filter", hook, 0), vec![refuse.clone()]);
    vec![
        rewriting("prerouting", Hook::Prerouting),
        rewriting("output", Hook::Output),
        chain("postrouting", base("nat", Hook::Postrouting, 100), vec![from_loopback(family), to_itself(family)]),
        refusing("refuse-forward", Hook::Forward),
        refusing("refuse-output", Hook::Output),
    ]
}

/// The bits of the status say that a destination was rewritten.
fn rewritten() -> [Step; 3] {
    [
        Step::ConnectionStatus(0),
        Step::Mask(0, nft::DESTINATION_REWRITTEN.to_ne_bytes().to_vec()),
        Step::Unequal(0, vec![0; 4]),
    ]
}

/// A client at a loopback address whose request leaves the loopback interface: no answer would find it.
fn from_loopback(family: Family) -> Vec<Step> {
    let mut loopback = [0; 16];
    loopback[..2].copy_from_slice(b"lo");
    let mut steps = rewritten().to_vec();
    steps.push(Step::Source(0));
    steps.extend(match family {
        Family::V4 => vec![Step::Mask(0, vec![255, 0, 0, 0]), Step::Equal(0, vec![127, 0, 0, 0])],
        Family::V6 => vec![Step::Equal(0, nft::address(Ipv6Addr::LOCALHOST))],
    });
    steps.extend([Step::OutInterface(0), Step::Unequal(0, loopback.to_vec()), Step::Masquerade]);
    steps
}

const HAIRPINS: &str = "hairpins";

/// A backend that reaches itself through its service must take the answer for somebody else's.
fn to_itself(family: Family) -> Vec<Step> {
    let mut steps = rewritten().to_vec();
    steps.extend([
        Step::Source(0),
        Step::Destination(width(family)),
        Step::Known(0, HAIRPINS.to_owned()),
        Step::Masquerade,
    ]);
    steps
}

impl Plan {
    fn add(&mut self, number: usize, door: &Door) {
        let protocol = match door.protocol {
            Protocol::Tcp => nft::TCP,
            Protocol::Udp => nft::UDP,
        };
        let way = nft::protocol(protocol);
        let keys: Vec<Vec<u8>> = door
            .addresses
            .iter()
            .map(|address| [&nft::address(*address)[..], &way, &nft::port(door.port)].concat())
            // Two services may claim one external address: the first one has it.
            .filter(|key| !self.addresses.contains_key(key) && !self.closed.contains(key))
            .collect();
        if door.backends.is_empty() {
            self.closed.extend(keys);
        } else if !keys.is_empty() {
            let chain = format!("door-{number}");
            self.lead(&chain, &door.backends, door.sticky.is_some());
            self.addresses.extend(keys.into_iter().map(|key| (key, chain.clone())));
        }
        // From outside no way leads to a loopback address: such ports are opened in user space.
        let reachable = door.node_backends.iter().all(|backend| !backend.ip().is_loopback());
        let Some(port) = door.node_port.filter(|_| reachable && !door.node_backends.is_empty()) else { return };
        let chain = format!("node-{number}");
        self.lead(&chain, &door.node_backends, door.sticky.is_some());
        self.node_ports.insert([way, nft::port(port)].concat(), chain);
    }

    /// A chain that leads to one of the backends.
    fn lead(&mut self, name: &str, backends: &[SocketAddr], sticky: bool) {
        let count = u32::try_from(backends.len()).expect("endpoints are counted in thousands");
        let value = |backend: &SocketAddr| [&nft::address(backend.ip())[..], &nft::port(backend.port())].concat();
        let last = width(self.family) - 1;
        let (key, choice, elements) = match sticky {
            true => {
                let last_byte = vec![Step::Source(0), Step::Mask(last, vec![0, 0, 0, 255])];
                let groups = (0..CLIENT_GROUPS).map(|group| {
                    let [_, byte] = group.to_be_bytes();
                    (vec![0, 0, 0, byte], value(favourite(byte, backends)))
                });
                (last, last_byte, groups.collect())
            }
            false => {
                let numbered = (0u32..).zip(backends).map(|(turn, it)| (turn.to_ne_bytes().to_vec(), value(it)));
                (0, vec![Step::Random(0, count)], numbered.collect())
            }
        };
        let map = format!("{name}-backends");
        let bytes = self.family.address_bytes() + 4;
        let rule = [choice, vec![Step::Lookup { key, map: map.clone(), into: 0 }, Step::RewriteDestination(0)]];
        self.maps.push(Map { name: map, key_bytes: 4, elements: Elements::Data { bytes, elements } });
        self.chains.push(Chain { name: name.to_owned(), base: None, rules: vec![rule.concat()] });
    }
}

/// The backend of a group of clients: when one backend goes, only its own clients get another one.
fn favourite(group: u8, backends: &[SocketAddr]) -> &SocketAddr {
    let liking = |backend: &&SocketAddr| {
        fnv1a(&[&[group][..], &nft::address(backend.ip()), &backend.port().to_be_bytes(), &[group]].concat())
    };
    backends.iter().max_by_key(liking).expect("a door that leads somewhere has backends")
}

/// Every address that may be its own client.
fn hairpins(family: Family, doors: &[&Door]) -> Map {
    let backends = doors.iter().flat_map(|door| door.backends.iter().chain(&door.node_backends));
    let addresses: BTreeSet<IpAddr> = backends.map(SocketAddr::ip).filter(|ip| !ip.is_loopback()).collect();
    let keys = addresses.iter().map(|it| [nft::address(*it), nft::address(*it)].concat()).collect();
    Map { name: HAIRPINS.to_owned(), key_bytes: 2 * family.address_bytes(), elements: Elements::Keys(keys) }
}

#[cfg(test)]
mod tests;
