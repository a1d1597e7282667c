//! The slices of a Service: one set of ports each, at most a hundred endpoints, and as few changes as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;

use super::super::owner;
use super::backend::{Backend, Port};
use super::{CONTROLLER, HEADLESS, MANAGED_BY, SERVICE_NAME};

/// Endpoints of one slice: a change rewrites no more than these.
const SLICE_ENDPOINTS: usize = 100;

/// Leaves nothing to choose.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<(Arc<EndpointSlice>, EndpointSlice)>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

pub(super) fn decide(service: &Service, backends: &[Backend], existing: &[Arc<EndpointSlice>]) -> Changes {
    let mut wanted = Vec::new();
    for family in families(service) {
        let mut groups: Vec<(Vec<Port>, Vec<Endpoint>)> = Vec::new();
        for backend in backends.iter().filter(|backend| backend.has_node || backend.is_published_anyway) {
            let Some(address) = backend.address(&family) else { continue };
            let endpoint = endpoint(backend, address);
            match groups.iter_mut().find(|(ports, _)| *ports == backend.ports) {
                Some((_, endpoints)) => endpoints.push(endpoint),
                None => groups.push((backend.ports.clone(), vec![endpoint])),
            }
        }
        if groups.is_empty() {
            groups.push((Vec::new(), Vec::new()));
        }
        for (ports, endpoints) in groups {
            wanted.extend(cut(service, &family, &ports, endpoints, existing));
        }
    }
    changes(existing, wanted)
}

/// At least one.
pub(super) fn families(service: &Service) -> Vec<String> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if families.is_empty() { vec!["IPv4".to_owned()] } else { families }
}

fn endpoint(backend: &Backend, address: &str) -> Endpoint {
    let is_ready = backend.is_published_anyway || (backend.is_ready && !backend.is_terminating);
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(is_ready),
            serving: Some(backend.is_ready),
            terminating: Some(backend.is_terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: Some(backend.node_name.clone()).filter(|name| !name.is_empty()),
        target_ref: Some(backend.target.clone()),
        zone: backend.zone.clone(),
        ..Endpoint::default()
    }
}

/// Cuts one group into slices, leaving each endpoint in the slice where it is.
fn cut(
    service: &Service,
    family: &str,
    ports: &[Port],
    endpoints: Vec<Endpoint>,
    existing: &[Arc<EndpointSlice>],
) -> Vec<EndpointSlice> {
    let ports = endpoint_ports(ports);
    let same_ports = existing.iter().filter(|slice| slice.address_type == family && slice.ports == ports);
    let mut places: Vec<(Option<&Arc<EndpointSlice>>, Vec<Endpoint>)> =
        same_ports.map(|slice| (Some(slice), Vec::new())).collect();
    let mut homeless = Vec::new();
    for endpoint in endpoints {
        let lives_in = |slice: &EndpointSlice| slice.endpoints.iter().any(|other| is_same(other, &endpoint));
        match places.iter_mut().find(|(slice, _)| slice.is_some_and(|slice| lives_in(slice))) {
            Some((_, residents)) => residents.push(endpoint),
            None => homeless.push(endpoint),
        }
    }
    for endpoint in homeless {
        // The fullest first: few slices, and few changes.
        let with_room = places.iter_mut().filter(|(_, residents)| residents.len() < SLICE_ENDPOINTS);
        match with_room.max_by_key(|(_, residents)| residents.len()) {
            Some((_, residents)) => residents.push(endpoint),
            None => places.push((None, vec![endpoint])),
        }
    }
    if places.iter().all(|(_, residents)| residents.is_empty()) {
        places.truncate(1);
        if places.is_empty() {
            places.push((None, Vec::new()));
        }
    } else {
        places.retain(|(_, residents)| !residents.is_empty());
    }
    let slice = |(existing, residents): (Option<&Arc<EndpointSlice>>, Vec<Endpoint>)| EndpointSlice {
        metadata: existing.map_or_else(|| new_meta(service), |slice| labelled(&slice.metadata, service)),
        address_type: family.to_owned(),
        endpoints: residents,
        ports: ports.clone(),
    };
    places.into_iter().map(slice).collect()
}

fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    uid(one) == uid(other) && one.addresses == other.addresses
}

fn endpoint_ports(ports: &[Port]) -> Option<Vec<EndpointPort>> {
    let ports = ports.iter().map(|port| EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.number),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    });
    Some(ports.collect::<Vec<_>>()).filter(|ports| !ports.is_empty())
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels
}

pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

fn labelled(meta: &ObjectMeta, service: &Service) -> ObjectMeta {
    ObjectMeta { labels: Some(labels(service)), ..meta.clone() }
}

fn new_meta(service: &Service) -> ObjectMeta {
    ObjectMeta {
        generate_name: Some(format!("{}-", service.name_any())),
        namespace: service.namespace(),
        labels: Some(labels(service)),
        owner_references: Some(vec![owner::controlled_by(service)]),
        ..ObjectMeta::default()
    }
}

/// From what is there to what is wanted. A slice that is no longer wanted becomes one that is new, where that is possible:
/// readers then never see the Service without slices.
pub(super) fn changes(existing: &[Arc<EndpointSlice>], wanted: Vec<EndpointSlice>) -> Changes {
    let mut changes = Changes::default();
    let (named, unnamed): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|slice| slice.metadata.name.is_some());
    let is_kept = |slice: &EndpointSlice| named.iter().any(|kept| kept.metadata.name == slice.metadata.name);
    let mut spare: Vec<_> = existing.iter().filter(|slice| !is_kept(slice)).cloned().collect();
    for slice in named {
        if let Some(before) = existing.iter().find(|it| it.metadata.name == slice.metadata.name) {
            changes.update.push((Arc::clone(before), slice));
        }
    }
    for slice in unnamed {
        match spare.iter().position(|it| it.address_type == slice.address_type) {
            Some(at) => {
                let before = spare.remove(at);
                let metadata = ObjectMeta { labels: slice.metadata.labels.clone(), ..before.metadata.clone() };
                changes.update.push((before, EndpointSlice { metadata, ..slice }));
            }
            None => changes.create.push(slice),
        }
    }
    changes.update.retain(|(before, after)| **before != *after);
    changes.delete = spare;
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service() -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "x", "uid": "s"},
            "spec": {"ports": [{"port": 80, "targetPort": 8080}], "selector": {"app": "web"}}}))
        .unwrap()
    }

    fn backend(name: &str, number: i32) -> Backend {
        let port = Port { name: String::new(), number, protocol: "TCP".to_owned(), app_protocol: None };
        let target = serde_json::from_value(json!({"kind": "Pod", "name": name, "uid": name})).unwrap();
        Backend {
            addresses: vec![format!("10.0.0.{}", name.len())],
            is_ready: true,
            is_terminating: false,
            is_published_anyway: false,
            has_node: true,
            node_name: "n".to_owned(),
            zone: None,
            hostname: None,
            target,
            ports: vec![port],
        }
    }

    /// Carries changes out, as the API would.
    fn carry_out(existing: &[Arc<EndpointSlice>], changes: Changes) -> Vec<Arc<EndpointSlice>> {
        let Changes { create, update, delete } = changes;
        let mut after: Vec<_> = existing
            .iter()
            .filter(|slice| !delete.contains(slice))
            .map(|slice| {
                update
                    .iter()
                    .find(|(before, _)| before == slice)
                    .map_or(Arc::clone(slice), |(_, it)| Arc::new(it.clone()))
            })
            .collect();
        for (at, mut slice) in create.into_iter().enumerate() {
            slice.metadata.name = Some(format!("web-{}", existing.len() + at));
            after.push(Arc::new(slice));
        }
        after
    }

    fn show(slices: &[Arc<EndpointSlice>]) -> String {
        let slice = |slice: &Arc<EndpointSlice>| {
            let ports: Vec<_> = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
            let pods: Vec<_> = slice.endpoints.iter().filter_map(|it| it.target_ref.as_ref()?.name.clone()).collect();
            format!("{} {ports:?} {}", slice.name_any(), pods.join(","))
        };
        slices.iter().map(slice).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn slices_follow_the_pods_with_few_changes() {
        let mut slices = Vec::new();
        let mut step = |backends: &[Backend], expected: &str| {
            let changes = decide(&service(), backends, &slices);
            slices = carry_out(&slices, changes);
            assert_eq!(show(&slices), expected);
            assert_eq!(decide(&service(), backends, &slices), Changes::default(), "a second pass has nothing to do");
        };
        step(&[], "web-0 [] ");
        step(&[backend("a", 8080)], "web-0 [8080] a");
        step(&[backend("a", 8080), backend("bb", 8080)], "web-0 [8080] a,bb");
        step(&[backend("a", 8080), backend("bb", 9090)], "web-0 [8080] a; web-1 [9090] bb");
        step(&[backend("ccc", 9090)], "web-1 [9090] ccc");
        step(&[], "web-1 [] ");
    }

    #[test]
    fn each_family_of_a_service_has_slices_of_its_own() {
        let of = |families: &[&str], backends: &[Backend]| {
            let mut service = service();
            service.spec.as_mut().unwrap().ip_families = Some(families.iter().map(|it| (*it).to_owned()).collect());
            let slices = carry_out(&[], decide(&service, backends, &[]));
            let slice = |slice: &Arc<EndpointSlice>| {
                let addresses: Vec<_> = slice.endpoints.iter().flat_map(|it| it.addresses.clone()).collect();
                format!("{} {}", slice.address_type, addresses.join(","))
            };
            slices.iter().map(slice).collect::<Vec<_>>().join("; ")
        };
        let addresses = vec!["10.0.0.1".to_owned(), "fd5c::1".to_owned()];
        let pods = [Backend { addresses, ..backend("a", 80) }, backend("bb", 80)];
        assert_eq!(of(&["IPv4"], &pods), "IPv4 10.0.0.1,10.0.0.2");
        assert_eq!(of(&["IPv6", "IPv4"], &pods), "IPv6 fd5c::1; IPv4 10.0.0.1,10.0.0.2");
    }

    #[test]
    fn a_full_slice_makes_another() {
        let many: Vec<_> = (0..250).map(|n| backend(&format!("p{n}"), 80)).collect();
        let slices = carry_out(&[], decide(&service(), &many, &[]));
        let sizes: Vec<_> = slices.iter().map(|slice| slice.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
        let fewer: Vec<_> = many[..120].to_vec();
        let changes = decide(&service(), &fewer, &slices);
        assert_eq!((changes.create.len(), changes.update.len(), changes.delete.len()), (0, 1, 1));
    }

    #[test]
    fn readiness_is_what_the_service_wants_of_it() {
        let conditions = |is_ready, is_terminating, is_published_anyway| {
            let backend = Backend { is_ready, is_terminating, is_published_anyway, ..backend("a", 80) };
            let conditions = endpoint(&backend, "10.0.0.1").conditions.unwrap();
            [conditions.ready, conditions.serving, conditions.terminating].map(|it| it == Some(true))
        };
        assert_eq!(conditions(true, false, false), [true, true, false]);
        assert_eq!(conditions(false, false, false), [false, false, false]);
        assert_eq!(conditions(true, true, false), [false, true, true]);
        assert_eq!(conditions(true, true, true), [true, true, true]);
        assert_eq!(conditions(false, false, true), [true, false, false]);
    }
}
