//! Objects of the API become the facts that routing is made of.

use std::net::IpAddr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_model::gateway::GatewayClassSpec;
use sluice_model::ingress::IngressClassSpec;
use sluice_model::rollout::Exposure;
use sluice_route::{
    Change, EndpointFacts, GatewayFacts, GrantFacts, IngressFacts, ListenerSetFacts, ObjectKey, PodFacts, PodRef,
    PolicyFacts, RolloutFacts, RouteFacts, ServiceFacts, ServicePort, SliceFacts,
};

use super::key_of;
use super::object::{Bare, Resource, Whole};
use crate::options::CONTROLLER_NAME;

/// The label that tells versions apart.
const TEMPLATE_HASH: &str = "pod-template-hash";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// What the object says; what cannot be read counts as absent, and the reason is given.
pub(crate) fn whole(resource: Resource, object: &Whole) -> (Change, Option<serde_json::Error>) {
    let key = key_of(&object.metadata);
    let generation = object.metadata.generation.unwrap_or_default();
    let created = object.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    match resource {
        Resource::GatewayClasses => {
            let (spec, error) = optional(read::<GatewayClassSpec>(&object.spec));
            (Change::Class(key.name, spec.is_some_and(|spec| spec.controller_name == CONTROLLER_NAME)), error)
        }
        Resource::Gateways => {
            let (spec, error) = optional(read(&object.spec));
            let address = object.status["addresses"][0]["value"].as_str().and_then(|address| address.parse().ok());
            (Change::Gateway(key, spec.map(|spec| GatewayFacts { generation, created, address, spec })), error)
        }
        Resource::ListenerSets => {
            let (spec, error) = optional(read(&object.spec));
            (Change::ListenerSet(key, spec.map(|spec| ListenerSetFacts { generation, created, spec })), error)
        }
        Resource::HttpRoutes => {
            let (spec, error) = optional(read(&object.spec));
            (Change::Route(key, spec.map(|spec| RouteFacts { generation, created, spec })), error)
        }
        Resource::IngressClasses => {
            let (spec, error) = optional(read::<IngressClassSpec>(&object.spec));
            (Change::IngressClass(key.name, spec.is_some_and(|spec| spec.controller == CONTROLLER_NAME)), error)
        }
        Resource::Ingresses => {
            let (spec, error) = optional(read(&object.spec));
            let annotations = object.metadata.annotations.clone().unwrap_or_default();
            (Change::Ingress(key, spec.map(|spec| IngressFacts { generation, created, annotations, spec })), error)
        }
        Resource::ReferenceGrants => {
            let (facts, error) = optional(read::<GrantFacts>(&object.spec));
            (Change::Grant(key, facts), error)
        }
        Resource::Services => {
            let (facts, error) = optional(service(&object.spec));
            (Change::Service(key, facts), error)
        }
        Resource::EndpointSlices => {
            let (facts, error) = optional(slice(object));
            (Change::Slice(key, facts), error)
        }
        Resource::Rollouts => {
            let (facts, error) = optional(rollout(object));
            (Change::Rollout(key, facts), error)
        }
        Resource::BackendTlsPolicies => {
            let (spec, error) = optional(read(&object.spec));
            (Change::Policy(key, spec.map(|spec| PolicyFacts { generation, created, spec })), error)
        }
        // Read as certificates, by whoever watches them.
        Resource::Secrets | Resource::ConfigMaps => (gone(resource, key), None),
        Resource::Pods | Resource::Namespaces => (bare(resource, &Bare { metadata: object.metadata.clone() }), None),
    }
}

pub(crate) fn bare(resource: Resource, object: &Bare) -> Change {
    let key = key_of(&object.metadata);
    if resource == Resource::Namespaces {
        return Change::Namespace(key.name, Some(object.metadata.labels.clone().unwrap_or_default()));
    }
    let owners = object.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true) && owner.kind == "ReplicaSet");
    let facts = PodFacts {
        uid: object.metadata.uid.clone().unwrap_or_default(),
        hash: object.metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH)).cloned().unwrap_or_default(),
        replica_set: controllers.next().map(|owner| owner.name.clone()),
        terminating: object.metadata.deletion_timestamp.is_some(),
    };
    Change::Pod(key, Some(facts))
}

/// The object is gone.
pub(crate) fn gone(resource: Resource, key: ObjectKey) -> Change {
    match resource {
        Resource::GatewayClasses => Change::Class(key.name, false),
        Resource::Gateways => Change::Gateway(key, None),
        Resource::ListenerSets => Change::ListenerSet(key, None),
        Resource::HttpRoutes => Change::Route(key, None),
        Resource::IngressClasses => Change::IngressClass(key.name, false),
        Resource::Ingresses => Change::Ingress(key, None),
        Resource::ReferenceGrants => Change::Grant(key, None),
        Resource::Namespaces => Change::Namespace(key.name, None),
        Resource::BackendTlsPolicies => Change::Policy(key, None),
        Resource::Secrets => Change::Secret(key, None),
        Resource::ConfigMaps => Change::Authorities(key, None),
        Resource::Services => Change::Service(key, None),
        Resource::EndpointSlices => Change::Slice(key, None),
        Resource::Pods => Change::Pod(key, None),
        Resource::Rollouts => Change::Rollout(key, None),
    }
}

fn optional<T>(read: Result<Option<T>, serde_json::Error>) -> (Option<T>, Option<serde_json::Error>) {
    match read {
        Ok(value) => (value, None),
        Err(error) => (None, Some(error)),
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Result<Option<T>, serde_json::Error> {
    T::deserialize(value).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    protocol: Option<String>,
    #[serde(default)]
    app_protocol: Option<String>,
}

/// Ports that speak TCP; others are not for HTTP.
fn ports(value: &Value) -> Result<Vec<ServicePort>, serde_json::Error> {
    let ports: Vec<Port> = Option::deserialize(value)?.unwrap_or_default();
    let tcp = ports.into_iter().filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let known = tcp.filter_map(|Port { name, port, protocol: _, app_protocol }| {
        Some(ServicePort { name: name.unwrap_or_default(), port: port?, app_protocol })
    });
    Ok(known.collect())
}

fn service(spec: &Value) -> Result<Option<ServiceFacts>, serde_json::Error> {
    Ok(Some(ServiceFacts { ports: ports(spec.get("ports").unwrap_or(&Value::Null))? }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: EndpointConditions,
    #[serde(default)]
    target_ref: Option<TargetRef>,
}

#[derive(Default, Deserialize)]
struct EndpointConditions {
    #[serde(default)]
    ready: Option<bool>,
}

#[derive(Deserialize)]
struct TargetRef {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    uid: Option<String>,
}

fn slice(object: &Whole) -> Result<Option<SliceFacts>, serde_json::Error> {
    let Some(service) = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) else {
        return Ok(None);
    };
    let endpoints: Vec<Endpoint> = Option::deserialize(&object.endpoints)?.unwrap_or_default();
    let endpoints = endpoints.into_iter().map(|endpoint| EndpointFacts {
        // Names instead of addresses (address type FQDN) are nobody we could know.
        addresses: endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()).collect(),
        // An unknown readiness counts as ready, says the EndpointSlice API.
        ready: endpoint.conditions.ready.unwrap_or(true),
        pod: endpoint
            .target_ref
            .filter(|target| target.kind.as_deref() == Some("Pod"))
            .map(|target| PodRef { name: target.name.unwrap_or_default(), uid: target.uid.unwrap_or_default() }),
    });
    let endpoints = endpoints.collect();
    Ok(Some(SliceFacts { service: service.clone(), ports: ports(&object.ports)?, endpoints }))
}

fn rollout(object: &Whole) -> Result<Option<RolloutFacts>, serde_json::Error> {
    let target = &object.spec["target"];
    if target["kind"].as_str().unwrap_or("Deployment") != "Deployment" {
        return Ok(None);
    }
    let exposure: Option<Exposure> = Option::deserialize(&object.status["exposure"])?;
    Ok(target["name"].as_str().map(|name| RolloutFacts { target: name.to_owned(), exposure }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn object(value: &Value) -> Whole {
        Whole::deserialize(value).expect("an object")
    }

    #[test]
    fn slices_meet_their_service_by_label() {
        let slice = object(&json!({
            "metadata": {"name": "shop-1", "namespace": "a", "labels": {SERVICE_NAME: "shop"}},
            "ports": [{"name": "http", "port": 3000}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "any"}],
            "endpoints": [
                {"addresses": ["127.64.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "p", "uid": "u"}},
                {"addresses": ["127.64.0.2"], "conditions": {"ready": false}},
                {"addresses": ["10.0.0.1"]},
            ],
        }));
        let endpoint = |address: &str, ready, pod: Option<(&str, &str)>| EndpointFacts {
            addresses: vec![address.parse().expect("an address")],
            ready,
            pod: pod.map(|(name, uid)| PodRef { name: name.into(), uid: uid.into() }),
        };
        let expected = SliceFacts {
            service: "shop".into(),
            ports: vec![ServicePort { name: "http".into(), port: 3000, ..Default::default() }],
            endpoints: vec![
                endpoint("127.64.0.1", true, Some(("p", "u"))),
                endpoint("127.64.0.2", false, None),
                endpoint("10.0.0.1", true, None),
            ],
        };
        let (change, error) = whole(Resource::EndpointSlices, &slice);
        assert!(error.is_none());
        assert_eq!(change, Change::Slice(ObjectKey::new("a", "shop-1"), Some(expected)));
    }

    #[test]
    fn services_say_what_their_ports_speak() {
        let service = object(&json!({"metadata": {"name": "shop", "namespace": "a"}, "spec": {"ports": [
            {"name": "http", "port": 80, "targetPort": 3000},
            {"name": "grpc", "port": 81, "appProtocol": "kubernetes.io/h2c", "protocol": "TCP"},
            {"name": "dns", "port": 53, "protocol": "UDP"}]}}));
        let port = |name: &str, port, app_protocol: Option<&str>| ServicePort {
            name: name.into(),
            port,
            app_protocol: app_protocol.map(str::to_owned),
        };
        let ports = vec![port("http", 80, None), port("grpc", 81, Some("kubernetes.io/h2c"))];
        let expected = Change::Service(ObjectKey::new("a", "shop"), Some(ServiceFacts { ports }));
        assert_eq!(whole(Resource::Services, &service).0, expected);
    }

    #[test]
    fn pods_are_known_by_hash_and_owner() {
        let pod = object(
            &json!({"metadata": {"name": "p", "namespace": "a", "uid": "u", "labels": {TEMPLATE_HASH: "h"},
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-h", "uid": "x", "controller": true}]}}),
        );
        let facts =
            PodFacts { uid: "u".into(), hash: "h".into(), replica_set: Some("shop-h".into()), terminating: true };
        let expected = Change::Pod(ObjectKey::new("a", "p"), Some(facts));
        assert_eq!(whole(Resource::Pods, &pod).0, expected);
    }

    #[test]
    fn an_object_that_cannot_be_read_is_one_object_less() {
        let route = object(&json!({"metadata": {"name": "r", "namespace": "a"}, "spec": {"rules": "none"}}));
        let (change, error) = whole(Resource::HttpRoutes, &route);
        assert_eq!(change, Change::Route(ObjectKey::new("a", "r"), None));
        assert!(error.expect("why").to_string().contains("invalid type"));
    }

    #[test]
    fn labels_of_namespaces_count() {
        let namespace = object(&json!({"metadata": {"name": "a", "labels": {"team": "web"}}}));
        let labels = BTreeMap::from([("team".to_owned(), "web".to_owned())]);
        assert_eq!(whole(Resource::Namespaces, &namespace).0, Change::Namespace("a".into(), Some(labels)));
    }

    #[test]
    fn an_exposure_is_read_from_the_status() {
        let rollout = object(&json!({"metadata": {"name": "r", "namespace": "a"},
            "spec": {"target": {"name": "shop"}, "whatever": 1},
            "status": {"exposure": {"stable": "a", "candidate": "b", "candidateWeight": 100}}}));
        let exposure =
            Exposure { stable: "a".into(), candidate: Some("b".into()), candidate_weight: 100, ..Exposure::default() };
        let facts = RolloutFacts { target: "shop".into(), exposure: Some(exposure) };
        assert_eq!(whole(Resource::Rollouts, &rollout).0, Change::Rollout(ObjectKey::new("a", "r"), Some(facts)));
    }
}
