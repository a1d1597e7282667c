//! Endpoints and EndpointSlices.

use std::collections::BTreeSet;

use super::check::Faults;
use super::cursor::At;
use super::{ip, meta, names};
use crate::fault::{Fault, FaultKind};

const ADDRESSES_MAX: usize = 100;
const ENDPOINTS_MAX: usize = 1000;

pub(crate) fn endpoints(f: &mut Faults, object: &At<'_>) {
    for subset in object.get("subsets").items() {
        let (ready, not_ready) = (subset.get("addresses"), subset.get("notReadyAddresses"));
        if ready.is_zero() && not_ready.is_zero() {
            f.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for address in ready.items().chain(not_ready.items()) {
            ip::address(f, &address.get("ip"));
            f.optional_format(&address.get("hostname"), names::label);
            f.optional_format(&address.get("nodeName"), names::subdomain);
            ip::endpoint(f, &address.get("ip"));
        }
        let ports = subset.get("ports");
        for port in ports.items() {
            let name = port.get("name");
            if ports.list().len() > 1 && name.is_zero() {
                f.required(&name, "");
            } else {
                f.optional_format(&name, names::label);
            }
            f.port(&port.get("port"));
            f.present_one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
            if port.has("appProtocol") {
                f.format(&port.get("appProtocol"), names::qualified);
            }
        }
    }
}

pub(crate) fn slice(f: &mut Faults, object: &At<'_>) {
    slice_with(f, object, &BTreeSet::new());
}

/// Addresses that the slice already had stay as they are.
fn slice_with(f: &mut Faults, object: &At<'_>, known: &BTreeSet<&str>) {
    let kind = object.get("addressType");
    f.present_one_of(&kind, &["FQDN", "IPv4", "IPv6"]);
    let mut seen = BTreeSet::new();
    for port in object.get("ports").items() {
        let name = port.get("name");
        if !seen.insert(name.str()) {
            f.add(Fault::duplicate(name.path(), name.str()));
        }
        f.optional_format(&name, names::label);
        f.present_one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
        if port.has("appProtocol") {
            f.format(&port.get("appProtocol"), names::qualified);
        }
    }
    let endpoints = object.get("endpoints");
    if endpoints.list().len() > ENDPOINTS_MAX {
        too_many(f, &endpoints, ENDPOINTS_MAX);
    }
    for endpoint in endpoints.items() {
        slice_endpoint(f, &endpoint, kind.str(), known);
    }
}

fn too_many(f: &mut Faults, at: &At<'_>, most: usize) {
    let detail = format!("must have at most {most} items");
    f.add(Fault::new(at.path(), FaultKind::TooMany, Some(at.list().len().into()), detail));
}

fn slice_endpoint(f: &mut Faults, endpoint: &At<'_>, kind: &str, known: &BTreeSet<&str>) {
    let addresses = endpoint.get("addresses");
    match addresses.list().len() {
        0 => f.required(&addresses, "must contain at least 1 address"),
        count if count > ADDRESSES_MAX => too_many(f, &addresses, ADDRESSES_MAX),
        _ => {}
    }
    for address in addresses.items().filter(|address| !known.contains(address.str())) {
        match kind {
            "IPv4" | "IPv6" => {
                if let Some(parsed) = ip::address(f, &address) {
                    if parsed.is_ipv4() != (kind == "IPv4") {
                        f.invalid_value(&addresses, address.str(), format!("must be an {kind} address"));
                    }
                    ip::endpoint(f, &address);
                }
            }
            "FQDN" => f.format(&address, names::subdomain),
            _ => {}
        }
    }
    f.optional_format(&endpoint.get("nodeName"), names::subdomain);
    meta::labels(f, &endpoint.get("deprecatedTopology"));
    if endpoint.has("hostname") {
        f.format(&endpoint.get("hostname"), names::label);
    }
}

pub(crate) fn slice_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let known = old.get("endpoints").items().flat_map(|endpoint| endpoint.get("addresses").items());
    slice_with(f, new, &known.map(|address| address.str()).collect());
    f.immutable(&new.get("addressType"), &old.get("addressType"));
}
