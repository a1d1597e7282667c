//! Services, endpoints, ingresses and what belongs to them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cells::{Object, first_of, items, labels, none_if_empty, plain, selector};
use super::default_cells;

/// Lists of endpoints, ports and hosts show as many and count the rest.
const SHOWN: usize = 3;

pub(super) fn cells(kind: &str, object: Object<'_>) -> Vec<Value> {
    match kind {
        "EndpointSlice" => endpoint_slice(object),
        "Ingress" => ingress(object),
        "IngressClass" => ingress_class(object),
        "NetworkPolicy" => {
            vec![object.name(), none_if_empty(selector(object.at("/spec/podSelector"))).into(), object.age()]
        }
        "ServiceCIDR" => vec![object.name(), joined(object.list("/spec/cidrs")).into(), object.age()],
        "IPAddress" => vec![object.name(), parent(object).into(), object.age()],
        _ => default_cells(object),
    }
}

fn joined(list: &[Value]) -> String {
    list.iter().map(plain).collect::<Vec<_>>().join(",")
}

pub(super) fn service(object: Object<'_>) -> Vec<Value> {
    let ports = object.list("/spec/ports").iter().map(|port| {
        let (number, protocol) = (&port["port"], port["protocol"].as_str().unwrap_or_default());
        match port["nodePort"].as_i64() {
            Some(node_port @ 1..) => format!("{number}:{node_port}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    });
    vec![
        object.name(),
        object.text("/spec/type").into(),
        object.at("/spec/clusterIPs/0").as_str().unwrap_or("<none>").into(),
        external_ip(object).into(),
        none_if_empty(ports.collect::<Vec<_>>().join(",")).into(),
        object.age(),
        labels(object.at("/spec/selector")).into(),
    ]
}

fn external_ip(object: Object<'_>) -> String {
    let external = joined(object.list("/spec/externalIPs"));
    match object.text("/spec/type") {
        "ClusterIP" | "NodePort" => none_if_empty(external),
        "LoadBalancer" => {
            let balancer = balancer_addresses(object);
            match (balancer.is_empty(), external.is_empty()) {
                (true, true) => "<pending>".to_owned(),
                (false, true) => balancer,
                (true, false) => external,
                (false, false) => format!("{balancer},{external}"),
            }
        }
        "ExternalName" => object.text("/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// Addresses or host names of the load balancer, sorted.
fn balancer_addresses(object: Object<'_>) -> String {
    let mut found = BTreeSet::new();
    for ingress in object.list("/status/loadBalancer/ingress") {
        let text = |field: &str| ingress[field].as_str().filter(|text| !text.is_empty());
        found.extend(text("ip").or_else(|| text("hostname")));
    }
    found.into_iter().collect::<Vec<_>>().join(",")
}

pub(super) fn endpoints(object: Object<'_>) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in object.list("/subsets") {
        let ips = || items(&subset["addresses"]).iter().map(|address| address["ip"].as_str().unwrap_or_default());
        let ports = items(&subset["ports"]);
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let host = |ip: &str| if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
            all.extend(ips().map(|ip| format!("{}:{}", host(ip), port["port"])));
        }
    }
    let shown = if object.list("/subsets").is_empty() { "<none>".to_owned() } else { first_of(&all, all.len(), SHOWN) };
    vec![object.name(), shown.into(), object.age()]
}

fn endpoint_slice(object: Object<'_>) -> Vec<Value> {
    let unset = |text: String| if text.is_empty() { "<unset>".to_owned() } else { text };
    let port = |port: &Value| match (port["port"].as_i64(), port["name"].as_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    let ports: Vec<String> = object.list("/ports").iter().map(port).collect();
    let endpoints = object.list("/endpoints").iter().flat_map(|endpoint| items(&endpoint["addresses"]));
    let addresses: Vec<String> = endpoints.map(plain).collect();
    vec![
        object.name(),
        object.text("/addressType").into(),
        unset(first_of(&ports, ports.len(), SHOWN)).into(),
        unset(first_of(&addresses, addresses.len(), SHOWN)).into(),
        object.age(),
    ]
}

fn ingress(object: Object<'_>) -> Vec<Value> {
    let rules = object.list("/spec/rules");
    // Rules without a host count, but are not shown.
    let hosts = rules.iter().take(SHOWN).filter_map(|rule| rule["host"].as_str()).filter(|host| !host.is_empty());
    let hosts: Vec<String> = hosts.map(str::to_owned).collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { first_of(&hosts, rules.len(), SHOWN) };
    let ports = if object.list("/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![
        object.name(),
        object.text_or("/spec/ingressClassName", "<none>"),
        hosts.into(),
        balancer_addresses(object).into(),
        ports.into(),
        object.age(),
    ]
}

fn ingress_class(object: Object<'_>) -> Vec<Value> {
    let parameters = match object.at("/spec/parameters") {
        Value::Null => "<none>".to_owned(),
        parameters => {
            let text = |field: &str| parameters[field].as_str().unwrap_or_default();
            let group = parameters["apiGroup"].as_str().map(|group| format!(".{group}")).unwrap_or_default();
            format!("{}{group}/{}", text("kind"), text("name"))
        }
    };
    vec![object.name(), object.text("/spec/controller").into(), parameters.into(), object.age()]
}

/// What an address belongs to: `services/default/kubernetes`.
fn parent(object: Object<'_>) -> String {
    let parent = object.at("/spec/parentRef");
    if parent.is_null() {
        return "<none>".to_owned();
    }
    let text = |field: &str| parent[field].as_str().unwrap_or_default();
    let dot = if text("group").is_empty() { "" } else { "." };
    let resource = format!("{}{dot}{}", text("resource"), text("group")).to_lowercase();
    let parts = [resource.as_str(), text("namespace"), text("name")];
    parts
        .iter()
        .copied()
        .enumerate()
        .filter(|(i, p)| *i != 1 || !p.is_empty())
        .map(|(_, p)| p)
        .collect::<Vec<_>>()
        .join("/")
}
