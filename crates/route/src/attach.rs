//! Which routes hang on which listeners, under which host names, and what is to be said about it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use sluice_model::gateway::{GROUP, Listener, ParentRef, RouteNamespaces};

use crate::address::Addresses;
use crate::clients::{Wanted, own_certificate, wanted};
use crate::conditions::{gateway_report, is_acceptable, orphaned_set_report, refusal, refused_set_report, set_report};
use crate::door::{Door, Owner, overlapping, settle};
use crate::facts::{Entrance, ObjectKey, RouteFacts, World};
use crate::host::Host;
use crate::namespaces::admits;
use crate::report::{Finding, GatewayReport, ListenerReport, ListenerSetReport, reason};
use crate::sets::{Membership, memberships};
use crate::tls::{CertificateId, HTTPS, ListenerTls, TlsListeners, certificates};

/// All listeners of Gateways of our classes, with those of their ListenerSets.
pub(crate) struct Listeners<'w> {
    /// In order of precedence, those of each owner together.
    gateways: BTreeMap<&'w ObjectKey, Vec<Door<'w>>>,
    by_age: Vec<&'w ObjectKey>,
    sets: BTreeMap<&'w ObjectKey, Membership<'w>>,
    /// Certificates of Gateways for backends.
    shown: BTreeMap<&'w ObjectKey, CertificateId>,
}

/// What is to be said of Gateways and ListenerSets.
pub(crate) struct OwnerReports {
    pub(crate) gateways: BTreeMap<ObjectKey, GatewayReport>,
    pub(crate) sets: BTreeMap<ObjectKey, ListenerSetReport>,
}

/// The owner of a listener, as a route names it.
struct OwnerName {
    kind: &'static str,
    key: ObjectKey,
}

impl fmt::Display for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.key)
    }
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
    /// What the Gateway shows to backends that ask for it.
    pub(crate) shown: Option<CertificateId>,
}

impl<'w> Listeners<'w> {
    /// `entrance_of` maps a listener's port to its socket, if its Gateway has an address; `closed` says which sockets could not be opened and why.
    pub(crate) fn gather(
        world: &'w World,
        entrance_of: impl Fn(&ObjectKey, u16) -> Option<Entrance>,
        closed: &'w BTreeMap<Entrance, String>,
    ) -> Self {
        let sets = memberships(world);
        let mut gateways = BTreeMap::new();
        for (key, facts) in world.our_gateways() {
            let own = (Owner { kind: "Gateway", key }, &facts.spec.listeners);
            let admitted = sets.iter().filter(|set| set.is_admitted && set.gateway == key);
            let theirs = admitted.map(|set| (Owner { kind: "ListenerSet", key: set.key }, &set.facts.spec.listeners));
            let open = |(owner, listener): (Owner<'w>, &'w Listener)| {
                let certificates = certificates(world, owner, listener);
                let is_secure = listener.protocol == HTTPS;
                let clients = if is_secure { wanted(world, key, facts, listener.port) } else { Wanted::default() };
                let entrance = entrance_of(key, listener.port).filter(|_| refusal(&facts.spec).is_none());
                Door::new(owner, listener, entrance, certificates, clients, closed)
            };
            let all = std::iter::once(own).chain(theirs);
            let all = all.flat_map(|(owner, listeners)| listeners.iter().map(move |listener| (owner, listener)));
            let mut doors: Vec<Door<'w>> = all.map(open).collect();
            settle(&mut doors);
            gateways.insert(key, doors);
        }
        let mut by_age: Vec<&ObjectKey> = gateways.keys().copied().collect();
        by_age.sort_by_key(|key| world.gateways[*key].created);
        let mut spoken = BTreeMap::new();
        for key in &by_age {
            let doors = gateways.get_mut(key).into_iter().flatten();
            doors.for_each(|door| door.agree(key, &mut spoken));
        }
        let sets = sets.into_iter().map(|set| (set.key, set)).collect();
        let shown = world.our_gateways().filter_map(|(key, facts)| {
            let certificate = own_certificate(world, key, facts)?.ok()?;
            Some((key, certificate.id))
        });
        Self { gateways, by_age, sets, shown: shown.collect() }
    }

    /// The certificates behind each entrance that speaks TLS. Of listeners of several Gateways with one host the oldest counts.
    pub(crate) fn tls(&self) -> BTreeMap<Entrance, TlsListeners> {
        let mut entrances: BTreeMap<Entrance, TlsListeners> = BTreeMap::new();
        let doors = self.by_age.iter().flat_map(|key| &self.gateways[key]);
        for door in doors.filter(|door| door.is_served() && door.listener.protocol == HTTPS) {
            let Ok(certificates) = &door.certificates else { continue };
            let listeners = entrances.entry(door.entrance).or_default();
            if listeners.get(&door.host).is_none() {
                let certificates = certificates.iter().map(|usable| usable.id).collect();
                let clients = door.clients.trust.clone();
                listeners.insert(door.host.clone(), Arc::new(ListenerTls { certificates, clients }));
            }
        }
        entrances
    }

    /// Whether a listener without TLS has this socket.
    pub(crate) fn speaks_plain(&self, entrance: Entrance) -> bool {
        let mut doors = self.gateways.values().flatten().filter(|door| door.is_served() && door.entrance == entrance);
        doors.any(|door| door.listener.protocol != HTTPS)
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
            let Some((owner, gateway)) = self.owner_of(parent, key) else { continue };
            let Some(doors) = self.gateways.get_mut(&gateway) else { continue };
            let first = attachments.len();
            let outcome = attach_to(world, key, &hosts, parent, &owner, doors, &mut attachments);
            let shown = self.shown.get(&gateway).copied();
            attachments[first..].iter_mut().for_each(|attachment| attachment.shown = shown);
            parents.push(Parent { reference: parent.clone(), gateway, outcome });
        }
        (attachments, parents)
    }

    /// The Gateway or ListenerSet that a route names, and the Gateway that it is or belongs to, if that is ours.
    fn owner_of(&self, parent: &ParentRef, route: &ObjectKey) -> Option<(OwnerName, ObjectKey)> {
        if parent.group.as_deref().unwrap_or(GROUP) != GROUP {
            return None;
        }
        let key = ObjectKey::new(parent.namespace.as_deref().unwrap_or(&route.namespace), parent.name.as_str());
        match parent.kind.as_deref().unwrap_or("Gateway") {
            "Gateway" => Some((OwnerName { kind: "Gateway", key: key.clone() }, key)),
            "ListenerSet" => {
                let gateway = self.sets.get(&key)?.gateway.clone();
                Some((OwnerName { kind: "ListenerSet", key }, gateway))
            }
            _ => None,
        }
    }

    pub(crate) fn reports(self, world: &World, addresses: &Addresses) -> OwnerReports {
        let mut reports = OwnerReports { gateways: BTreeMap::new(), sets: BTreeMap::new() };
        for set in self.sets.values().filter(|set| !set.is_admitted) {
            reports.sets.insert(set.key.clone(), refused_set_report(set.facts.generation));
        }
        for (key, doors) in &self.gateways {
            let told = |owner: Owner<'_>| -> Vec<ListenerReport> {
                let mine = (0..doors.len()).filter(|&at| doors[at].owner == owner);
                mine.map(|at| doors[at].report(overlapping(doors, at))).collect()
            };
            let members = self.sets.values().filter(|set| set.is_admitted && set.gateway == *key);
            let mut attached = 0;
            for set in members {
                let listeners = told(Owner { kind: "ListenerSet", key: set.key });
                let tell = if is_acceptable(world, key, addresses) { set_report } else { orphaned_set_report };
                let report = tell(set.facts.generation, listeners);
                attached += i32::from(report.is_accepted());
                reports.sets.insert(set.key.clone(), report);
            }
            let listeners = told(Owner { kind: "Gateway", key });
            let report = gateway_report(world, key, addresses, listeners, attached);
            reports.gateways.insert((*key).clone(), report);
        }
        reports
    }
}

fn attach_to(
    world: &World,
    route: &ObjectKey,
    hosts: &[Host],
    parent: &ParentRef,
    owner: &OwnerName,
    doors: &mut [Door<'_>],
    attachments: &mut Vec<Attachment>,
) -> Result<(), Finding> {
    let refuse = |reason, message: String| Err(Finding::no(reason::ACCEPTED, reason, message));
    let named = |door: &Door<'_>| {
        (door.owner.kind, door.owner.key) == (owner.kind, &owner.key)
            && parent.section_name.as_ref().is_none_or(|name| *name == door.listener.name)
            && parent.port.is_none_or(|port| port == door.listener.port)
    };
    let chosen: Vec<usize> = (0..doors.len()).filter(|&at| named(&doors[at])).collect();
    if chosen.is_empty() {
        return refuse(reason::NO_MATCHING_PARENT, format!("{owner} has no such listener"));
    }
    let allowed = |at: &usize| {
        let door = &doors[*at];
        door.problem.is_none() && door.takes_http_routes && allows(door, route, world)
    };
    let chosen: Vec<usize> = chosen.into_iter().filter(|at| allowed(at)).collect();
    if chosen.is_empty() {
        return refuse(reason::NOT_ALLOWED, format!("no listener of {owner} takes routes of this namespace and kind"));
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
        attachments.extend(shared.into_iter().map(|host| Attachment {
            entrance,
            host,
            isolated: isolated.clone(),
            shown: None,
        }));
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

fn allows(door: &Door<'_>, route: &ObjectKey, world: &World) -> bool {
    let namespaces = door.listener.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    let unsaid = RouteNamespaces::default();
    admits(world, namespaces.unwrap_or(&unsaid), "Same", &door.owner.key.namespace, &route.namespace)
}
