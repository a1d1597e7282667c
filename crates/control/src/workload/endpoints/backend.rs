//! One pod as a Service sees it.

use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;

use super::super::informer::is_deleted;
use super::super::pod;
use super::ZONE;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Backend {
    /// One per address family at most.
    pub(super) addresses: Vec<String>,
    pub(super) is_ready: bool,
    pub(super) is_terminating: bool,
    /// The Service wants it whatever its state.
    pub(super) is_published_anyway: bool,
    /// Nobody knows its node, which slices take more seriously than Endpoints do.
    pub(super) has_node: bool,
    pub(super) node_name: String,
    pub(super) zone: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) target: ObjectReference,
    pub(super) ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) number: i32,
    pub(super) protocol: String,
    pub(super) app_protocol: Option<String>,
}

impl Backend {
    /// None while it has no address, and once it has none any more.
    pub(super) fn of(service: &Service, pod: &Pod, node: Option<&Node>) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref()?;
        let mut addresses: Vec<_> = status.pod_ips.iter().flatten().map(|it| it.ip.clone()).collect();
        if addresses.is_empty() {
            addresses.extend(status.pod_ip.clone().filter(|ip| !ip.is_empty()));
        }
        if addresses.is_empty() || pod::is_finished(pod) {
            return None;
        }
        let service_spec = service.spec.as_ref()?;
        let is_in_subdomain = spec.subdomain.as_deref() == Some(&service.name_any());
        Some(Self {
            addresses,
            is_ready: pod::is_ready(pod),
            is_terminating: is_deleted(pod),
            is_published_anyway: service_spec.publish_not_ready_addresses == Some(true),
            has_node: node.is_some(),
            node_name: spec.node_name.clone().unwrap_or_default(),
            zone: node.and_then(|node| node.labels().get(ZONE).cloned()),
            hostname: spec.hostname.clone().filter(|hostname| is_in_subdomain && !hostname.is_empty()),
            target: ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: pod.namespace(),
                name: Some(pod.name_any()),
                uid: pod.uid(),
                ..ObjectReference::default()
            },
            ports: service_spec.ports.iter().flatten().filter_map(|port| Port::of(port, pod)).collect(),
        })
    }

    pub(super) fn address(&self, family: &str) -> Option<&String> {
        self.addresses.iter().find(|address| address.contains(':') == (family == "IPv6"))
    }
}

impl Port {
    /// None when the pod has no port of that name.
    fn of(port: &ServicePort, pod: &Pod) -> Option<Self> {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        let number = match &port.target_port {
            None | Some(IntOrString::Int(0)) => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(name)) => named_port(pod, name, &protocol)?,
        };
        let name = port.name.clone().unwrap_or_default();
        Some(Self { name, number, protocol, app_protocol: port.app_protocol.clone() })
    }
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|it| it.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mut named = ports
        .filter(|port| port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol);
    named.next().map(|port| port.container_port)
}
