//! From changes of the world to the next table, doing again only what the changes made stale.
//!
//! A change of endpoints, pods or Rollouts touches the backends concerned and shares every host. A change of Gateways, routes or
//! Services attaches all routes anew, but shares each route, host and backend that came out the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::address::Addresses;
use crate::attach::{Attachment, Listeners, OwnerReports, Parent};
use crate::backend::{Backend, BackendKey, Names, PodId, Version, VersionId};
use crate::clients;
use crate::conditions::parent_report;
use crate::facts::{Change, Entrance, ObjectKey, Stale, World};
use crate::host::Host;
use crate::ingress::{self, Ingresses, SecureEntrance};
use crate::pods::Pods;
use crate::report::{Address, Report, RouteReport};
use crate::rule::{CompiledHttpRoute, CompiledRoute, resolve};
use crate::table::{HostRoutes, Hosts, Source, Table};
use crate::tls;
use crate::trust::{self, Ancestors, BackendTls, Terms, TermsId};

/// Listener ports that are served at the address given to the gateway, whatever its port.
const WELL_KNOWN_PORT: u16 = 80;
/// Those that are served at the address for TLS, where there is one.
const SECURE_PORT: u16 = 443;
/// Versions without a pod are forgotten when more than so many of them are known.
const MAX_IDLE_VERSIONS: usize = 1024;
/// Terms of TLS that no backend has any more are forgotten when more than so many are known.
const MAX_IDLE_TERMS: usize = 1024;

pub struct Compiler {
    world: World,
    stale: Stale,
    /// Port of the default entrance.
    default_port: u16,
    /// The address for TLS, if it has one of its own.
    secure: Option<SocketAddr>,
    /// Address of the default entrance, if known.
    shared: Option<IpAddr>,
    addresses: Addresses,
    closed: BTreeMap<Entrance, String>,
    routes: BTreeMap<ObjectKey, Arc<CompiledHttpRoute>>,
    ingresses: Ingresses,
    places: Places,
    table: Arc<Table>,
    report: Arc<Report>,
    registry: Registry,
}

/// Objects that are read only where others refer to them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    pub secrets: BTreeSet<ObjectKey>,
    /// With certificates of authorities.
    pub config_maps: BTreeSet<ObjectKey>,
    /// The authorities that the machine trusts.
    pub system: bool,
}

/// A new table and what to say about it.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub table: Arc<Table>,
    pub report: Arc<Report>,
}

/// Where each backend stands in the table.
#[derive(Default)]
struct Places {
    by_key: BTreeMap<BackendKey, usize>,
    keys: Vec<Option<BackendKey>>,
    free: Vec<usize>,
    size: usize,
}

/// Gives out identities that are never used twice.
#[derive(Default)]
struct Registry {
    next: u64,
    pods: HashMap<Arc<str>, PodId>,
    versions: BTreeMap<(String, String), Arc<Version>>,
    tls: BTreeMap<Terms, Arc<BackendTls>>,
}

impl Compiler {
    /// Listeners with `default_port`, or with port 80, are served at the default entrance.
    pub fn new(default_port: u16) -> Self {
        Self {
            world: World::default(),
            stale: Stale::default(),
            default_port,
            secure: None,
            shared: None,
            addresses: Addresses::default(),
            closed: BTreeMap::new(),
            routes: BTreeMap::new(),
            ingresses: Ingresses::default(),
            places: Places::default(),
            table: Arc::default(),
            report: Arc::default(),
            registry: Registry::default(),
        }
    }

    /// The default entrance is at this address: Gateways that ask for it share it.
    pub fn at(mut self, shared: IpAddr) -> Self {
        self.shared = Some(shared);
        self.with_addresses(Vec::new())
    }

    /// Listeners with port 443, or with the port of this address, are served there, and TLS of Ingresses.
    pub fn secure_at(self, secure: Option<SocketAddr>) -> Self {
        Self { secure, ..self }
    }

    /// Gives every Gateway one of these addresses, while there are some; its listeners have their own ports there.
    pub fn with_addresses(mut self, pool: Vec<IpAddr>) -> Self {
        self.addresses = Addresses::new(self.shared, pool);
        self
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn apply(&mut self, change: Change) {
        self.world.apply(change, &mut self.stale);
    }

    /// What is referred to, and may be. `None`: nothing has changed that could change this.
    pub fn needs(&self) -> Option<Needs> {
        self.stale.routes.then(|| Needs {
            secrets: &tls::secrets(&self.world) | &ingress::secrets(&self.world),
            config_maps: &trust::all_config_maps(&self.world) | &clients::config_maps(&self.world),
            system: trust::uses_system(&self.world),
        })
    }

    /// Sockets that could not be opened, with the reason; all others count as open.
    pub fn set_closed(&mut self, closed: BTreeMap<Entrance, String>) {
        if self.closed != closed {
            self.closed = closed;
            self.stale.routes = true;
        }
    }

    /// The next table, or `None` when nothing that matters has changed since the last one.
    pub fn compile(&mut self) -> Option<Compiled> {
        let stale = std::mem::take(&mut self.stale);
        if stale == Stale::default() {
            return None;
        }
        let mut next = Table::clone(&self.table);
        if stale.routes {
            self.compile_routes(&mut next);
        }
        self.compile_backends(&mut next, &stale);
        next.generation += 1;
        self.table = Arc::new(next);
        Some(Compiled { table: self.table.clone(), report: self.report.clone() })
    }

    fn compile_routes(&mut self, next: &mut Table) {
        let world = std::mem::take(&mut self.world);
        let closed = std::mem::take(&mut self.closed);
        self.addresses.assign(&world.our_gateways().collect());
        let (default_port, secure, addresses) = (self.default_port, self.secure, &self.addresses);
        let is_secure = |port| secure.filter(|secure| port == SECURE_PORT || port == secure.port());
        let entrance_of = |gateway: &ObjectKey, port| match addresses.of(gateway) {
            Address::Own(address) => Some(Entrance::Own(SocketAddr::new(address, port))),
            Address::Shared if port == WELL_KNOWN_PORT || port == default_port => Some(Entrance::Default),
            Address::Shared => Some(is_secure(port).map_or(Entrance::Port(port), Entrance::Own)),
            Address::Nowhere => None,
        };
        let mut listeners = Listeners::gather(&world, entrance_of, &closed);
        let mut hosts = Placed::new();
        let mut reports = BTreeMap::new();
        let mut routes = BTreeMap::new();
        let mut ancestors = Ancestors::default();
        for (key, facts) in &world.routes {
            let (attachments, parents) = listeners.attach(&world, key, facts);
            if parents.is_empty() {
                continue;
            }
            let route = self.compile_route(&world, key, facts);
            let taken = parents.iter().filter(|parent| parent.outcome.is_ok());
            let gateways: Vec<&ObjectKey> = taken.map(|parent| &parent.gateway).collect();
            route.services().for_each(|service| ancestors.note(&world, service, &gateways));
            let findings = parents.into_iter().map(|Parent { reference, outcome, .. }| {
                parent_report(reference, outcome, &route.refs, route.route.rules.len(), &route.unusable)
            });
            reports.insert(key.clone(), RouteReport { generation: facts.generation, parents: findings.collect() });
            place(&mut hosts, &route.route, attachments);
            routes.insert(key.clone(), route);
        }
        let (mut entrances, mut tls) = (listeners.entrances(), listeners.tls());
        let secure = self.secure_entrance(listeners.speaks_plain(self.at_tls()), &closed);
        let (places, registry) = (&mut self.places, &mut self.registry);
        let outcome = self.ingresses.follow(&world, &secure, |key| places.of(key), || registry.split());
        outcome.place(&secure, &mut hosts, &mut entrances, &mut tls);
        next.tls = Arc::new(tls);
        let OwnerReports { gateways, sets } = listeners.reports(&world, &self.addresses);
        let policies = ancestors.reports(&world);
        let ingresses = outcome.reports;
        let report = Report { gateways, listener_sets: sets, routes: reports, ingresses, policies, entrances };
        self.report = Arc::new(report);
        self.routes = routes;
        self.free_slots(next);
        next.entrances = Arc::new(shared_hosts(hosts, &next.entrances));
        (self.world, self.closed) = (world, closed);
    }

    fn at_tls(&self) -> Entrance {
        self.secure.map_or(Entrance::Port(SECURE_PORT), Entrance::Own)
    }

    fn secure_entrance(&self, is_plain: bool, closed: &BTreeMap<Entrance, String>) -> SecureEntrance {
        let entrance = self.at_tls();
        let port = self.secure.map_or(SECURE_PORT, |address| address.port());
        let taken = || is_plain.then(|| format!("port {port} is used with protocol HTTP by a Gateway"));
        SecureEntrance { entrance, port, refused: closed.get(&entrance).cloned().or_else(taken) }
    }

    /// The route compiled before, when neither it nor what it refers to has changed.
    fn compile_route(
        &mut self,
        world: &World,
        key: &ObjectKey,
        facts: &Arc<crate::facts::RouteFacts>,
    ) -> Arc<CompiledHttpRoute> {
        let resolved = resolve(world, key, facts);
        if let Some(known) = self.routes.get(key)
            && Arc::ptr_eq(&known.facts, facts)
            && known.resolved == resolved
        {
            return known.clone();
        }
        let (places, registry) = (&mut self.places, &mut self.registry);
        let slot_of = |key: &BackendKey| places.of(key);
        let route = CompiledHttpRoute::compile(key.clone(), facts.clone(), resolved, slot_of, || registry.split());
        Arc::new(route)
    }

    /// Forgets backends that no route refers to any more.
    fn free_slots(&mut self, next: &mut Table) {
        let routes = self.routes.values().map(|route| &route.route);
        let rules = routes.chain(self.ingresses.routes()).flat_map(|route| &route.rules);
        let used: BTreeSet<usize> = rules.flat_map(|rule| rule.rule.slots()).collect();
        self.places.keep(&used);
        let unused: Vec<usize> = next.backends.taken().filter(|slot| !used.contains(slot)).collect();
        unused.into_iter().for_each(|slot| replace(next, slot, None));
    }

    fn compile_backends(&mut self, next: &mut Table, stale: &Stale) {
        let mut due: BTreeSet<usize> =
            stale.services.iter().flat_map(|service| self.places.of_service(service)).collect();
        if stale.routes {
            due.extend(self.places.by_key.values().filter(|&&slot| next.backends.get(slot).is_none()));
        }
        for slot in due {
            let Some(key) = self.places.key(slot) else { continue };
            let previous = next.backends.get(slot).map(AsRef::as_ref);
            let backend = Backend::compile(key.clone(), &self.world, &mut self.registry, previous);
            replace(next, slot, Some(Arc::new(backend)));
        }
        self.registry.forget(&next.pods, &self.world);
    }
}

/// Puts a backend into its slot and keeps count of the pods behind all of them.
fn replace(table: &mut Table, slot: usize, backend: Option<Arc<Backend>>) {
    // The new ones first: a pod that stays is never without an endpoint.
    for endpoint in backend.iter().flat_map(|backend| backend.endpoints()) {
        table.pods.add(endpoint.pod, &endpoint.uid);
    }
    let before = table.backends.replace(slot, backend);
    for endpoint in before.iter().flat_map(|backend| backend.endpoints()) {
        table.pods.remove(endpoint.pod);
    }
}

/// What hangs where, with hosts in an order, so that the same world gives the same table.
pub(crate) type Placed = BTreeMap<Entrance, BTreeMap<HostOrder, Vec<Source>>>;
type HostOrder = (String, bool);

/// Puts a source under a host, once.
pub(crate) fn put(placed: &mut Placed, entrance: Entrance, host: &Host, source: Source) {
    let order = (host.to_string(), matches!(host, Host::Exact(_)));
    let sources = placed.entry(entrance).or_default().entry(order).or_default();
    if !sources.iter().any(|known| known.same(&source)) {
        sources.push(source);
    }
}

fn place(places: &mut Placed, route: &Arc<CompiledRoute>, attachments: Vec<Attachment>) {
    for Attachment { entrance, host, isolated, shown } in attachments {
        put(places, entrance, &host, Source { route: route.clone(), isolated, one_label: None, shown });
    }
}

fn shared_hosts(places: Placed, before: &BTreeMap<Entrance, Hosts>) -> BTreeMap<Entrance, Hosts> {
    let mut entrances = BTreeMap::new();
    for (entrance, hosts) in places {
        let mut out = Hosts::default();
        for ((name, _), sources) in hosts {
            let host = Host::parse(Some(name.as_str()).filter(|name| *name != "*"));
            let known = before.get(&entrance).and_then(|hosts| hosts.get(&host));
            let same = |known: &&Arc<HostRoutes>| {
                known.sources.len() == sources.len() && known.sources.iter().zip(&sources).all(|(a, b)| a.same(b))
            };
            let routes = known.filter(same).cloned().unwrap_or_else(|| Arc::new(HostRoutes::new(sources)));
            out.insert(host, routes);
        }
        entrances.insert(entrance, out);
    }
    entrances
}

impl Places {
    fn of(&mut self, key: &BackendKey) -> usize {
        if let Some(&slot) = self.by_key.get(key) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or(self.size);
        self.size = self.size.max(slot + 1);
        self.keys.resize(self.size, None);
        self.keys[slot] = Some(key.clone());
        self.by_key.insert(key.clone(), slot);
        slot
    }

    fn key(&self, slot: usize) -> Option<&BackendKey> {
        self.keys.get(slot).and_then(Option::as_ref)
    }

    /// The slots of every port of this Service.
    fn of_service<'a>(&'a self, service: &'a ObjectKey) -> impl Iterator<Item = usize> + 'a {
        let first = BackendKey { service: service.clone(), port: 0 };
        self.by_key.range(first..).take_while(move |(key, _)| key.service == *service).map(|(_, &slot)| slot)
    }

    fn keep(&mut self, used: &BTreeSet<usize>) {
        let (free, keys) = (&mut self.free, &mut self.keys);
        self.by_key.retain(|_, slot| {
            let kept = used.contains(slot);
            if !kept {
                free.push(*slot);
                keys[*slot] = None;
            }
            kept
        });
    }
}

impl Registry {
    /// Drops identities of pods that are neither served nor known, and of versions that nobody holds.
    fn forget(&mut self, served: &Pods, world: &World) {
        if self.pods.len() > 2 * (served.len() + world.pods.len()) + MAX_IDLE_VERSIONS {
            let known: BTreeSet<&str> = world.pods.values().map(|pod| pod.uid.as_str()).collect();
            self.pods.retain(|uid, id| served.contains(*id) || known.contains(uid.as_ref()));
        }
        if self.versions.len() > served.len() + MAX_IDLE_VERSIONS {
            self.versions.retain(|_, version| Arc::strong_count(version) > 1);
        }
        if self.tls.len() > MAX_IDLE_TERMS {
            self.tls.retain(|_, tls| Arc::strong_count(tls) > 1);
        }
    }
}

impl Names for Registry {
    fn pod(&mut self, identity: &str) -> (PodId, Arc<str>) {
        if let Some((uid, &id)) = self.pods.get_key_value(identity) {
            return (id, uid.clone());
        }
        self.next += 1;
        let uid: Arc<str> = identity.into();
        self.pods.insert(uid.clone(), PodId(self.next));
        (PodId(self.next), uid)
    }

    fn version(&mut self, namespace: &str, hash: &str) -> Arc<Version> {
        let key = (namespace.to_owned(), hash.to_owned());
        if let Some(known) = self.versions.get(&key) {
            return known.clone();
        }
        self.next += 1;
        let version =
            Arc::new(Version { id: VersionId(self.next), namespace: namespace.to_owned(), hash: hash.to_owned() });
        self.versions.insert(key, version.clone());
        version
    }

    fn split(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn tls(&mut self, terms: Terms) -> Arc<BackendTls> {
        if let Some(known) = self.tls.get(&terms) {
            return known.clone();
        }
        self.next += 1;
        let tls = BackendTls::new(TermsId(self.next), terms.clone());
        self.tls.insert(terms, tls.clone());
        tls
    }
}
