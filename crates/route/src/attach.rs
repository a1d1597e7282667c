//! Which routes hang on which listeners, under which host names, and what is to be said about it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use sluice_model::gateway::{GROUP, LabelSelector, Listener, ParentRef};

use crate::facts::{Entrance, GatewayFacts, ObjectKey, RouteFacts, World};
use crate::host::Host;
use crate::report::{Finding, GatewayReport, ListenerReport, ParentReport, reason};
use crate::tls::{CertificateId, HTTPS, TlsListeners, certificates, unsupported};

/// Protocols of listeners that HTTPRoutes may attach to.
const PROTOCOLS: [&str; 2] = ["HTTP", HTTPS];

/// All listeners of Gateways of our classes.
pub(crate) struct Listeners<'w> {
    gateways: BTreeMap<&'w ObjectKey, Vec<Door<'w>>>,
    by_age: Vec<&'w ObjectKey>,
}

/// One listener, and whether it can be served.
struct Door<'w> {
    listener: &'w Listener,
    host: Host,
    entrance: Entrance,
    problem: Option<Problem>,
    /// Empty without TLS. The `Err` is its `ResolvedRefs`.
    certificates: Result<Arc<[CertificateId]>, Finding>,
    /// The socket could not be opened.
    closed: Option<&'w String>,
    takes_http_routes: bool,
    bad_kinds: bool,
    attached: BTreeSet<ObjectKey>,
}

struct Problem {
    reason: &'static str,
    message: String,
    conflict: bool,
}

/// A parent of a route, and whether it took it.
pub(crate) struct Parent {
    pub(crate) reference: ParentRef,
    pub(crate) gateway: ObjectKey,
    pub(crate) outcome: Result<(), Finding>,
}

/// A route is reachable at this entrance under this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) entrance: Entrance,
    pub(crate) host: Host,
    /// Hosts that belong to narrower listeners of the same Gateway.
    pub(crate) isolated: Arc<[Host]>,
}

impl<'w> Listeners<'w> {
    /// `entrance_of` maps a listener's port to its socket, `closed` says which sockets could not be opened and why.
    pub(crate) fn gather(
        world: &'w World,
        entrance_of: impl Fn(&ObjectKey, u16) -> Entrance,
        closed: &'w BTreeMap<Entrance, String>,
    ) -> Self {
        let mut gateways: BTreeMap<_, _> = world
            .our_gateways()
            .map(|(key, facts)| (key, doors(world, key, facts, &|port| entrance_of(key, port), closed)))
            .collect();
        let mut by_age: Vec<&ObjectKey> = gateways.keys().copied().collect();
        by_age.sort_by_key(|key| world.gateways[*key].created);
        let mut spoken = BTreeMap::new();
        for key in &by_age {
            let doors = gateways.get_mut(key).into_iter().flatten();
            doors.for_each(|door| door.agree(key, &mut spoken));
        }
        Self { gateways, by_age }
    }

    /// The certificates behind each entrance that speaks TLS. Of listeners of several Gateways with one host the oldest counts.
    pub(crate) fn tls(&self) -> BTreeMap<Entrance, TlsListeners> {
        let mut entrances: BTreeMap<Entrance, TlsListeners> = BTreeMap::new();
        let doors = self.by_age.iter().flat_map(|key| &self.gateways[key]);
        for door in doors.filter(|door| door.is_served() && door.listener.protocol == HTTPS) {
            let Ok(certificates) = &door.certificates else { continue };
            let listeners = entrances.entry(door.entrance).or_default();
            if listeners.get(&door.host).is_none() {
                listeners.insert(door.host.clone(), certificates.clone());
            }
        }
        entrances
    }

    /// Every socket that some valid listener wants.
    pub(crate) fn entrances(&self) -> BTreeSet<Entrance> {
        let doors = self.gateways.values().flatten();
        doors.filter(|door| door.is_served()).map(|door| door.entrance).collect()
    }

    /// Hangs the route on its parents. Only parents of ours are reported about.
    pub(crate) fn attach(
        &mut self,
        world: &World,
        key: &ObjectKey,
        route: &RouteFacts,
    ) -> (Vec<Attachment>, Vec<Parent>) {
        let hosts: Vec<Host> = match route.spec.hostnames.as_slice() {
            [] => vec![Host::Any],
            names => names.iter().map(|name| Host::parse(Some(name))).collect(),
        };
        let mut attachments = Vec::new();
        let mut parents = Vec::new();
        for parent in &route.spec.parent_refs {
            let Some(gateway) = gateway_of(parent, key) else { continue };
            let Some(doors) = self.gateways.get_mut(&gateway) else { continue };
            let outcome = attach_to(world, key, &hosts, parent, &gateway, doors, &mut attachments);
            parents.push(Parent { reference: parent.clone(), gateway, outcome });
        }
        (attachments, parents)
    }

    pub(crate) fn reports(self) -> BTreeMap<ObjectKey, Vec<ListenerReport>> {
        let reports =
            |doors: &[Door<'_>]| (0..doors.len()).map(|at| doors[at].report(overlapping(doors, at))).collect();
        self.gateways.into_iter().map(|(key, doors)| (key.clone(), reports(&doors))).collect()
    }
}

fn gateway_of(parent: &ParentRef, route: &ObjectKey) -> Option<ObjectKey> {
    let group = parent.group.as_deref().unwrap_or(GROUP);
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    (group == GROUP && kind == "Gateway")
        .then(|| ObjectKey::new(parent.namespace.as_deref().unwrap_or(&route.namespace), parent.name.as_str()))
}

fn attach_to(
    world: &World,
    route: &ObjectKey,
    hosts: &[Host],
    parent: &ParentRef,
    gateway: &ObjectKey,
    doors: &mut [Door<'_>],
    attachments: &mut Vec<Attachment>,
) -> Result<(), Finding> {
    let refuse = |reason, message: String| Err(Finding::no(reason::ACCEPTED, reason, message));
    let named = |door: &Door<'_>| {
        parent.section_name.as_ref().is_none_or(|name| *name == door.listener.name)
            && parent.port.is_none_or(|port| port == door.listener.port)
    };
    let chosen: Vec<usize> = (0..doors.len()).filter(|&at| named(&doors[at])).collect();
    if chosen.is_empty() {
        return refuse(reason::NO_MATCHING_PARENT, format!("Gateway `{gateway}` has no such listener"));
    }
    let allowed = |at: &usize| {
        let door = &doors[*at];
        door.problem.is_none() && door.takes_http_routes && allows(door.listener, &gateway.namespace, route, world)
    };
    let chosen: Vec<usize> = chosen.into_iter().filter(|at| allowed(at)).collect();
    if chosen.is_empty() {
        return refuse(
            reason::NOT_ALLOWED,
            format!("no listener of Gateway `{gateway}` takes routes of this namespace and kind"),
        );
    }
    let mut attached = false;
    for at in chosen {
        let isolated = narrower_siblings(doors, at);
        let shared: Vec<Host> = hosts.iter().filter_map(|host| host.intersection(&doors[at].host)).collect();
        if shared.is_empty() {
            continue;
        }
        attached = true;
        doors[at].attached.insert(route.clone());
        if !doors[at].is_served() {
            continue;
        }
        let entrance = doors[at].entrance;
        attachments.extend(shared.into_iter().map(|host| Attachment { entrance, host, isolated: isolated.clone() }));
    }
    if !attached {
        return refuse(reason::NO_MATCHING_HOSTNAME, "no hostname is also one of the listener's".to_owned());
    }
    Ok(())
}

/// Of listeners on one socket the narrowest takes a host for itself.
fn narrower_siblings(doors: &[Door<'_>], at: usize) -> Arc<[Host]> {
    let mine = &doors[at];
    let siblings = doors
        .iter()
        .filter(|other| other.is_served() && other.entrance == mine.entrance && other.host.narrower_than(&mine.host));
    siblings.filter(|other| other.host.intersection(&mine.host).is_some()).map(|other| other.host.clone()).collect()
}

/// Another TLS listener on the socket with hosts in common: a client's connection for one may come to carry requests for the other.
fn overlapping<'d>(doors: &'d [Door<'_>], at: usize) -> Option<&'d Listener> {
    let mine = &doors[at];
    let shares = |other: &Door<'_>| {
        other.problem.is_none() && other.entrance == mine.entrance && other.host.intersection(&mine.host).is_some()
    };
    let secure = mine.listener.protocol == HTTPS && mine.problem.is_none();
    let mut others = doors.iter().enumerate().filter(|(other, door)| secure && *other != at && shares(door));
    others.next().map(|(_, door)| door.listener)
}

fn allows(listener: &Listener, gateway_namespace: &str, route: &ObjectKey, world: &World) -> bool {
    let namespaces = listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    match namespaces.and_then(|namespaces| namespaces.from.as_deref()).unwrap_or("Same") {
        "All" => true,
        "Same" => route.namespace == gateway_namespace,
        "Selector" => {
            let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
            let labels = world.namespaces.get(&route.namespace);
            selector.zip(labels).is_some_and(|(selector, labels)| selects(selector, labels))
        }
        _ => false,
    }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let LabelSelector { match_labels, match_expressions } = selector;
    match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && match_expressions.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(|value| requirement.values.contains(value)),
                "NotIn" => value.is_none_or(|value| !requirement.values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

fn doors<'w>(
    world: &World,
    gateway: &ObjectKey,
    facts: &'w GatewayFacts,
    entrance_of: &impl Fn(u16) -> Entrance,
    closed: &'w BTreeMap<Entrance, String>,
) -> Vec<Door<'w>> {
    let mut doors: Vec<Door<'w>> = Vec::new();
    for listener in &facts.spec.listeners {
        let entrance = entrance_of(listener.port);
        let host = Host::parse(listener.hostname.as_deref());
        let problem = problem_of(listener, &host, &doors);
        let (takes_http_routes, bad_kinds) = kinds_of(listener);
        let closed = closed.get(&entrance);
        doors.push(Door {
            listener,
            host,
            entrance,
            problem,
            certificates: certificates(world, gateway, listener),
            closed,
            takes_http_routes,
            bad_kinds,
            attached: BTreeSet::new(),
        });
    }
    doors
}

fn problem_of(listener: &Listener, host: &Host, earlier: &[Door<'_>]) -> Option<Problem> {
    let problem = |reason, message, conflict| Some(Problem { reason, message, conflict });
    let mut same_port = earlier.iter().filter(|door| door.listener.port == listener.port);
    if same_port.clone().any(|door| door.listener.protocol != listener.protocol) {
        let message = format!("port {} is used with another protocol by an earlier listener", listener.port);
        return problem(reason::PROTOCOL_CONFLICT, message, true);
    }
    if same_port.any(|door| door.host == *host) {
        let message = format!("an earlier listener has port {} and host `{host}`", listener.port);
        return problem(reason::HOSTNAME_CONFLICT, message, true);
    }
    if !PROTOCOLS.contains(&listener.protocol.as_str()) {
        let message = format!("protocol `{}` is not served by this gateway, HTTP and HTTPS are", listener.protocol);
        return problem(reason::UNSUPPORTED_PROTOCOL, message, false);
    }
    unsupported(listener).and_then(|message| problem(reason::UNSUPPORTED_VALUE, message, false))
}

/// Whether HTTPRoutes may attach, and whether the listener names kinds that nobody serves.
fn kinds_of(listener: &Listener) -> (bool, bool) {
    if !PROTOCOLS.contains(&listener.protocol.as_str()) {
        return (false, false);
    }
    let kinds = listener.allowed_routes.as_ref().map_or(&[][..], |allowed| &allowed.kinds);
    let http = |kind: &sluice_model::gateway::RouteGroupKind| {
        kind.kind == "HTTPRoute" && kind.group.as_deref().unwrap_or(GROUP) == GROUP
    };
    (kinds.is_empty() || kinds.iter().any(http), !kinds.iter().all(http))
}

impl<'w> Door<'w> {
    fn is_served(&self) -> bool {
        self.problem.is_none() && self.certificates.is_ok()
    }

    /// One entrance speaks one protocol: that of the first to want it.
    fn agree(&mut self, gateway: &'w ObjectKey, spoken: &mut BTreeMap<Entrance, (&'w str, &'w ObjectKey)>) {
        if self.problem.is_some() {
            return;
        }
        let listener = self.listener;
        let (protocol, owner) = spoken.entry(self.entrance).or_insert((&listener.protocol, gateway));
        if *protocol != listener.protocol {
            let message = format!("port {} is used with protocol {protocol} by Gateway `{owner}`", listener.port);
            self.problem = Some(Problem { reason: reason::PORT_UNAVAILABLE, message, conflict: false });
        }
    }

    fn report(&self, overlapping: Option<&Listener>) -> ListenerReport {
        let mut findings = Vec::new();
        match &self.problem {
            None => findings.push(Finding::yes(reason::ACCEPTED, reason::ACCEPTED, "the listener is valid")),
            Some(Problem { reason, message, .. }) => {
                findings.push(Finding::no(reason::ACCEPTED, reason, message.clone()));
            }
        }
        findings.push(match (&self.problem, self.closed) {
            (Some(_), _) => Finding::no(reason::PROGRAMMED, reason::INVALID, "the listener is not valid"),
            (None, _) if self.certificates.is_err() => {
                Finding::no(reason::PROGRAMMED, reason::INVALID, "the listener has no usable certificate")
            }
            (None, Some(why)) => Finding::no(reason::PROGRAMMED, reason::PORT_UNAVAILABLE, why.clone()),
            (None, None) => Finding::yes(reason::PROGRAMMED, reason::PROGRAMMED, "the listener is served"),
        });
        findings.push(match &self.certificates {
            Err(unresolved) => unresolved.clone(),
            Ok(_) if self.bad_kinds => {
                Finding::no(reason::RESOLVED_REFS, reason::INVALID_ROUTE_KINDS, "only kind HTTPRoute is supported")
            }
            Ok(_) => Finding::yes(reason::RESOLVED_REFS, reason::RESOLVED_REFS, "all references are resolved"),
        });
        findings.push(match self.problem.as_ref().filter(|problem| problem.conflict) {
            Some(problem) => Finding::yes(reason::CONFLICTED, problem.reason, problem.message.clone()),
            None => Finding::no(reason::CONFLICTED, reason::NO_CONFLICTS, "no other listener is in its way"),
        });
        // Never said to be false: the Gateway API wants it so.
        findings.extend(overlapping.map(|other| {
            let message = format!("listener `{}` has hosts in common with it", other.name);
            Finding::yes(reason::OVERLAPPING_TLS, reason::OVERLAPPING_HOSTNAMES, message)
        }));
        ListenerReport {
            name: self.listener.name.clone(),
            attached_routes: i32::try_from(self.attached.len()).unwrap_or(i32::MAX),
            takes_http_routes: self.takes_http_routes,
            findings,
        }
    }
}

/// The Gateway's own conditions follow from those of its listeners.
pub(crate) fn gateway_report(
    facts: &GatewayFacts,
    address: Option<IpAddr>,
    listeners: Vec<ListenerReport>,
) -> GatewayReport {
    let holding = |kind: &str| {
        let holds =
            |listener: &&ListenerReport| listener.findings.iter().any(|found| found.kind == kind && found.holds);
        listeners.iter().filter(holds).count()
    };
    let (accepted, programmed, all) = (holding(reason::ACCEPTED), holding(reason::PROGRAMMED), listeners.len());
    let accepted = if accepted == all && all > 0 {
        Finding::yes(reason::ACCEPTED, reason::ACCEPTED, "every listener is valid")
    } else {
        let message = format!("{accepted} of {all} listeners are valid");
        Finding { kind: reason::ACCEPTED, holds: accepted > 0, reason: reason::LISTENERS_NOT_VALID, message }
    };
    let programmed = if programmed > 0 {
        Finding::yes(reason::PROGRAMMED, reason::PROGRAMMED, format!("{programmed} of {all} listeners are served"))
    } else {
        Finding::no(reason::PROGRAMMED, reason::INVALID, "no listener is served")
    };
    GatewayReport { generation: facts.generation, address, findings: vec![accepted, programmed], listeners }
}

/// What is said to one parent about a route that it took or refused.
pub(crate) fn parent_report(
    parent: ParentRef,
    outcome: Result<(), Finding>,
    refs: &Finding,
    rules: usize,
    unusable: &[String],
) -> ParentReport {
    let mut findings = Vec::with_capacity(3);
    let broken = unusable.join("; ");
    match outcome {
        Err(refused) => findings.push(refused),
        Ok(()) if !unusable.is_empty() && unusable.len() >= rules => {
            findings.push(Finding::no(reason::ACCEPTED, reason::UNSUPPORTED_VALUE, broken));
        }
        Ok(()) => {
            findings.push(Finding::yes(reason::ACCEPTED, reason::ACCEPTED, "the route is attached"));
            if !unusable.is_empty() {
                findings.push(Finding::yes(reason::PARTIALLY_INVALID, reason::UNSUPPORTED_VALUE, broken));
            }
        }
    }
    findings.push(refs.clone());
    ParentReport { parent, findings }
}
