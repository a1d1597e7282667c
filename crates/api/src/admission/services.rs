//! Addresses and ports of services: each belongs to one service at a time.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice_schema::{Fault, FaultKind, Kind, defaults};

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
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

/// What all services have. Built from the store when it is first asked.
#[derive(Debug)]
pub(crate) struct Addresses {
    network: Range,
    held: Mutex<Option<Holding>>,
}

/// The addresses of services: so many from the first on.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u32,
    count: u32,
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
    pub(crate) fn new(network: Option<(Ipv4Addr, u8)>) -> Self {
        let (address, prefix_length) = network.unwrap_or(NETWORK);
        let network = Range { first: address.into(), count: 1 << (32 - prefix_length) };
        Self { network, held: Mutex::new(None) }
    }

    /// The address of the API itself.
    pub(crate) fn of_api(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network.first + 1)
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
    let network = call.server.inner.addresses.network;
    let faults = call.server.inner.addresses.with(&call.server, |all| {
        let mut desk = Desk { network, all, before: &before, taken: Holding::default(), faults: vec![] };
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
    network: Range,
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
        self.address(&mut service["spec"]);
        let wants_ports =
            kind == "NodePort" || (kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != false);
        self.ports(&mut service["spec"], wants_ports);
        let local = service["spec"]["externalTrafficPolicy"] == "Local" && kind == "LoadBalancer";
        if local && service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
            let port = self.any_port();
            service["spec"]["healthCheckNodePort"] = json!(port);
        }
    }

    fn address(&mut self, spec: &mut Value) {
        let asked = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        if asked == "None" {
            set_families(spec, "None");
            return;
        }
        if asked.is_empty() {
            let address = self.any_address();
            spec["clusterIP"] = json!(address);
            set_families(spec, &address);
            return;
        }
        if let Ok(address) = asked.parse::<Ipv4Addr>()
            && !self.before.addresses.contains(&address)
        {
            self.take_address(address, &asked);
        }
        set_families(spec, &asked);
    }

    fn take_address(&mut self, address: Ipv4Addr, asked: &str) {
        let refuse = |why: &str| {
            Fault::invalid("spec.clusterIPs", json!([asked]), format!("failed to allocate IP {asked}: {why}"))
        };
        let offset = u32::from(address).wrapping_sub(self.network.first);
        if offset == 0 || offset >= self.network.count - 1 {
            self.faults.push(refuse("the provided network does not match the current range"));
        } else if !self.all.addresses.insert(address) {
            self.faults.push(refuse("provided IP is already allocated"));
        } else {
            self.taken.addresses.insert(address);
        }
    }

    fn any_address(&mut self) -> String {
        let size = self.network.count - 1 - RESERVED_ADDRESSES;
        let start = crate::random::number() % size;
        let free = (0..size)
            .map(|step| Ipv4Addr::from(self.network.first + RESERVED_ADDRESSES + (start + step) % size))
            .find(|address| !self.all.addresses.contains(address));
        let Some(address) = free else {
            let why = "failed to allocate a serviceIP: range is full";
            self.faults.push(Fault::new("spec.clusterIPs", FaultKind::Internal, None, why));
            return String::new();
        };
        self.all.addresses.insert(address);
        self.taken.addresses.insert(address);
        address.to_string()
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

/// One family, one address: what the lists say follows from the address.
fn set_families(spec: &mut Value, address: &str) {
    if address.is_empty() {
        return;
    }
    if spec["clusterIPs"].as_array().is_none_or(Vec::is_empty) {
        spec["clusterIPs"] = json!([address]);
    }
    defaults::service_without_families(spec);
}
