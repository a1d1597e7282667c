//! Statuses of GatewayClasses, Gateways, ListenerSets, HTTPRoutes, Ingresses and BackendTLSPolicies: wanted is compared with what stands there, and written when it differs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_model::condition::Condition;
use sluice_model::gateway::{
    GROUP, GatewayAddress, GatewayStatus, HttpRouteStatus, ListenerSetStatus, ListenerStatus, ParentRef,
    PolicyAncestorStatus, PolicyStatus, RouteGroupKind, RouteParentStatus,
};
use sluice_route::{
    Address, Complaint, Finding, GatewayReport, IngressReport, ListenerReport, ListenerSetReport, ObjectKey,
    PolicyReport, Report, RouteReport,
};
use tokio::sync::mpsc;

use super::events::{self, Events};
use super::object::{Resource, Whole};
use super::peers::Peers;
use crate::options::CONTROLLER_NAME;

/// Statuses written at a time.
const CONCURRENT_WRITES: usize = 8;
const MANAGER: &str = "sluice-gateway";
/// Ancestors in the status of a policy, those of other gateways included; the API has no room for more.
const MAX_ANCESTORS: usize = 16;
/// What of the Gateway API is served, in the API's words and in their order: nothing stands here before its tests of the
/// conformance suite pass.
const FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "ReferenceGrant",
];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Subject {
    resource: Resource,
    key: ObjectKey,
}

impl Subject {
    /// Objects whose status is ours to write.
    pub(crate) fn of(resource: Resource, key: &ObjectKey) -> Option<Self> {
        let ours = matches!(
            resource,
            Resource::GatewayClasses
                | Resource::Gateways
                | Resource::ListenerSets
                | Resource::HttpRoutes
                | Resource::Ingresses
                | Resource::BackendTlsPolicies
        );
        ours.then(|| Self { resource, key: key.clone() })
    }
}

/// What the API has.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    revision: String,
    generation: i64,
    status: Value,
    /// As events refer to it.
    reference: ObjectReference,
    /// Something in the status is from us.
    is_signed: bool,
}

impl Observed {
    pub(crate) fn of(resource: Resource, object: &Whole) -> Self {
        let managers = object.metadata.managed_fields.iter().flatten();
        let signed = |entry: &ManagedFieldsEntry| {
            entry.manager.as_deref() == Some(MANAGER) && entry.subresource.as_deref() == Some("status")
        };
        Self {
            revision: object.metadata.resource_version.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            status: object.status.clone(),
            reference: events::reference(object, resource),
            is_signed: managers.into_iter().any(signed),
        }
    }
}

struct Write {
    subject: Subject,
    patch: Value,
}

pub(crate) struct Statuses {
    /// Where Gateways without an address of their own are reached.
    addresses: BTreeSet<IpAddr>,
    /// Another gateway writes otherwise.
    writes_here: bool,
    observed: HashMap<Subject, Observed>,
    /// Subjects that changed since the last report: all others stand as they were found.
    touched: Vec<Subject>,
    last: Option<Arc<Report>>,
    classes: BTreeMap<String, bool>,
    events: Events,
    /// What events have said of each object.
    said: HashMap<Subject, Vec<Complaint>>,
    writes: mpsc::UnboundedSender<Write>,
}

impl Statuses {
    /// With the task that writes.
    pub(crate) fn new(client: Client, events: Events) -> (Self, impl Future<Output = ()>) {
        // Bounded by the objects there are: each is written again only after it was seen to change.
        let (writes, pending) = mpsc::unbounded_channel();
        let statuses = Self {
            addresses: BTreeSet::new(),
            writes_here: false,
            observed: HashMap::new(),
            touched: Vec::new(),
            last: None,
            classes: BTreeMap::new(),
            events,
            said: HashMap::new(),
            writes,
        };
        (statuses, write_all(client, pending))
    }

    pub(crate) fn observe(&mut self, subject: Subject, observed: Option<Observed>) {
        match observed {
            Some(observed) => {
                self.observed.insert(subject.clone(), observed);
                self.touched.push(subject);
            }
            None => {
                self.observed.remove(&subject);
                self.said.remove(&subject);
            }
        }
    }

    pub(crate) fn class(&mut self, name: &str, ours: bool) {
        self.classes.insert(name.to_owned(), ours);
    }

    /// Whoever comes to lead, or hears of another address, looks at everything again.
    pub(crate) fn follow(&mut self, Peers { leads, addresses }: Peers) {
        self.writes_here = leads;
        self.addresses = addresses;
        self.last = None;
    }

    /// Writes what differs from this report: of everything when it is a new one, else of what was touched since.
    pub(crate) fn report(&mut self, report: &Arc<Report>) {
        let known = self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, report));
        let touched = std::mem::take(&mut self.touched);
        if !self.writes_here {
            return;
        }
        if known {
            touched.iter().for_each(|subject| self.compare(subject, report));
        } else {
            self.last = Some(report.clone());
            let all: Vec<Subject> = self.observed.keys().cloned().collect();
            all.iter().for_each(|subject| self.compare(subject, report));
        }
    }

    fn compare(&mut self, subject: &Subject, report: &Report) {
        self.say(subject, report);
        let Some(observed) = self.observed.get(subject) else { return };
        let now = Timestamp::now();
        let wanted = match subject.resource {
            Resource::GatewayClasses => match self.classes.get(&subject.key.name) {
                Some(true) => Some(class_status(observed, now)),
                _ => None,
            },
            Resource::Gateways => {
                report.gateways.get(&subject.key).map(|report| self.gateway_status(report, &observed.status, now))
            }
            Resource::ListenerSets => {
                report.listener_sets.get(&subject.key).map(|report| set_status(report, &observed.status, now))
            }
            Resource::Ingresses => self.ingress_status(report.ingresses.get(&subject.key), observed),
            Resource::BackendTlsPolicies => policy_status(report.policies.get(&subject.key), &observed.status, now),
            _ => route_status(report.routes.get(&subject.key), &observed.status, now),
        };
        let Some(wanted) = wanted.filter(|wanted| differs(wanted, &observed.status)) else { return };
        // With the revision that was compared: whoever writes in between makes us look again.
        let patch = json!({"metadata": {"resourceVersion": observed.revision}, "status": wanted});
        // The writer ends only with us.
        let _ = self.writes.send(Write { subject: subject.clone(), patch });
    }

    /// Warns of what was not said before.
    fn say(&mut self, subject: &Subject, report: &Report) {
        if subject.resource != Resource::Ingresses {
            return;
        }
        let (Some(observed), Some(found)) = (self.observed.get(subject), report.ingresses.get(&subject.key)) else {
            return;
        };
        let said = self.said.entry(subject.clone()).or_default();
        let news = found.complaints.iter().filter(|complaint| !said.contains(complaint));
        news.for_each(|complaint| self.events.warn(&observed.reference, complaint));
        said.clone_from(&found.complaints);
    }

    /// Where it is served; what we have said of one that is none of ours any more is taken back.
    fn ingress_status(&self, report: Option<&IngressReport>, observed: &Observed) -> Option<Value> {
        if report.is_some() {
            let told: Vec<Value> = self.addresses.iter().map(|address| json!({"ip": address.to_string()})).collect();
            return Some(json!({"loadBalancer": {"ingress": told}}));
        }
        let is_said = observed.status.pointer("/loadBalancer/ingress").is_some();
        (observed.is_signed && is_said).then(|| json!({"loadBalancer": {"ingress": null}}))
    }

    fn gateway_status(&self, report: &GatewayReport, observed: &Value, now: Timestamp) -> Value {
        let old = GatewayStatus::deserialize(observed).unwrap_or_default();
        let addresses = match report.address {
            Address::Own(address) => vec![address],
            Address::Shared => self.addresses.iter().copied().collect(),
            Address::Nowhere => Vec::new(),
        };
        let told = |address: IpAddr| GatewayAddress { kind: "IPAddress".to_owned(), value: address.to_string() };
        let status = GatewayStatus {
            addresses: addresses.into_iter().map(told).collect(),
            conditions: settled(&report.findings, &old.conditions, report.generation, now),
            listeners: listener_statuses(&report.listeners, &old.listeners, report.generation, now),
            attached_listener_sets: report.listener_sets,
        };
        json!(status)
    }
}

fn set_status(report: &ListenerSetReport, observed: &Value, now: Timestamp) -> Value {
    let old = ListenerSetStatus::deserialize(observed).unwrap_or_default();
    json!(ListenerSetStatus {
        conditions: settled(&report.findings, &old.conditions, report.generation, now),
        listeners: listener_statuses(&report.listeners, &old.listeners, report.generation, now),
    })
}

fn listener_statuses(
    reports: &[ListenerReport],
    old: &[ListenerStatus],
    generation: i64,
    now: Timestamp,
) -> Vec<ListenerStatus> {
    let status = |listener: &ListenerReport| {
        let before = old.iter().find(|status| status.name == listener.name);
        let conditions = before.map_or(&[][..], |status| &status.conditions);
        let kind = RouteGroupKind { group: Some(GROUP.to_owned()), kind: "HTTPRoute".to_owned() };
        ListenerStatus {
            name: listener.name.clone(),
            supported_kinds: if listener.takes_http_routes { vec![kind] } else { Vec::new() },
            attached_routes: listener.attached_routes,
            conditions: settled(&listener.findings, conditions, generation, now),
        }
    };
    reports.iter().map(status).collect()
}

fn class_status(observed: &Observed, now: Timestamp) -> Value {
    let old: Vec<Condition> = Vec::deserialize(&observed.status["conditions"]).unwrap_or_default();
    let accepted = Finding {
        kind: "Accepted",
        holds: true,
        reason: "Accepted",
        message: "this gateway serves Gateways of this class".to_owned(),
    };
    let features: Vec<Value> = FEATURES.iter().map(|name| json!({"name": name})).collect();
    json!({"conditions": settled(&[accepted], &old, observed.generation, now), "supportedFeatures": features})
}

/// Our parents, beside those that other gateways report about. `None` when there is nothing to say and nothing to take back.
fn route_status(report: Option<&RouteReport>, observed: &Value, now: Timestamp) -> Option<Value> {
    let old = HttpRouteStatus::deserialize(observed).unwrap_or_default();
    let (mine, mut parents): (Vec<_>, Vec<_>) =
        old.parents.into_iter().partition(|parent| parent.controller_name == CONTROLLER_NAME);
    if report.is_none() && mine.is_empty() {
        return None;
    }
    for parent in report.map_or(&[][..], |report| &report.parents) {
        let before = mine.iter().find(|status| status.parent_ref == parent.parent);
        let conditions = before.map_or(&[][..], |status| &status.conditions);
        let generation = report.map_or(0, |report| report.generation);
        parents.push(RouteParentStatus {
            parent_ref: parent.parent.clone(),
            controller_name: CONTROLLER_NAME.to_owned(),
            conditions: settled(&parent.findings, conditions, generation, now),
        });
    }
    Some(json!(HttpRouteStatus { parents }))
}

/// Our ancestors, beside those that other gateways report about. `None` as above.
fn policy_status(report: Option<&PolicyReport>, observed: &Value, now: Timestamp) -> Option<Value> {
    let old = PolicyStatus::deserialize(observed).unwrap_or_default();
    let (mine, mut ancestors): (Vec<_>, Vec<_>) =
        old.ancestors.into_iter().partition(|ancestor| ancestor.controller_name == CONTROLLER_NAME);
    if report.is_none() && mine.is_empty() {
        return None;
    }
    let room = MAX_ANCESTORS.saturating_sub(ancestors.len());
    let told = report.iter().flat_map(|report| report.ancestors.iter().map(move |key| (key, report)));
    for (gateway, report) in told.take(room) {
        let ancestor_ref = gateway_ref(gateway);
        let before = mine.iter().find(|status| status.ancestor_ref == ancestor_ref);
        let conditions = before.map_or(&[][..], |status| &status.conditions);
        let conditions = settled(&report.findings, conditions, report.generation, now);
        let controller_name = CONTROLLER_NAME.to_owned();
        ancestors.push(PolicyAncestorStatus { ancestor_ref, controller_name, conditions });
    }
    Some(json!(PolicyStatus { ancestors }))
}

fn gateway_ref(gateway: &ObjectKey) -> ParentRef {
    ParentRef {
        group: Some(GROUP.to_owned()),
        kind: Some("Gateway".to_owned()),
        namespace: Some(gateway.namespace.clone()),
        name: gateway.name.clone(),
        ..ParentRef::default()
    }
}

/// Conditions with their times: a condition keeps the time of its last change of status.
fn settled(findings: &[Finding], before: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = |finding: &Finding| {
        let status = if finding.holds { "True" } else { "False" };
        let same = before.iter().find(|old| old.kind == finding.kind && old.status == status);
        Condition {
            kind: finding.kind.to_owned(),
            status: status.to_owned(),
            observed_generation: Some(generation),
            last_transition_time: same.map_or(now, |old| old.last_transition_time),
            reason: finding.reason.to_owned(),
            message: finding.message.clone(),
        }
    };
    findings.iter().map(condition).collect()
}

/// Whether writing `wanted` over `observed` would change anything.
fn differs(wanted: &Value, observed: &Value) -> bool {
    let members = wanted.as_object().into_iter().flatten();
    members.into_iter().any(|(name, value)| observed.get(name) != Some(value))
}

async fn write_all(client: Client, pending: mpsc::UnboundedReceiver<Write>) {
    let writes = futures::stream::unfold(pending, |mut pending| async move { Some((pending.recv().await?, pending)) });
    writes
        .for_each_concurrent(CONCURRENT_WRITES, |Write { subject, patch }| {
            let client = client.clone();
            async move {
                let Subject { resource, key } = subject;
                let api: Api<Whole> = match key.namespace.as_str() {
                    "" => Api::all_with(client, &resource),
                    namespace => Api::namespaced_with(client, namespace, &resource),
                };
                let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
                match api.patch_status(&key.name, &parameters, &Patch::Merge(&patch)).await {
                    Ok(_) => {}
                    // Changed or gone meanwhile: the watch tells, and the next comparison writes.
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                    Err(error) => {
                        tracing::warn!(resource = resource.plural(), object = %key, %error, "Status not written");
                    }
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: &'static str, holds: bool) -> Finding {
        Finding { kind, holds, reason: "Because", message: String::new() }
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let first = settled(&[finding("A", true), finding("B", true)], &[], 1, at(100));
        let second = settled(&[finding("A", true), finding("B", false)], &first, 2, at(200));
        let times: Vec<i64> = second.iter().map(|condition| condition.last_transition_time.as_second()).collect();
        assert_eq!(times, [100, 200]);
        assert_eq!(second[0].observed_generation, Some(2));
    }

    #[test]
    fn features_are_told_in_order() {
        assert!(FEATURES.is_sorted());
        let class: Whole = serde_json::from_value(json!({"metadata": {"generation": 3}})).expect("a class");
        let status = class_status(&Observed::of(Resource::GatewayClasses, &class), Timestamp::UNIX_EPOCH);
        assert_eq!(status["supportedFeatures"][0], json!({"name": FEATURES[0]}));
        assert_eq!(status["conditions"][0]["observedGeneration"], 3);
    }

    #[test]
    fn ancestors_of_other_controllers_stay_and_ours_have_what_room_is_left() {
        let ancestor = |name: &str, controller: &str| json!({"ancestorRef": {"name": name}, "controllerName": controller, "conditions": []});
        let now = Timestamp::UNIX_EPOCH;
        let theirs: Vec<Value> = (0..14).map(|number| ancestor(&format!("g{number}"), "other")).collect();
        let mut observed = theirs.clone();
        observed.push(ancestor("mine", CONTROLLER_NAME));
        let gone = policy_status(None, &json!({"ancestors": observed}), now);
        assert_eq!(gone, Some(json!({"ancestors": theirs})));
        assert_eq!(policy_status(None, &json!({"ancestors": theirs}), now), None);
        let ancestors = (0..3).map(|number| ObjectKey::new("a", format!("m{number}"))).collect();
        let report = PolicyReport { generation: 1, ancestors, findings: vec![finding("Accepted", true)] };
        let told = policy_status(Some(&report), &json!({"ancestors": observed}), now).expect("something to say");
        let names: Vec<&str> = told["ancestors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one["ancestorRef"]["name"].as_str())
            .collect();
        assert_eq!((names.len(), &names[14..]), (MAX_ANCESTORS, &["m0", "m1"][..]));
    }

    #[test]
    fn parents_of_other_controllers_stay() {
        let theirs = json!({"parentRef": {"name": "g"}, "controllerName": "other", "conditions": []});
        let mine = json!({"parentRef": {"name": "g"}, "controllerName": CONTROLLER_NAME, "conditions": []});
        let now = Timestamp::UNIX_EPOCH;
        let found = route_status(None, &json!({"parents": [theirs, mine]}), now);
        assert_eq!(found, Some(json!({"parents": [theirs]})));
        assert_eq!(route_status(None, &json!({"parents": [theirs]}), now), None);
    }
}
