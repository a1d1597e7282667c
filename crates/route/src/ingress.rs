//! Ingresses: their hosts and paths become rules beside those of HTTPRoutes.
//!
//! All of them are served at the default entrance, and by TLS at the secure one for hosts that some Ingress has a certificate
//! for. Several for one host are merged: each path is the oldest one's that has it. A canary is no Ingress of its own: it adds a
//! second backend to the paths that it has in common with others of its namespace.

mod annotations;
mod canaries;
mod paths;
mod secure;

pub(crate) use secure::{SecureEntrance, secrets};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::backend::BackendKey;
use crate::compile::{Placed, put};
use crate::facts::{Entrance, IngressFacts, ObjectKey, World};
use crate::host::Host;
use crate::report::{Complaint, IngressReport, reason};
use crate::rule::{CompiledRoute, Resolved};
use crate::table::Source;
use crate::tls::{ListenerTls, TlsListeners};
use annotations::Wishes;
use canaries::{Canaries, attach};
use paths::{Context, Spot, backends, spots};
use secure::Certificates;

/// What is said about one Ingress; the rest would say the same of more paths.
const MAX_COMPLAINTS: usize = 24;

/// Every Ingress of ours, with what was made of it.
#[derive(Default)]
pub(crate) struct Ingresses {
    read: BTreeMap<ObjectKey, Arc<Read>>,
    compiled: BTreeMap<ObjectKey, Arc<Compiled>>,
}

/// An Ingress by itself.
#[derive(Debug)]
struct Read {
    key: ObjectKey,
    facts: Arc<IngressFacts>,
    wishes: Wishes,
    complaints: Vec<Complaint>,
}

/// An Ingress in the world.
#[derive(Debug)]
struct Compiled {
    made_of: MadeOf,
    hosts: Vec<(Host, Arc<CompiledRoute>)>,
    complaints: Vec<Complaint>,
}

/// Everything that a compiled Ingress depends on.
#[derive(Debug)]
struct MadeOf {
    main: Arc<Read>,
    canaries: Canaries,
    resolved: Vec<Resolved>,
    /// Hosts with TLS.
    secured: Vec<Host>,
    /// Hosts that another one has, where it would be redirected from.
    known: Vec<Host>,
    tls_port: u16,
}

impl MadeOf {
    fn same(&self, other: &Self) -> bool {
        let Self { main, canaries, resolved, secured, known, tls_port } = self;
        Arc::ptr_eq(main, &other.main)
            && canaries.same(&other.canaries)
            && (resolved, secured, known, tls_port) == (&other.resolved, &other.secured, &other.known, &other.tls_port)
    }
}

/// What the table gets of all Ingresses.
pub(crate) struct Outcome {
    /// With whether it is served by TLS, too.
    hosts: Vec<(Host, Arc<CompiledRoute>, bool)>,
    tls: Vec<(Host, Arc<ListenerTls>)>,
    /// Somebody asks for TLS, whether it is to be had or not.
    wants_tls: bool,
    pub(crate) reports: BTreeMap<ObjectKey, IngressReport>,
}

impl Outcome {
    /// Hangs everything under its hosts. A host that a Gateway has a certificate for keeps that.
    pub(crate) fn place(
        &self,
        secure: &SecureEntrance,
        placed: &mut Placed,
        entrances: &mut BTreeSet<Entrance>,
        tls: &mut BTreeMap<Entrance, TlsListeners>,
    ) {
        if self.wants_tls {
            entrances.insert(secure.entrance);
        }
        for (host, listener) in &self.tls {
            let listeners = tls.entry(secure.entrance).or_default();
            if listeners.get(host).is_none() {
                listeners.insert(host.clone(), listener.clone());
            }
        }
        for (host, route, is_secured) in &self.hosts {
            let one_label = match host {
                Host::Wildcard(suffix) => Some(suffix.as_str().into()),
                Host::Exact(_) | Host::Any => None,
            };
            let source = Source { route: route.clone(), isolated: Arc::new([]), one_label, shown: None };
            if *is_secured {
                put(placed, secure.entrance, host, source.clone());
            }
            put(placed, Entrance::Default, host, source);
        }
    }
}

impl Ingresses {
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Arc<CompiledRoute>> {
        self.compiled.values().flat_map(|compiled| compiled.hosts.iter().map(|(_, route)| route))
    }

    /// Follows the world. `slot_of` gives each backend its place in the table, `next_split` names new splits.
    pub(crate) fn follow(
        &mut self,
        world: &World,
        secure: &SecureEntrance,
        mut slot_of: impl FnMut(&BackendKey) -> usize,
        mut next_split: impl FnMut() -> u64,
    ) -> Outcome {
        self.read_all(world);
        let mut by_age: Vec<&Arc<Read>> = self.read.values().collect();
        by_age.sort_by_key(|read| (read.facts.created, &read.key));
        let mut complaints: BTreeMap<&ObjectKey, Vec<Complaint>> = BTreeMap::new();
        let (mains, canaries): (Vec<_>, Vec<_>) = by_age.into_iter().partition(|read| read.wishes.canary.is_none());
        let owners = owners(&mains, &mut complaints);
        let mut attached = attach(&canaries, &owners, &mut complaints);
        let certificates = Certificates::gather(world, secure, &mains, &mut complaints);

        let (mut compiled, mut placed) = (BTreeMap::new(), Vec::new());
        for main in mains {
            let all: Vec<Host> = paths::hosts(main).collect();
            let others = paths::www_hosts(main).filter(|host| owners.keys().any(|spot| spot.host == *host));
            let canaries = attached.remove(&main.key).unwrap_or_default();
            let made_of = MadeOf {
                resolved: backends(main, &canaries).map(|backend| paths::resolve(world, main, backend)).collect(),
                main: main.clone(),
                canaries,
                secured: all.iter().filter(|host| certificates.cover(host)).cloned().collect(),
                known: others.collect(),
                tls_port: secure.port,
            };
            let before = self.compiled.get(&main.key).filter(|before| before.made_of.same(&made_of));
            let done = before.cloned().unwrap_or_else(|| {
                let context = Context { made_of: &made_of, slot_of: &mut slot_of, next_split: &mut next_split };
                let (hosts, complaints) = context.compile();
                Arc::new(Compiled { made_of, hosts, complaints })
            });
            let routes = done.hosts.iter().map(|(host, route)| (host.clone(), route.clone(), certificates.cover(host)));
            placed.extend(routes);
            compiled.insert(main.key.clone(), done);
        }
        let reports = self.read.iter().map(|(key, read)| {
            let of_world = complaints.remove(key).unwrap_or_default();
            let of_paths = compiled.get(key).map_or(&[][..], |compiled| &compiled.complaints);
            (key.clone(), report(read, of_world, of_paths))
        });
        let reports = reports.collect();
        let Certificates { listeners, wanted } = certificates;
        self.compiled = compiled;
        Outcome { hosts: placed, tls: listeners, wants_tls: wanted, reports }
    }

    fn read_all(&mut self, world: &World) {
        let mut before = std::mem::take(&mut self.read);
        for (key, facts) in world.our_ingresses() {
            let known = before.remove(key).filter(|known| Arc::ptr_eq(&known.facts, facts));
            let read = known.unwrap_or_else(|| {
                let (wishes, complaints) = annotations::read(&facts.annotations);
                Arc::new(Read { key: key.clone(), facts: facts.clone(), wishes, complaints })
            });
            self.read.insert(key.clone(), read);
        }
    }
}

/// Whose each path is: the oldest one's that has it.
fn owners<'r>(
    by_age: &[&'r Arc<Read>],
    complaints: &mut BTreeMap<&'r ObjectKey, Vec<Complaint>>,
) -> HashMap<Spot, &'r Arc<Read>> {
    let mut owners: HashMap<Spot, &'r Arc<Read>> = HashMap::new();
    for read in by_age {
        for (spot, _) in spots(read) {
            let owner = *owners.entry(spot.clone()).or_insert(read);
            if owner.key != read.key && spot.is_path() {
                let message = format!("{spot} is served by Ingress `{}`, which is older", owner.key);
                complaints.entry(&read.key).or_default().push(Complaint { reason: reason::PATH_TAKEN, message });
            }
        }
    }
    owners
}

fn report(read: &Read, of_world: Vec<Complaint>, of_paths: &[Complaint]) -> IngressReport {
    let mut complaints = read.complaints.clone();
    complaints.extend(of_world);
    complaints.extend_from_slice(of_paths);
    complaints.sort();
    complaints.dedup();
    complaints.truncate(MAX_COMPLAINTS);
    IngressReport { generation: read.facts.generation, complaints }
}
