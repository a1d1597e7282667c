//! Addresses and ports of services: each belongs to one service at a time.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice_schema::{Fault, FaultKind, Kind, families};

use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::storage::scope;

/// Where addresses come from unless somebody chose.
const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 12);
/// The first addresses are given out only to those who ask for them by name.
const RESERVED_ADDRESSES: u32 = 256;
const FIRST_PORT: u16 = 30_000;
const LAST_PORT: u16 = 32_767;
const RESERVED_PORTS: u16 = 86;

/// What one service has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Holding {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

/// What all services have. Built from the store when it is first asked.
#[derive(Debug)]
pub(crate) struct Addresses {
    networks: Networks,
    held: Mutex<Option<Holding>>,
}

/// Where services get addresses of each family, IPv4 being the usual one.
#[derive(Debug, Clone, Copy)]
struct Networks {
    v4: Range,
    v6: Option<Range>,
}

impl Networks {
    fn families(&self) -> &'static [&'static str] {
        if self.v6.is_some() { &[families::IPV4, families::IPV6] } else { &[families::IPV4] }
    }

    fn of(&self, family: &str) -> Option<Range> {
        if family == families::IPV6 { self.v6 } else { Some(self.v4) }
    }
}

/// The addresses of services: so many from the first on.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: IpAddr,
    count: u32,
}

/// Nobody needs more services than this, and nobody has to look through more.
const MOST_ADDRESS_BITS: u32 = 20;

impl Range {
    fn new(first: IpAddr, prefix_length: u8) -> Self {
        let all_bits: u32 = if first.is_ipv4() { 32 } else { 128 };
        let bits = all_bits.saturating_sub(prefix_length.into()).min(MOST_ADDRESS_BITS);
        Self { first, count: 1 << bits }
    }

    fn nth(&self, number: u32) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + number).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + u128::from(number)).into(),
        }
    }

    /// The first address is the network's own, and the last one of IPv4 means everybody.
    fn has(&self, address: IpAddr) -> bool {
        let offset = match (address, self.first) {
            (IpAddr::V4(address), IpAddr::V4(first)) => u128::from(u32::from(address).wrapping_sub(first.into())),
            (IpAddr::V6(address), IpAddr::V6(first)) => u128::from(address).wrapping_sub(first.into()),
            _ => return false,
        };
        let end = if self.first.is_ipv4() { self.count - 1 } else { self.count };
        offset != 0 && offset < end.into()
    }
}

/// What was set aside for a service that is not stored yet; given back unless kept.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    server: Option<Server>,
    taken: Holding,
    /// What the service had and does not need any more.
    left: Holding,
}

impl Claim {
    /// The service is stored: what it had before is free.
    pub(crate) fn keep(mut self) {
        if let Some(server) = self.server.take() {
            server.inner.addresses.free(&server, &self.left);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.inner.addresses.free(&server, &self.taken);
        }
    }
}

impl Addresses {
    pub(crate) fn new(network: Option<(Ipv4Addr, u8)>, network_v6: Option<(Ipv6Addr, u8)>) -> Self {
        let (address, prefix_length) = network.unwrap_or(NETWORK);
        let v4 = Range::new(address.into(), prefix_length);
        let v6 = network_v6.map(|(address, prefix_length)| Range::new(address.into(), prefix_length));
        Self { networks: Networks { v4, v6 }, held: Mutex::new(None) }
    }

    /// The address of the API itself.
    pub(crate) fn of_api(&self) -> IpAddr {
        self.networks.v4.nth(1)
    }

    fn with<T>(&self, server: &Server, act: impl FnOnce(&mut Holding) -> T) -> T {
        let mut guard = self.held.lock().expect("nobody panics while holding the addresses");
        act(guard.get_or_insert_with(|| stored(server)))
    }

    fn free(&self, server: &Server, holding: &Holding) {
        self.with(server, |all| {
            all.addresses.retain(|address| !holding.addresses.contains(address));
            all.ports.retain(|port| !holding.ports.contains(port));
        });
    }
}

fn services(server: &Server) -> Arc<Kind> {
    server.registry().kinds().find("", "v1", "services").expect("services are built in")
}

fn stored(server: &Server) -> Holding {
    let mut all = Holding::default();
    for entry in server.storage().all(&scope(&services(server), "")) {
        let one = held(&entry.value());
        all.addresses.extend(one.addresses);
        all.ports.extend(one.ports);
    }
    all
}

/// What a service has, as it says itself.
fn held(service: &Value) -> Holding {
    let spec = &service["spec"];
    let addresses = spec["clusterIPs"].as_array().into_iter().flatten().chain([&spec["clusterIP"]]);
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    let ports = ports.chain([&spec["healthCheckNodePort"]]);
    Holding {
        addresses: addresses.filter_map(|address| address.as_str()?.parse().ok()).collect(),
        ports: ports.filter_map(|port| u16::try_from(port.as_u64()?).ok()).filter(|port| *port > 0).collect(),
    }
}

/// Gives back what a deleted service had.
pub(crate) fn release(server: &Server, kind: &Kind, object: &Value) {
    if kind.is("", "Service") {
        server.inner.addresses.free(server, &held(object));
    }
}

/// Gives a service what it needs, and writes it into the object.
pub(crate) fn claim(call: &Call, live: Option<&Value>, service: &mut Value) -> Result<Claim, Refusal> {
    let kind = call.kind();
    if !kind.is("", "Service") || call.target.subresource.is_some() {
        return Ok(Claim::default());
    }
    let before = live.map(held).unwrap_or_default();
    let mut claim = Claim { server: Some(call.server.clone()), taken: Holding::default(), left: Holding::default() };
    let networks = call.server.inner.addresses.networks;
    let spec_before = live.map(|live| &live["spec"]);
    let faults = families::settle(&mut service["spec"], spec_before, networks.families());
    if !faults.is_empty() {
        return Err(Refusal::invalid(kind, service.name(), faults));
    }
    let faults = call.server.inner.addresses.with(&call.server, |all| {
        let mut desk = Desk { networks, all, before: &before, taken: Holding::default(), faults: vec![] };
        desk.serve(service);
        claim.taken = desk.taken;
        desk.faults
    });
    if !faults.is_empty() {
        return Err(Refusal::invalid(kind, service.name(), faults));
    }
    let now = held(service);
    claim.left = Holding {
        addresses: before.addresses.difference(&now.addresses).copied().collect(),
        ports: before.ports.difference(&now.ports).copied().collect(),
    };
    Ok(claim)
}

/// Serves one service.
struct Desk<'a> {
    networks: Networks,
    all: &'a mut Holding,
    before: &'a Holding,
    taken: Holding,
    faults: Vec<Fault>,
}

impl Desk<'_> {
    fn serve(&mut self, service: &mut Value) {
        let kind = service.text("/spec/type").to_owned();
        if kind == "ExternalName" {
            return;
        }
        self.addresses(&mut service["spec"]);
        let wants_ports =
            kind == "NodePort" || (kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != false);
        self.ports(&mut service["spec"], wants_ports);
        let local = service["spec"]["externalTrafficPolicy"] == "Local" && kind == "LoadBalancer";
        if local && service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
            let port = self.any_port();
            service["spec"]["healthCheckNodePort"] = json!(port);
        }
    }

    /// One address of each family, as far as the service does not have them.
    fn addresses(&mut self, spec: &mut Value) {
        let first = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        let mut addresses = texts(&spec["clusterIPs"]);
        if addresses.is_empty() && !first.is_empty() {
            addresses.push(first);
        }
        if addresses.first().is_none_or(|first| first != "None") {
            let asked = addresses.clone();
            for (index, family) in texts(&spec["ipFamilies"]).iter().enumerate() {
                let Some(range) = self.networks.of(family) else { continue };
                match asked.get(index) {
                    Some(address) => self.take_address(range, address, &asked),
                    None => addresses.extend(self.any_address(range)),
                }
            }
        }
        if let Some(first) = addresses.first() {
            spec["clusterIP"] = json!(first);
            spec["clusterIPs"] = json!(addresses);
        }
    }

    fn take_address(&mut self, range: Range, asked: &str, all_asked: &[String]) {
        let Ok(address) = asked.parse::<IpAddr>() else { return };
        if self.before.addresses.contains(&address) {
            return;
        }
        let refuse = |why: &str| {
            Fault::invalid("spec.clusterIPs", json!(all_asked), format!("failed to allocate IP {asked}: {why}"))
        };
        if !range.has(address) {
            self.faults.push(refuse("the provided network does not match the current range"));
        } else if !self.all.addresses.insert(address) {
            self.faults.push(refuse("provided IP is already allocated"));
        } else {
            self.taken.addresses.insert(address);
        }
    }

    fn any_address(&mut self, range: Range) -> Option<String> {
        let size = range.count - 1 - RESERVED_ADDRESSES;
        let start = crate::random::number() % size;
        let free = (0..size)
            .map(|step| range.nth(RESERVED_ADDRESSES + (start + step) % size))
            .find(|address| !self.all.addresses.contains(address));
        let Some(address) = free else {
            let why = "failed to allocate a serviceIP: range is full";
            self.faults.push(Fault::new("spec.clusterIPs", FaultKind::Internal, None, why));
            return None;
        };
        self.all.addresses.insert(address);
        self.taken.addresses.insert(address);
        Some(address.to_string())
    }

    fn ports(&mut self, spec: &mut Value, wanted: bool) {
        let mut seen: BTreeSet<(u64, String)> = BTreeSet::new();
        for (index, port) in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            let asked = port["nodePort"].as_u64().unwrap_or(0);
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
            if asked == 0 {
                if wanted {
                    let any = self.any_port();
                    port["nodePort"] = json!(any);
                }
                continue;
            }
            // One number may serve several protocols of one service.
            let again = seen.iter().any(|(number, other)| *number == asked && *other != protocol);
            seen.insert((asked, protocol));
            let number = u16::try_from(asked).unwrap_or(0);
            if !again && !self.before.ports.contains(&number) {
                self.take_port(number, asked, &format!("spec.ports[{index}].nodePort"));
            }
        }
    }

    fn take_port(&mut self, port: u16, asked: u64, path: &str) {
        if !(FIRST_PORT..=LAST_PORT).contains(&port) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {FIRST_PORT}-{LAST_PORT}"
            );
            self.faults.push(Fault::invalid(path, asked, why));
        } else if !self.all.ports.insert(port) {
            self.faults.push(Fault::invalid(path, asked, "provided port is already allocated"));
        } else {
            self.taken.ports.insert(port);
        }
    }

    fn any_port(&mut self) -> u16 {
        let first = FIRST_PORT + RESERVED_PORTS;
        let size = u32::from(LAST_PORT - first) + 1;
        let start = crate::random::number() % size;
        let port = |step: u32| first + u16::try_from((start + step) % size).expect("ports are 16 bits wide");
        let free = (0..size).map(port).chain(FIRST_PORT..first).find(|port| !self.all.ports.contains(port));
        let Some(port) = free else {
            let why = "failed to allocate a nodePort: range is full";
            self.faults.push(Fault::new("spec.ports", FaultKind::Internal, None, why));
            return 0;
        };
        self.all.ports.insert(port);
        self.taken.ports.insert(port);
        port
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_their_first_address_and_ipv4_its_last() {
        let range = |address: &str, length| Range::new(address.parse().expect("an address"), length);
        let has = |range: Range, address: &str| range.has(address.parse().expect("an address"));
        let v4 = range("10.96.0.0", 12);
        assert_eq!(
            ["10.95.255.255", "10.96.0.0", "10.96.0.1", "10.111.255.254", "10.111.255.255", "fd00::1"]
                .map(|address| has(v4, address)),
            [false, false, true, true, false, false]
        );
        let v6 = range("fd00:10:96::", 112);
        assert_eq!(
            ["fd00:10:95::ffff", "fd00:10:96::", "fd00:10:96::1", "fd00:10:96::ffff", "fd00:10:96::1:0", "10.96.0.1"]
                .map(|address| has(v6, address)),
            [false, false, true, true, false, false]
        );
        assert_eq!(v6.nth(0x100).to_string(), "fd00:10:96::100");
        assert_eq!(range("fd00::", 64).count, 1 << MOST_ADDRESS_BITS);
    }
}
