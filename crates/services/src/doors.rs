//! Which address and port leads to which backends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use sluice_netlink::Family;

use crate::control::OwnBackend;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Three hours, as everywhere.
const STICKY: Duration = Duration::from_secs(10_800);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// Others, such as SCTP, are not forwarded.
    fn of(name: Option<&str>) -> Option<Self> {
        match name.unwrap_or("TCP") {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            _ => None,
        }
    }
}

/// One port of one service, in one family of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    /// `namespace/service:port`
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) family: Family,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
    /// How long a client stays with its backend.
    pub(crate) sticky: Option<Duration>,
    pub(crate) backends: Vec<SocketAddr>,
    /// The engine itself stands behind it, and is reached in other ways, too.
    pub(crate) own: bool,
    /// Those for requests through the node's port.
    pub(crate) node_backends: Vec<SocketAddr>,
}

/// What the API says of services.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) services: Vec<Arc<Service>>,
    pub(crate) slices: Vec<Arc<EndpointSlice>>,
    pub(crate) own: Vec<OwnBackend>,
    pub(crate) node_name: String,
}

impl Cluster {
    pub(crate) fn slices_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a EndpointSlice> {
        let (namespace, name) = (&service.metadata.namespace, &service.metadata.name);
        let belongs = move |slice: &&Arc<EndpointSlice>| {
            let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
            label == name.as_ref() && slice.metadata.namespace == *namespace
        };
        self.slices.iter().filter(belongs).map(|slice| &**slice)
    }

    pub(crate) fn doors(&self) -> Vec<Door> {
        let mut doors: Vec<Door> = self.services.iter().flat_map(|service| self.doors_of(service)).collect();
        doors.sort_by(|one, other| {
            (&one.name, one.protocol, one.family).cmp(&(&other.name, other.protocol, other.family))
        });
        doors
    }

    fn doors_of(&self, service: &Service) -> Vec<Door> {
        let families = [Family::V4, Family::V6].into_iter();
        families.flat_map(|family| self.doors_of_family(service, family)).collect()
    }

    fn doors_of_family(&self, service: &Service, family: Family) -> Vec<Door> {
        let Some(spec) = &service.spec else { return Vec::new() };
        let addresses = addresses(service, family);
        if addresses.is_empty() || spec.type_.as_deref() == Some("ExternalName") {
            return Vec::new();
        }
        let sticky = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let seconds = spec.session_affinity_config.as_ref().and_then(|it| it.client_ip.as_ref()?.timeout_seconds);
            seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(STICKY, Duration::from_secs)
        });
        let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
        let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let door = |port: &ServicePort| {
            let protocol = Protocol::of(port.protocol.as_deref())?;
            Some(Door {
                name: label(service, port),
                protocol,
                family,
                addresses: addresses.clone(),
                port: u16::try_from(port.port).ok()?,
                node_port: port.node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0),
                sticky,
                own: family == Family::V4 && self.own.iter().any(|own| own.is_of(service, port)),
                backends: self.backends(service, port, family, internal_local),
                node_backends: self.backends(service, port, family, external_local),
            })
        };
        spec.ports.iter().flatten().filter_map(door).collect()
    }

    /// The ready ones; those that still serve while they end only when nobody else is there.
    fn backends(&self, service: &Service, port: &ServicePort, family: Family, local: bool) -> Vec<SocketAddr> {
        let (mut ready, mut ending) = (Vec::new(), Vec::new());
        for slice in self.slices_of(service) {
            let Some(number) = number(slice, port) else { continue };
            let here =
                |endpoint: &&Endpoint| !local || endpoint.node_name.as_ref().is_none_or(|node| *node == self.node_name);
            for endpoint in slice.endpoints.iter().filter(here) {
                let address = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok());
                let Some(address) = address.filter(|address| Family::of(*address) == family) else { continue };
                let backend = SocketAddr::new(address, number);
                match state(endpoint) {
                    State::Ready => ready.push(backend),
                    State::Ending => ending.push(backend),
                    State::Away => {}
                }
            }
        }
        let own = self.own.iter().filter(|own| own.is_of(service, port));
        ready.extend(own.map(|own| SocketAddr::V4(own.backend)).filter(|own| Family::of(own.ip()) == family));
        let mut backends = if ready.is_empty() { ending } else { ready };
        backends.sort_unstable();
        backends.dedup();
        backends
    }
}

enum State {
    Ready,
    Ending,
    Away,
}

fn state(endpoint: &Endpoint) -> State {
    let conditions = endpoint.conditions.as_ref();
    let is = |pick: fn(&k8s_openapi::api::discovery::v1::EndpointConditions) -> Option<bool>| conditions.and_then(pick);
    if is(|it| it.ready) != Some(false) {
        State::Ready
    } else if is(|it| it.serving) == Some(true) && is(|it| it.terminating) == Some(true) {
        State::Ending
    } else {
        State::Away
    }
}

pub(crate) fn is_ready(endpoint: &Endpoint) -> bool {
    matches!(state(endpoint), State::Ready)
}

/// The number of this port in a slice.
fn number(slice: &EndpointSlice, port: &ServicePort) -> Option<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let found = slice.ports.iter().flatten().find(|it| {
        it.name.as_deref().unwrap_or_default() == name && it.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    found.and_then(|it| u16::try_from(it.port?).ok())
}

/// Every address of a family that stands for the whole service. A service has no addresses of IPv6 but its own, or beside one
/// of these.
fn addresses(service: &Service, family: Family) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let of_family = |address: &String| address.parse::<IpAddr>().ok().filter(|it| Family::of(*it) == family);
    let cluster = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(of_family);
    let mut addresses: Vec<IpAddr> = cluster.collect();
    if family == Family::V6 && addresses.is_empty() {
        return addresses;
    }
    let balancer = service.status.iter().filter_map(|status| status.load_balancer.as_ref());
    let ingress = balancer.flat_map(|it| it.ingress.iter().flatten()).filter_map(|it| it.ip.as_ref());
    addresses.extend(spec.external_ips.iter().flatten().chain(ingress).filter_map(of_family));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn label(service: &Service, port: &ServicePort) -> String {
    let (namespace, name) = (&service.metadata.namespace, &service.metadata.name);
    let port = port.name.clone().unwrap_or_else(|| port.port.to_string());
    format!("{}/{}:{port}", namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The backends of a service of one port, inside and through the node's port.
    fn check(spec: Value, endpoints: Value, expected: &str) {
        let mut service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
            "clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80, "nodePort": 30_080}]}});
        service["spec"].as_object_mut().expect("a spec").extend({
            let Value::Object(fields) = spec else { panic!("fields") };
            fields
        });
        let mut slice = json!({"metadata": {"namespace": "shop", "labels": {SERVICE_NAME: "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]});
        slice["endpoints"] = endpoints;
        let cluster = Cluster {
            services: vec![Arc::new(serde_json::from_value(service).expect("a service"))],
            slices: vec![Arc::new(serde_json::from_value(slice).expect("a slice"))],
            own: Vec::new(),
            node_name: "here".to_owned(),
        };
        let list =
            |backends: &[SocketAddr]| backends.iter().map(|it| it.ip().to_string()).collect::<Vec<_>>().join(",");
        let doors = cluster.doors();
        let line = doors.iter().map(|door| format!("{} / {}", list(&door.backends), list(&door.node_backends)));
        assert_eq!(line.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn ready_endpoints_serve_and_ending_ones_when_nobody_else_does() {
        let endpoint = |address: &str, ready: bool, serving: bool, terminating: bool| {
            json!({"addresses": [address],
                "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
        };
        let ready = endpoint("10.64.0.2", true, true, false);
        let ending = endpoint("10.64.0.3", false, true, true);
        let dead = endpoint("10.64.0.4", false, false, true);
        check(json!({}), json!([ready, ending, dead]), "10.64.0.2 / 10.64.0.2");
        check(json!({}), json!([ending, dead]), "10.64.0.3 / 10.64.0.3");
        check(json!({}), json!([dead]), " / ");
        check(json!({}), json!([{"addresses": ["10.64.0.5"], "conditions": {}}]), "10.64.0.5 / 10.64.0.5");
        check(json!({"clusterIP": "None"}), json!([ready]), "");
    }

    #[test]
    fn each_family_of_a_service_has_a_door_that_leads_to_its_own_endpoints() {
        let slice = |family: &str, address: &str| {
            let slice = json!({"metadata": {"namespace": "shop", "labels": {SERVICE_NAME: "web"}},
                "addressType": family, "ports": [{"port": 8080}],
                "endpoints": [{"addresses": [address], "conditions": {}}]});
            Arc::new(serde_json::from_value(slice).expect("a slice"))
        };
        let doors = |cluster_ips: &[&str]| {
            let service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {
                "clusterIP": cluster_ips[0], "clusterIPs": cluster_ips, "externalIPs": ["192.0.2.7", "2001:db8::7"],
                "ports": [{"port": 80}]}});
            let cluster = Cluster {
                services: vec![Arc::new(serde_json::from_value(service).expect("a service"))],
                slices: vec![slice("IPv4", "10.64.0.2"), slice("IPv6", "fd5c::2")],
                ..Cluster::default()
            };
            let list = |all: &[String]| all.join(",");
            let line = |door: Door| {
                let addresses: Vec<_> = door.addresses.iter().map(ToString::to_string).collect();
                let backends: Vec<_> = door.backends.iter().map(ToString::to_string).collect();
                format!("{} -> {}", list(&addresses), list(&backends))
            };
            cluster.doors().into_iter().map(line).collect::<Vec<_>>().join("; ")
        };
        let v4 = |address: &str| format!("{address},192.0.2.7 -> 10.64.0.2:8080");
        let v6 = "2001:db8::7,fd00:10:96::9 -> [fd5c::2]:8080";
        assert_eq!(doors(&["10.96.0.9"]), v4("10.96.0.9"));
        assert_eq!(doors(&["10.96.0.9", "fd00:10:96::9"]), format!("{}; {v6}", v4("10.96.0.9")));
        assert_eq!(doors(&["fd00:10:96::9"]), format!("192.0.2.7 -> 10.64.0.2:8080; {v6}"));
    }

    #[test]
    fn local_policies_keep_to_this_node() {
        let endpoints = json!([
            {"addresses": ["10.64.0.2"], "conditions": {}, "nodeName": "here"},
            {"addresses": ["10.65.0.2"], "conditions": {}, "nodeName": "there"},
        ]);
        let both = "10.64.0.2,10.65.0.2";
        check(json!({}), endpoints.clone(), &format!("{both} / {both}"));
        check(json!({"internalTrafficPolicy": "Local"}), endpoints.clone(), &format!("10.64.0.2 / {both}"));
        check(json!({"externalTrafficPolicy": "Local"}), endpoints, &format!("{both} / 10.64.0.2"));
    }
}
