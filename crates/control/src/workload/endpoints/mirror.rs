//! Endpoints made by hand, as slices.

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::super::owner;
use super::{MANAGED_BY, MIRROR, SERVICE_NAME};

const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One per subset and address family.
pub(super) fn slices(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    if endpoints.labels().get(SKIP).is_some_and(|skip| skip == "true") {
        return Vec::new();
    }
    let subsets = endpoints.subsets.iter().flatten();
    subsets
        .flat_map(|subset| ["IPv4", "IPv6"].into_iter().filter_map(|family| slice(endpoints, subset, family)))
        .collect()
}

fn slice(endpoints: &Endpoints, subset: &EndpointSubset, family: &str) -> Option<EndpointSlice> {
    let is_of_family = |address: &&EndpointAddress| address.ip.contains(':') == (family == "IPv6");
    let ready = subset.addresses.iter().flatten().filter(is_of_family).map(|it| endpoint(it, true));
    let unready = subset.not_ready_addresses.iter().flatten().filter(is_of_family).map(|it| endpoint(it, false));
    let all: Vec<_> = ready.chain(unready).collect();
    if all.is_empty() {
        return None;
    }
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol.clone(),
    });
    Some(EndpointSlice {
        metadata: meta(endpoints),
        address_type: family.to_owned(),
        endpoints: all,
        ports: Some(ports.collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
    })
}

fn meta(endpoints: &Endpoints) -> ObjectMeta {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), endpoints.name_any());
    labels.insert(MANAGED_BY.to_owned(), MIRROR.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    ObjectMeta {
        generate_name: Some(format!("{}-", endpoints.name_any())),
        namespace: endpoints.namespace(),
        labels: Some(labels),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        owner_references: Some(vec![owner::controlled_by(endpoints)]),
        ..ObjectMeta::default()
    }
}

fn endpoint(address: &EndpointAddress, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}
