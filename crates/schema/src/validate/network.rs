//! Network policies, Ingresses and their classes, addresses and ranges.

use super::check::{Faults, IMMUTABLE};
use super::cursor::At;
use super::{ip, names, selector};

pub(crate) fn network_policy(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    selector::label_selector(f, &spec.get("podSelector"));
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(rules).items() {
            for port in rule.get("ports").items() {
                policy_port(f, &port);
            }
            for peer in rule.get(peers).items() {
                policy_peer(f, &peer);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.list().len() > 2 {
        return f.invalid(&types, "may not specify more than two policyTypes");
    }
    for kind in types.items() {
        f.one_of(&kind, &["Ingress", "Egress"]);
    }
}

fn policy_port(f: &mut Faults, at: &At<'_>) {
    f.optional_one_of(&at.get("protocol"), &["TCP", "UDP", "SCTP"]);
    let (port, end) = (at.get("port"), at.get("endPort"));
    if !port.is_set() {
        if end.is_set() {
            f.invalid(&end, "may not be specified when `port` is not specified");
        }
        return;
    }
    f.port_or_name(&port);
    if !end.is_set() {
        return;
    }
    if port.value.is_string() {
        f.invalid(&end, "may not be specified when `port` is non-numeric");
    } else {
        if end.int_or(0) < port.int_or(0) {
            f.invalid_value(&end, port.value.clone(), "must be greater than or equal to `port`");
        }
        f.port(&end);
    }
}

fn policy_peer(f: &mut Faults, at: &At<'_>) {
    let (pods, namespaces, block) = (at.get("podSelector"), at.get("namespaceSelector"), at.get("ipBlock"));
    selector::label_selector(f, &pods);
    selector::label_selector(f, &namespaces);
    if block.is_set() {
        ip_block(f, &block);
    }
    if !pods.is_set() && !namespaces.is_set() && !block.is_set() {
        f.required(at, "must specify a peer");
    } else if block.is_set() && (pods.is_set() || namespaces.is_set()) {
        f.forbidden(at, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(f: &mut Faults, at: &At<'_>) {
    let cidr = at.get("cidr");
    if cidr.is_zero() {
        return f.required(&cidr, "");
    }
    let Some(block) = ip::cidr(f, &cidr) else { return };
    for except in at.get("except").items() {
        if let Some(inner) = ip::cidr(f, &except)
            && !ip::is_strict_subset(inner, block)
        {
            f.invalid(&except, "must be a strict subset of `cidr`");
        }
    }
}

pub(crate) fn ingress(f: &mut Faults, object: &At<'_>) {
    let spec = object.get("spec");
    let (rules, fallback) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_zero() && !fallback.is_set() {
        f.invalid_value(&spec, serde_json::Value::Null, "either `defaultBackend` or `rules` must be specified");
    }
    if fallback.is_set() {
        backend(f, &fallback);
    }
    for rule in rules.items() {
        host(f, &rule.get("host"));
        let paths = rule.dig(&["http", "paths"]);
        if rule.has("http") && paths.is_zero() {
            f.required(&paths, "");
        }
        for path in paths.items() {
            ingress_path(f, &path);
        }
    }
    for tls in spec.get("tls").items() {
        for name in tls.get("hosts").items() {
            wildcard_or_name(f, &name);
        }
        f.optional_format(&tls.get("secretName"), names::subdomain);
    }
    if spec.has("ingressClassName") {
        f.format(&spec.get("ingressClassName"), names::subdomain);
    }
}

fn host(f: &mut Faults, at: &At<'_>) {
    if at.is_zero() {
        return;
    }
    if ip::parse(at.str()).is_some() {
        f.invalid(at, "must be a DNS name, not an IP address");
    }
    wildcard_or_name(f, at);
}

fn wildcard_or_name(f: &mut Faults, at: &At<'_>) {
    f.format(at, if at.str().contains('*') { names::wildcard_subdomain } else { names::subdomain });
}

/// What a path must not contain, and how it must not end.
const ODD: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const ODD_ENDS: &[&str] = &["/..", "/."];

fn ingress_path(f: &mut Faults, at: &At<'_>) {
    let (path, kind) = (at.get("path"), at.get("pathType"));
    if !kind.is_set() {
        return f.required(&kind, "pathType must be specified");
    }
    match kind.str() {
        "Exact" | "Prefix" => {
            if !path.str().starts_with('/') {
                f.invalid_value(&path, path.str(), "must be an absolute path");
            }
            for odd in ODD.iter().filter(|odd| path.str().contains(**odd)) {
                f.invalid(&path, format!("must not contain '{odd}'"));
            }
            for odd in ODD_ENDS.iter().filter(|odd| path.str().ends_with(**odd)) {
                f.invalid(&path, format!("cannot end with '{odd}'"));
            }
        }
        "ImplementationSpecific" => {
            if !path.is_zero() && !path.str().starts_with('/') {
                f.invalid(&path, "must be an absolute path");
            }
        }
        _ => f.unsupported(&kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(f, &at.get("backend"));
}

fn backend(f: &mut Faults, at: &At<'_>) {
    let (service, resource) = (at.get("service"), at.get("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => f.invalid_value(at, "", "cannot set both resource and service backends"),
        (false, true) => {
            f.present(&resource.get("kind"));
            f.present(&resource.get("name"));
        }
        (false, false) => f.invalid_value(at, "", "resource or service backend is required"),
        (true, false) => {
            let (name, port) = (service.get("name"), service.get("port"));
            if name.is_zero() {
                f.required(&name, "");
            } else {
                f.format(&name, names::label_1035);
            }
            match (port.get("name").is_zero(), port.get("number").is_zero()) {
                (false, false) => f.invalid_value(at, "", "cannot set both port name & port number"),
                (false, true) => f.format(&port.get("name"), names::port_name),
                (true, false) => f.port(&port.get("number")),
                (true, true) => f.required(at, "port name or number is required"),
            }
        }
    }
}

pub(crate) fn ingress_class(f: &mut Faults, object: &At<'_>) {
    let controller = object.dig(&["spec", "controller"]);
    if controller.is_zero() {
        f.required(&controller, "");
    }
}

pub(crate) fn ingress_class_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    f.immutable(&new.dig(&["spec", "controller"]), &old.dig(&["spec", "controller"]));
}

/// The name of an IPAddress is the address in its canonical form.
pub(crate) fn address_name(name: &str) -> names::Problems {
    match (name.parse::<std::net::IpAddr>(), ip::parse(name)) {
        (Ok(parsed), _) if parsed.to_string() == name => vec![],
        (Ok(parsed), _) => vec![format!("must be in canonical form (\"{parsed}\")").into()],
        (Err(_), Some(_)) => vec!["must not have leading 0s".into()],
        (Err(_), None) => vec![ip::ADDRESS.into()],
    }
}

pub(crate) fn address(f: &mut Faults, object: &At<'_>) {
    let parent = object.dig(&["spec", "parentRef"]);
    if !parent.is_set() {
        f.required(&parent, "");
    }
}

pub(crate) fn service_cidr(f: &mut Faults, object: &At<'_>) {
    let cidrs = object.dig(&["spec", "cidrs"]);
    if cidrs.is_zero() {
        f.required(&cidrs, "at least one CIDR required");
    }
    for cidr in cidrs.items() {
        if let Some((address, length)) = ip::cidr(f, &cidr)
            && ip::network(address, length) != address
        {
            f.invalid(&cidr, "must not have bits set beyond the prefix length");
        }
    }
}

pub(crate) fn service_cidr_update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (cidrs, before) = (new.dig(&["spec", "cidrs"]), old.dig(&["spec", "cidrs"]));
    if cidrs.value != before.value {
        f.invalid(&cidrs, IMMUTABLE);
    }
}
