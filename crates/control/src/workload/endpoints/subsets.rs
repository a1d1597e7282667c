//! The older form: one Endpoints object per Service, addresses grouped by their ports.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::HEADLESS;
use super::backend::{Backend, Port};
use super::slices::{families, is_headless};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";

pub(super) fn endpoints(service: &Service, backends: &[Backend]) -> Endpoints {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    let family = families(service).swap_remove(0);
    let subsets = subsets(backends, &family, has_no_ports(service));
    Endpoints {
        metadata: ObjectMeta {
            name: Some(service.name_any()),
            namespace: service.namespace(),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        subsets: Some(subsets).filter(|subsets| !subsets.is_empty()),
    }
}

fn has_no_ports(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).is_none_or(Vec::is_empty)
}

/// Terminating pods are left out unless everything is published; so are pods without a node, and without a single port
/// unless the Service names none, and without an address of the Service's first family.
fn subsets(backends: &[Backend], family: &str, may_lack_ports: bool) -> Vec<EndpointSubset> {
    let mut groups: Vec<(Vec<Port>, EndpointSubset)> = Vec::new();
    for backend in backends {
        let is_in = (!backend.is_terminating || backend.is_published_anyway) && !backend.node_name.is_empty();
        let Some(ip) = backend.address(family).filter(|_| is_in) else { continue };
        if backend.ports.is_empty() && !may_lack_ports {
            continue;
        }
        let at = groups.iter().position(|(ports, _)| *ports == backend.ports).unwrap_or_else(|| {
            groups.push((
                backend.ports.clone(),
                EndpointSubset { ports: ports(&backend.ports), ..EndpointSubset::default() },
            ));
            groups.len() - 1
        });
        let subset = &mut groups[at].1;
        let list = if backend.is_ready || backend.is_published_anyway {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        list.get_or_insert_default().push(EndpointAddress {
            ip: ip.clone(),
            hostname: backend.hostname.clone(),
            node_name: Some(backend.node_name.clone()),
            target_ref: Some(backend.target.clone()),
        });
    }
    for (_, subset) in &mut groups {
        sort(&mut subset.addresses);
        sort(&mut subset.not_ready_addresses);
    }
    groups.into_iter().map(|(_, subset)| subset).collect()
}

fn sort(addresses: &mut Option<Vec<EndpointAddress>>) {
    if let Some(addresses) = addresses {
        addresses.sort_by_key(|address| address.ip.parse::<std::net::IpAddr>().ok());
    }
}

fn ports(ports: &[Port]) -> Option<Vec<EndpointPort>> {
    let ports = ports.iter().map(|port| EndpointPort {
        name: Some(port.name.clone()).filter(|name| !name.is_empty()),
        port: port.number,
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    });
    Some(ports.collect::<Vec<_>>()).filter(|ports| !ports.is_empty())
}
