//! What the compiler knows of the world: the few fields of each object that decide where a request goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sluice_model::gateway::{BackendTlsPolicySpec, GatewaySpec, HttpRouteSpec, ListenerSetSpec, ReferenceGrantSpec};
use sluice_model::ingress::{CLASS_ANNOTATION, IngressSpec};
use sluice_model::rollout::Exposure;

use crate::tls::CertificateId;
use crate::trust::{self, AuthoritiesId};

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A listening socket as the table knows it. Several listener ports may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entrance {
    /// The address that the gateway was started with.
    Default,
    /// The same IP address, this port.
    Port(u16),
    /// An address that one Gateway has for itself.
    Own(SocketAddr),
}

impl Entrance {
    /// The port that a client came in by: the listener's, where a socket belongs to one listener, else what the client calls it.
    pub fn port(self, named: Option<u16>) -> Option<u16> {
        match self {
            Self::Default => named,
            Self::Port(port) => Some(port),
            Self::Own(address) => Some(address.port()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayFacts {
    pub generation: i64,
    /// The one that its status names, from this run or another.
    pub address: Option<IpAddr>,
    /// Seconds since 1970: of two Gateways that want the same, the older one has it.
    pub created: i64,
    pub spec: GatewaySpec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSetFacts {
    pub generation: i64,
    /// Seconds since 1970: of two that want the same of their Gateway, the older one has it.
    pub created: i64,
    pub spec: ListenerSetSpec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteFacts {
    pub generation: i64,
    /// Seconds since 1970: of two equal claims, the older one wins.
    pub created: i64,
    pub spec: HttpRouteSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngressFacts {
    pub generation: i64,
    /// Seconds since 1970: of two that want the same path of a host, the older one has it.
    pub created: i64,
    /// Those that say how it is to be served.
    pub annotations: BTreeMap<String, String>,
    pub spec: IngressSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceFacts {
    pub ports: Vec<ServicePort>,
}

/// A port of a Service by number, or of an EndpointSlice by the number its pods listen on; they meet by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicePort {
    pub name: String,
    pub port: u16,
    /// `appProtocol`: what is spoken there, as far as the Service says.
    pub app_protocol: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceFacts {
    pub service: String,
    pub ports: Vec<ServicePort>,
    pub endpoints: Vec<EndpointFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointFacts {
    pub addresses: Vec<IpAddr>,
    pub ready: bool,
    /// Absent for endpoints that somebody wrote by hand: these have no version.
    pub pod: Option<PodRef>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    pub name: String,
    pub uid: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    pub uid: String,
    /// `pod-template-hash`, empty when unlabelled.
    pub hash: String,
    /// The ReplicaSet that controls it.
    pub replica_set: Option<String>,
    /// It has a deletionTimestamp.
    pub terminating: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct RolloutFacts {
    /// The Deployment it releases.
    pub target: String,
    pub exposure: Option<Exposure>,
}

/// A Secret of type `kubernetes.io/tls`, read by whoever watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFacts {
    Certificate(CertificateId),
    /// It was this one, and is none any more.
    Spoilt {
        last: CertificateId,
        why: String,
    },
    /// Why it is none.
    Unusable(String),
}

/// A ConfigMap with certificates of authorities, read by whoever watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthoritiesFacts {
    Known(AuthoritiesId),
    /// Why there are none.
    Unusable(String),
}

/// A BackendTLSPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFacts {
    pub generation: i64,
    /// Seconds since 1970: of two policies with one target, the older one counts.
    pub created: i64,
    pub spec: BackendTlsPolicySpec,
}

pub type GrantFacts = ReferenceGrantSpec;

/// One object appeared, changed or (`None`) went away.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A GatewayClass of ours is there, or not any more.
    Class(String, bool),
    /// The labels of a namespace.
    Namespace(String, Option<BTreeMap<String, String>>),
    Gateway(ObjectKey, Option<GatewayFacts>),
    ListenerSet(ObjectKey, Option<ListenerSetFacts>),
    Route(ObjectKey, Option<RouteFacts>),
    /// An IngressClass of ours is there, or not any more.
    IngressClass(String, bool),
    Ingress(ObjectKey, Option<IngressFacts>),
    Grant(ObjectKey, Option<GrantFacts>),
    Policy(ObjectKey, Option<PolicyFacts>),
    /// Only those that [`crate::Compiler::needs`] names.
    Secret(ObjectKey, Option<SecretFacts>),
    /// A ConfigMap; only those that [`crate::Compiler::needs`] names.
    Authorities(ObjectKey, Option<AuthoritiesFacts>),
    Service(ObjectKey, Option<ServiceFacts>),
    /// Keyed by the name of the EndpointSlice.
    Slice(ObjectKey, Option<SliceFacts>),
    Pod(ObjectKey, Option<PodFacts>),
    Rollout(ObjectKey, Option<RolloutFacts>),
}

#[derive(Debug, Clone, Default)]
pub struct World {
    pub classes: BTreeSet<String>,
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    pub gateways: BTreeMap<ObjectKey, Arc<GatewayFacts>>,
    pub listener_sets: BTreeMap<ObjectKey, ListenerSetFacts>,
    pub routes: BTreeMap<ObjectKey, Arc<RouteFacts>>,
    pub ingress_classes: BTreeSet<String>,
    pub ingresses: BTreeMap<ObjectKey, Arc<IngressFacts>>,
    pub grants: BTreeMap<ObjectKey, GrantFacts>,
    pub policies: BTreeMap<ObjectKey, PolicyFacts>,
    pub secrets: BTreeMap<ObjectKey, SecretFacts>,
    pub authorities: BTreeMap<ObjectKey, AuthoritiesFacts>,
    pub services: BTreeMap<ObjectKey, ServiceFacts>,
    pub slices: BTreeMap<ObjectKey, SliceFacts>,
    pub pods: BTreeMap<ObjectKey, PodFacts>,
    pub rollouts: BTreeMap<ObjectKey, RolloutFacts>,
    /// Rollouts by the Deployment they target.
    targets: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    /// Policies by the Service they are for.
    secured: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
}

/// What a change made stale.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stale {
    /// Attachment, hosts and rules.
    pub(crate) routes: bool,
    /// Services whose endpoints or exposure changed.
    pub(crate) services: BTreeSet<ObjectKey>,
}

impl World {
    /// Those of a class of ours.
    pub(crate) fn our_gateways(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<GatewayFacts>)> {
        self.gateways.iter().filter(|(_, facts)| self.classes.contains(&facts.spec.gateway_class_name))
    }

    /// Those of a class of ours.
    pub(crate) fn our_ingresses(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<IngressFacts>)> {
        let class = |facts: &IngressFacts| {
            let named = facts.annotations.get(CLASS_ANNOTATION).map(String::as_str);
            facts.spec.class(named).is_some_and(|class| self.ingress_classes.contains(class))
        };
        self.ingresses.iter().filter(move |(_, facts)| class(facts))
    }

    /// Takes the change in and notes what it makes stale; nothing, when it says what was known already.
    pub(crate) fn apply(&mut self, change: Change, stale: &mut Stale) {
        match change {
            Change::Class(name, true) => stale.routes |= self.classes.insert(name),
            Change::Class(name, false) => stale.routes |= self.classes.remove(&name),
            Change::Namespace(name, labels) => stale.routes |= put(&mut self.namespaces, name, labels),
            Change::Gateway(key, facts) => stale.routes |= put(&mut self.gateways, key, facts.map(Arc::new)),
            Change::ListenerSet(key, facts) => stale.routes |= put(&mut self.listener_sets, key, facts),
            Change::Route(key, facts) => stale.routes |= put(&mut self.routes, key, facts.map(Arc::new)),
            Change::IngressClass(name, true) => stale.routes |= self.ingress_classes.insert(name),
            Change::IngressClass(name, false) => stale.routes |= self.ingress_classes.remove(&name),
            Change::Ingress(key, facts) => stale.routes |= put(&mut self.ingresses, key, facts.map(Arc::new)),
            Change::Grant(key, facts) => stale.routes |= put(&mut self.grants, key, facts),
            Change::Policy(key, facts) => self.apply_policy(&key, facts, stale),
            Change::Authorities(key, facts) => self.apply_authorities(&key, facts, stale),
            Change::Secret(key, facts) => stale.routes |= put(&mut self.secrets, key, facts),
            Change::Service(key, facts) => {
                if put(&mut self.services, key.clone(), facts) {
                    stale.routes = true;
                    stale.services.insert(key);
                }
            }
            Change::Slice(key, facts) => self.apply_slice(key, facts, stale),
            Change::Pod(key, facts) => {
                if put(&mut self.pods, key.clone(), facts) {
                    stale.services.extend(self.services_of_pod(&key));
                }
            }
            Change::Rollout(key, facts) => self.apply_rollout(key, facts, stale),
        }
    }

    fn apply_rollout(&mut self, key: ObjectKey, facts: Option<RolloutFacts>, stale: &mut Stale) {
        let before = self.rollouts.get(&key).cloned();
        if !put(&mut self.rollouts, key.clone(), facts.clone()) {
            return;
        }
        for rollout in [before.as_ref(), facts.as_ref()].into_iter().flatten() {
            stale.services.extend(self.services_of_rollout(&key.namespace, rollout));
        }
        let target = |facts: RolloutFacts| ObjectKey::new(key.namespace.as_str(), facts.target);
        if let Some(target) = before.map(target) {
            forget(&mut self.targets, &target, &key);
        }
        if let Some(target) = facts.map(target) {
            self.targets.entry(target).or_default().insert(key);
        }
    }

    fn apply_policy(&mut self, key: &ObjectKey, facts: Option<PolicyFacts>, stale: &mut Stale) {
        let services = |facts: Option<&PolicyFacts>| -> BTreeSet<ObjectKey> {
            let targets = facts.into_iter().flat_map(|facts| trust::targets(&facts.spec));
            targets.map(|target| ObjectKey::new(key.namespace.as_str(), target.name.as_str())).collect()
        };
        let (before, after) = (services(self.policies.get(key)), services(facts.as_ref()));
        if !put(&mut self.policies, key.clone(), facts) {
            return;
        }
        for service in before.difference(&after) {
            forget(&mut self.secured, service, key);
        }
        for service in &after {
            self.secured.entry(service.clone()).or_default().insert(key.clone());
        }
        stale.routes = true;
        stale.services.extend(before.into_iter().chain(after));
    }

    fn apply_authorities(&mut self, key: &ObjectKey, facts: Option<AuthoritiesFacts>, stale: &mut Stale) {
        if !put(&mut self.authorities, key.clone(), facts) {
            return;
        }
        stale.routes = true;
        let concerned = |policy: &&ObjectKey| {
            self.policies
                .get(*policy)
                .is_some_and(|facts| trust::config_maps(policy, &facts.spec).any(|map| map == *key))
        };
        let services = self.secured.iter().filter(|(_, policies)| policies.iter().any(|policy| concerned(&policy)));
        stale.services.extend(services.map(|(service, _)| service.clone()));
    }

    /// The policies that are for this Service or a port of it.
    pub(crate) fn policies_for(&self, service: &ObjectKey) -> impl Iterator<Item = (&ObjectKey, &PolicyFacts)> {
        let policies = self.secured.get(service).into_iter().flatten();
        policies.filter_map(|key| self.policies.get_key_value(key))
    }

    /// Services that list pods of this Rollout.
    fn services_of_rollout(&self, namespace: &str, rollout: &RolloutFacts) -> BTreeSet<ObjectKey> {
        let concerned = |slice: &SliceFacts| {
            let pods = slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref());
            let mut pods = pods.filter_map(|pod| self.pods.get(&ObjectKey::new(namespace, pod.name.as_str())));
            pods.any(|pod| rollout.takes(pod))
        };
        let slices = self.slices_in(namespace).filter(|slice| concerned(slice));
        slices.map(|slice| ObjectKey::new(namespace, slice.service.as_str())).collect()
    }

    /// The Rollout that this pod belongs to, if it says what is exposed.
    pub(crate) fn rollout_of(&self, namespace: &str, pod: &PodFacts) -> Option<(&ObjectKey, &Exposure)> {
        let target = ObjectKey::new(namespace, pod.deployment()?);
        self.targets.get(&target)?.iter().find_map(|key| {
            let (key, rollout) = self.rollouts.get_key_value(key)?;
            Some((key, rollout.exposure.as_ref()?))
        })
    }

    fn apply_slice(&mut self, key: ObjectKey, facts: Option<SliceFacts>, stale: &mut Stale) {
        let before = self.slices.get(&key).map(|slice| slice.service.clone());
        let after = facts.as_ref().map(|slice| slice.service.clone());
        let namespace = key.namespace.clone();
        if put(&mut self.slices, key, facts) {
            stale.services.extend(before.into_iter().chain(after).map(|name| ObjectKey::new(namespace.clone(), name)));
        }
    }

    fn services_of_pod<'a>(&'a self, pod: &'a ObjectKey) -> impl Iterator<Item = ObjectKey> + 'a {
        self.slices_in(&pod.namespace).filter_map(|slice| {
            let listed =
                slice.endpoints.iter().any(|endpoint| endpoint.pod.as_ref().is_some_and(|p| p.name == pod.name));
            listed.then(|| ObjectKey::new(pod.namespace.clone(), slice.service.clone()))
        })
    }

    pub(crate) fn slices_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a SliceFacts> + 'a {
        self.slices
            .range(ObjectKey::new(namespace, "")..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, slice)| slice)
    }
}

impl PodFacts {
    /// The Deployment that it is of: ReplicaSets of a Deployment are named after it and the hash.
    fn deployment(&self) -> Option<&str> {
        let owner = self.replica_set.as_deref().filter(|_| !self.hash.is_empty())?;
        owner.strip_suffix(self.hash.as_str())?.strip_suffix('-')
    }
}

impl RolloutFacts {
    fn takes(&self, pod: &PodFacts) -> bool {
        pod.deployment() == Some(self.target.as_str())
    }
}

fn forget(index: &mut BTreeMap<ObjectKey, BTreeSet<ObjectKey>>, at: &ObjectKey, key: &ObjectKey) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}

/// Inserts or removes; true when that changed anything.
fn put<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
    match value {
        None => map.remove(&key).is_some(),
        Some(value) if map.get(&key) == Some(&value) => false,
        Some(value) => {
            map.insert(key, value);
            true
        }
    }
}
