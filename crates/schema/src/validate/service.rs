//! Services. Whether an address or a port is free, and which families the cluster has, only the server knows: it checks
//! that where it allocates them.

use std::collections::BTreeSet;

use super::check::{Faults, IMMUTABLE};
use super::cursor::At;
use super::{ip, meta, names};
use crate::fault::{Fault, FaultKind};

const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
const NOT_FOR_EXTERNAL_NAME: &str = "may not be set for ExternalName services";
const ONCE_SET: &str = "may not change once set";

pub(crate) fn update(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (new_spec, old_spec) = (new.get("spec"), old.get("spec"));
    kept_addresses(f, &new_spec, &old_spec);
    let (new_class, old_class) = (new_spec.get("loadBalancerClass"), old_spec.get("loadBalancerClass"));
    let stays = new_spec.text("type") == "LoadBalancer" && old_spec.text("type") == "LoadBalancer";
    if stays && new_class.value != old_class.value {
        f.invalid(&new_class, ONCE_SET);
    }
    whole(f, new);
}

pub(crate) fn status(f: &mut Faults, new: &At<'_>, _old: &At<'_>) {
    let ingress = new.dig(&["status", "loadBalancer", "ingress"]);
    if ingress.is_zero() {
        return;
    }
    if new.dig(&["spec", "type"]).str() != "LoadBalancer" {
        return f.forbidden(&ingress, "may only be used when `spec.type` is 'LoadBalancer'");
    }
    for item in ingress.items() {
        if !item.get("ip").is_zero() {
            ip::address(f, &item.get("ip"));
        } else if item.has("ipMode") {
            f.forbidden(&item.get("ipMode"), "may not be specified when `ip` is not set");
        }
        f.optional_one_of(&item.get("ipMode"), &["Proxy", "VIP"]);
        f.optional_format(&item.get("hostname"), names::subdomain);
    }
}

fn is_headless(spec: &At<'_>) -> bool {
    spec.get("clusterIPs").list().first().is_some_and(|ip| ip == "None") || spec.text("clusterIP") == "None"
}

pub(crate) fn whole(f: &mut Faults, service: &At<'_>) {
    let spec = service.get("spec");
    let kind = spec.text("type");
    let headless = is_headless(&spec);
    let ports = spec.get("ports");
    if ports.is_zero() && !headless && kind != "ExternalName" {
        f.required(&ports, "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            f.add(Fault::invalid(format!("{}[0]", spec.get("clusterIPs").path()), "None", detail));
        }
        "ExternalName" => external_name(f, &spec),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        service_port(f, &port, ports.list().len() > 1, &mut seen);
    }
    meta::labels(f, &spec.get("selector"));
    session_affinity(f, &spec);
    addresses(f, &spec);
    for address in spec.get("externalIPs").items() {
        if ip::address(f, &address).is_some() {
            ip::endpoint(f, &address);
        }
    }
    f.present_one_of(&spec.get("type"), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    if kind == "ClusterIP" {
        for port in ports.items().map(|port| port.get("nodePort")).filter(|port| !port.is_zero()) {
            f.forbidden(&port, "may not be used when `type` is 'ClusterIP'");
        }
    }
    unique_ports(f, &ports);
    load_balancer(f, &spec);
    traffic_policies(f, &spec);
}

fn external_name(f: &mut Faults, spec: &At<'_>) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"].map(|name| spec.get(name)) {
        if !field.is_zero() {
            f.forbidden(&field, NOT_FOR_EXTERNAL_NAME);
        }
    }
    let name = spec.get("externalName");
    let bare = name.str().strip_suffix('.').unwrap_or(name.str());
    if bare.is_empty() {
        f.required(&name, "");
    } else {
        f.problems(&name, bare, names::subdomain(bare));
    }
}

fn service_port<'v>(f: &mut Faults, port: &At<'v>, needs_name: bool, seen: &mut BTreeSet<&'v str>) {
    let name = port.get("name");
    if needs_name && name.is_zero() {
        f.required(&name, "");
    } else if !name.is_zero() {
        f.format(&name, names::label);
        if !seen.insert(name.str()) {
            f.duplicate(&name);
        }
    }
    f.port(&port.get("port"));
    f.present_one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
    f.port_or_name(&port.get("targetPort"));
    if port.has("appProtocol") {
        f.format(&port.get("appProtocol"), names::qualified);
    }
}

fn unique_ports(f: &mut Faults, ports: &At<'_>) {
    let (mut on_nodes, mut own) = (BTreeSet::new(), BTreeSet::new());
    for port in ports.items() {
        let number = port.get("nodePort");
        if !number.is_zero() && !on_nodes.insert((port.text("protocol"), number.int_or(0))) {
            f.duplicate(&number);
        }
    }
    for port in ports.items() {
        let (protocol, number) = (port.text("protocol"), port.get("port").int_or(0));
        if !own.insert((protocol, number)) {
            let key = serde_json::json!({"protocol": protocol, "port": number});
            f.add(Fault::shown(port.path(), FaultKind::Duplicate, &crate::go::print("ServicePortKey", &key), ""));
        }
    }
}

const AFFINITY_SECONDS_MAX: i64 = 86_400;

fn session_affinity(f: &mut Faults, spec: &At<'_>) {
    let (affinity, config) = (spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"));
    f.present_one_of(&affinity, &["ClientIP", "None"]);
    if affinity.str() == "ClientIP" {
        let seconds = config.dig(&["clientIP", "timeoutSeconds"]);
        if !seconds.is_set() {
            f.required(&config, "when session affinity type is ClientIP");
        } else if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds.int_or(0)) {
            f.invalid(&seconds, format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"));
        }
    } else if affinity.str() == "None" && config.is_set() {
        f.forbidden(&config, "must not be set when session affinity is None");
    }
}

/// `clusterIP`, `clusterIPs`, and the families they are of.
fn addresses(f: &mut Faults, spec: &At<'_>) {
    if spec.text("type") == "ExternalName" {
        return;
    }
    let (own, all, families) = (spec.get("clusterIP"), spec.get("clusterIPs"), spec.get("ipFamilies"));
    let mut seen = BTreeSet::new();
    for family in families.items() {
        f.one_of(&family, &["IPv4", "IPv6"]);
        if !seen.insert(family.str()) {
            f.duplicate(&family);
        }
    }
    f.optional_one_of(&spec.get("ipFamilyPolicy"), &["PreferDualStack", "RequireDualStack", "SingleStack"]);
    let first = all.list().first().and_then(|ip| ip.as_str());
    if let Some(first) = first {
        if own.is_zero() {
            f.invalid(&all, "must be empty when `clusterIP` is not specified");
        } else if first != own.str() {
            f.invalid(&all, "first value must match `clusterIP`");
        }
    }
    let before = f.count();
    for (index, address) in all.items().enumerate() {
        if index == 0 && address.str() == "None" {
            if all.list().len() > 1 {
                f.invalid(&all, "'None' must be the first and only value");
            }
            continue;
        }
        ip::address(f, &address);
    }
    if all.list().len() > 2 {
        f.invalid(&all, "may only hold up to 2 values");
    }
    let of_v6: Vec<bool> = all.list().iter().filter_map(|it| Some(ip::parse(it.as_str()?)?.is_ipv6())).collect();
    if f.count() == before && of_v6.len() == 2 && of_v6[0] == of_v6[1] {
        f.invalid(&all, "may specify no more than one IP for each IP family");
    }
    if f.count() > before || is_headless(spec) {
        return;
    }
    for ((index, address), family) in all.items().enumerate().zip(families.list()) {
        let is_v6 = ip::parse(address.str()).is_some_and(|ip| ip.is_ipv6());
        if is_v6 != (family == "IPv6") {
            let family = family.as_str().unwrap_or_default();
            f.invalid(&address, format!("expected an {family} value as indicated by `ipFamilies[{index}]`"));
        }
    }
}

/// The first address stays unless the type changes from or to ExternalName.
fn kept_addresses(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    if new.text("type") == "ExternalName" || old.text("type") == "ExternalName" {
        return;
    }
    let (new, old) = (new.get("clusterIPs"), old.get("clusterIPs"));
    let (Some(new_first), Some(old_first)) = (new.list().first(), old.list().first()) else { return };
    if new_first != old_first {
        f.add(Fault::invalid(format!("{}[0]", new.path()), new.value.clone(), ONCE_SET));
    }
    if let (Some(new_second), Some(old_second)) = (new.list().get(1), old.list().get(1))
        && new_second != old_second
    {
        f.add(Fault::invalid(format!("{}[1]", new.path()), new.value.clone(), IMMUTABLE));
    }
}

fn load_balancer(f: &mut Faults, spec: &At<'_>) {
    let balanced = spec.text("type") == "LoadBalancer";
    // The real server capitalises this path.
    let ranges = spec.get("LoadBalancerSourceRanges").with(spec.get("loadBalancerSourceRanges").value);
    if !ranges.is_zero() {
        if !balanced {
            f.forbidden(&ranges, ONLY_LOAD_BALANCER);
        }
        for range in ranges.items() {
            ip::cidr(f, &range);
        }
    }
    if spec.has("allocateLoadBalancerNodePorts") && !balanced {
        f.forbidden(&spec.get("allocateLoadBalancerNodePorts"), ONLY_LOAD_BALANCER);
    }
    let class = spec.get("loadBalancerClass");
    if class.is_set() {
        if balanced {
            f.format(&class, names::qualified);
        } else {
            f.forbidden(&class, ONLY_LOAD_BALANCER);
        }
    }
}

fn traffic_policies(f: &mut Faults, spec: &At<'_>) {
    let kind = spec.text("type");
    let external = spec.get("externalTrafficPolicy");
    let accessible =
        matches!(kind, "LoadBalancer" | "NodePort") || kind == "ClusterIP" && !spec.get("externalIPs").is_zero();
    if accessible {
        f.present_one_of(&external, &["Cluster", "Local"]);
    } else if !external.is_zero() {
        f.invalid(&external, "may only be set for externally-accessible services");
    }
    let health = spec.get("healthCheckNodePort");
    if kind == "LoadBalancer" && external.str() == "Local" {
        if !health.is_zero() {
            f.port(&health);
        }
    } else if !health.is_zero() {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        f.invalid(&health, detail);
    }
    let internal = spec.get("internalTrafficPolicy");
    if kind != "ExternalName" && !internal.is_set() {
        f.required(&internal, "");
    }
    f.optional_one_of(&internal, &["Cluster", "Local"]);
    f.optional_one_of(&spec.get("trafficDistribution"), &["PreferClose", "PreferSameZone", "PreferSameNode"]);
}
