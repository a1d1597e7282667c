//! One thread of the data plane: its view of the table, its place in the weight sequences, its connections.

use std::cell::{Cell, RefCell, RefMut};
use std::hash::BuildHasher as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use foldhash::HashMap;
use http::{HeaderName, HeaderValue, StatusCode};
use rustls::ServerConfig;
use sluice_route::cors::AnswerHeaders;
use sluice_route::{
    CertificateId, ClientTrust, Comparison, Copied, CopyOf, Decision, Draws, Endpoint, Entrance, Filters, Forward,
    PodId, Protocol, Refusal, RequestHead, Rule, Table, VersionId,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::accept::Client;
use super::access_log::Entry;
use super::answer::Reason;
use super::budget::Budget;
use super::circuit::{Circuit, Outcome, Pass, Resort};
use super::health::{self, Health, Standing};
use super::meter::{LocalMeters, Meter, RouteMeter};
use super::mirror::Copy;
use super::patience::Patience;
use super::pods::Pod;
use super::pool::{Connection, Pool};
use super::sources::Sources;
use super::trial::{Part, Role, Trial};
use super::trust::{Secure, SecureKey};
use super::{Held, Manners, Plane, accept, head, limits, tls};

/// What a worker is told to do.
pub(crate) enum Order {
    Serve(Entrance, TcpListener, Held),
    Close(Entrance),
    Stop,
}

pub(crate) struct Worker {
    plane: Arc<Plane>,
    index: usize,
    table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    draws: RefCell<Draws>,
    random: Cell<u64>,
    pods: RefCell<HashMap<PodId, Rc<Known>>>,
    circuits: RefCell<HashMap<VersionId, Rc<RefCell<Circuit>>>>,
    /// How connections to backends are secured, made when first needed.
    secured: RefCell<HashMap<(SecureKey, Protocol), Rc<Secure>>>,
    /// How TLS is served to clients that have to show certificates, likewise.
    asking: RefCell<HashMap<(CertificateId, ClientTrust), Arc<ServerConfig>>>,
    meters: RefCell<LocalMeters>,
    pub(crate) pool: Pool,
    /// One permit for each client connection.
    pub(crate) room: Arc<Semaphore>,
    /// One permit for each copy on its way to a mirror.
    copies: Arc<Semaphore>,
    /// One permit for each request whose answers are compared.
    trials: Arc<Semaphore>,
    /// One permit for each body that is kept for a retry.
    pub(crate) keeping: Arc<Semaphore>,
    pub(crate) budget: Budget,
    pub(crate) handshakes: Semaphore,
    pub(crate) patience: Patience,
    pub(crate) sources: Sources,
    pub(crate) is_stopping: Cell<bool>,
}

/// A pod as this worker knows it.
struct Known {
    pod: Arc<Pod>,
    health: RefCell<Health>,
}

/// An endpoint chosen for a request, which counts as in flight from here on.
pub(crate) struct Pick {
    pub(crate) endpoint: Endpoint,
    /// `None`: in the open.
    pub(crate) secure: Option<Rc<Secure>>,
    pub(crate) rule: Arc<Rule>,
    /// Of the chosen backendRef, where it has any.
    pub(crate) filters: Option<Box<Filters>>,
    pub(crate) prefix: Box<str>,
    pub(crate) flight: Flight,
    /// For the answer: what brings the client to the same version or pod again.
    pub(crate) reminders: Vec<(HeaderName, HeaderValue)>,
    pub(crate) copies: Vec<Copy>,
    /// Where the answer is to be compared with those to the copies.
    pub(crate) part: Option<Part>,
    /// Of the route, where there are copies to be marked with it.
    pub(crate) route: Box<str>,
}

/// What an endpoint is wanted for.
pub(crate) struct Wanted<'a> {
    pub(crate) client: &'a Client,
    pub(crate) head: RequestHead<'a>,
    /// The port that the client named.
    pub(crate) port: Option<u16>,
    /// Endpoints that failed this request already.
    pub(crate) tried: &'a [SocketAddr],
    /// Whether mirrors get their copies.
    pub(crate) mirrored: bool,
    /// Of gRPC: its answers are not compared.
    pub(crate) is_call: bool,
    /// What finds it again.
    pub(crate) id: &'a HeaderValue,
    pub(crate) started: Instant,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request comes to the large one, which is taken apart at once"
)]
pub(crate) enum Picked {
    Forward(Pick),
    Redirect {
        status: u16,
        location: String,
    },
    /// `None` when the origin may not.
    Preflight(Option<AnswerHeaders>),
    Refuse(Refusal),
    /// The version does not answer, and nobody can stand in for it.
    Spared,
}

/// Which endpoint gets a request, and by what leave.
struct Granted<'t> {
    endpoint: &'t Endpoint,
    /// The session goes on with it.
    is_held: bool,
    circuit: Rc<RefCell<Circuit>>,
    pass: Pass,
}

impl Worker {
    pub(crate) fn spawn(
        plane: Arc<Plane>,
        index: usize,
        orders: mpsc::UnboundedReceiver<Order>,
    ) -> io::Result<JoinHandle<()>> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        std::thread::Builder::new()
            .name(format!("gateway-{index}"))
            .spawn(move || Self::main(&runtime, plane, index, orders))
    }

    fn main(runtime: &Runtime, plane: Arc<Plane>, index: usize, orders: mpsc::UnboundedReceiver<Order>) {
        let workers = plane.workers();
        let worker = Rc::new(Self {
            table: RefCell::new(Cache::new(plane.table.clone())),
            draws: RefCell::new(Draws::new(index, workers).seeded(seed(index))),
            // Xorshift never leaves 0.
            random: Cell::new(seed(index) | 1),
            pods: RefCell::default(),
            circuits: RefCell::default(),
            secured: RefCell::default(),
            asking: RefCell::default(),
            meters: RefCell::default(),
            pool: Pool::default(),
            room: Arc::new(Semaphore::new(limits::CONNECTIONS)),
            copies: Arc::new(Semaphore::new(limits::MIRRORS)),
            trials: Arc::new(Semaphore::new(limits::COMPARISONS)),
            keeping: Arc::new(Semaphore::new(limits::KEPT_BODIES)),
            budget: Budget::new(Instant::now()),
            handshakes: Semaphore::new(limits::HANDSHAKES),
            patience: Patience::default(),
            sources: Sources::default(),
            is_stopping: Cell::new(false),
            plane,
            index,
        });
        LocalSet::new().block_on(runtime, worker.run(orders));
    }

    async fn run(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let plane = self.plane.clone();
        let mut doors: HashMap<Entrance, watch::Sender<bool>> = HashMap::default();
        let mut acceptors = JoinSet::new();
        let mut sweep = interval(limits::IDLE_SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tick = interval(plane.manners.tick.0);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = plane.lines[self.index].wake.notified() => self.refresh(),
                order = orders.recv() => match order {
                    Some(Order::Serve(entrance, socket, held)) => {
                        let leave = watch::Sender::new(false);
                        let accepting = accept::from(self.clone(), entrance, socket, held, leave.subscribe());
                        acceptors.spawn_local(accepting);
                        doors.insert(entrance, leave);
                    }
                    Some(Order::Close(entrance)) => {
                        if let Some(door) = doors.remove(&entrance) {
                            door.send_replace(true);
                        }
                    }
                    Some(Order::Stop) | None => break,
                },
                Some(_) = acceptors.join_next() => {}
                _ = sweep.tick() => self.pool.sweep(Instant::now()),
                _ = tick.tick() => self.patience.tick(),
            }
        }
        self.is_stopping.set(true);
        for door in doors.values() {
            door.send_replace(true);
        }
        // Every connection gives its permit back when it is done.
        let all = limits::CONNECTIONS as u32;
        let emptied = async {
            let mut empty = std::pin::pin!(async {
                // They still let in who has come: nobody else gets a permit before somebody who waits for all of them.
                while acceptors.join_next().await.is_some() {}
                self.room.acquire_many(all).await.map(drop)
            });
            loop {
                tokio::select! {
                    _ = empty.as_mut() => return,
                    _ = tick.tick() => self.patience.tick(),
                }
            }
        };
        if timeout(limits::SHUTDOWN_DRAIN, emptied).await.is_err() {
            let left = limits::CONNECTIONS - self.room.available_permits();
            tracing::warn!(worker = self.index, connections = left, "Connections cut off at shutdown");
        }
    }

    /// Goes over to the newest table and says so. What may not be used any more is closed first.
    fn refresh(&self) {
        let table = self.table.borrow_mut().load().clone();
        let acknowledged = &self.plane.lines[self.index].acknowledged;
        if acknowledged.load(Ordering::Relaxed) == table.generation {
            return;
        }
        self.pool.keep(|pod| table.pods().contains(pod));
        self.pods.borrow_mut().retain(|id, known| table.pods().contains(*id) || known.pod.load(self.index) > 0);
        // Every request that this worker picked an endpoint for by an older table is counted in flight by now.
        acknowledged.store(table.generation, Ordering::Release);
        self.plane.progress.notify_one();
    }

    pub(crate) fn speaks_tls(&self, entrance: Entrance) -> bool {
        self.table.borrow_mut().load().speaks_tls(entrance)
    }

    /// How a client that asks for this name is served now, and whether it must show a certificate. `None`: not at all.
    pub(crate) fn tls_config(
        &self,
        entrance: Entrance,
        server_name: Option<&str>,
    ) -> Option<(Arc<ServerConfig>, bool)> {
        let mut table = self.table.borrow_mut();
        let listener = table.load().listener(entrance, server_name)?;
        let credentials = self.plane.credentials.load();
        let (id, certificate) = tls::choose(&credentials.certificates, &listener.certificates, server_name)?;
        let Some(clients) = &listener.clients else { return Some((certificate.config(), false)) };
        let mut asking = self.asking.borrow_mut();
        let key = (id, clients.clone());
        if let Some(known) = asking.get(&key) {
            return Some((known.clone(), !clients.is_optional));
        }
        if asking.len() >= limits::ASKING {
            asking.clear();
        }
        let made = Arc::new(tls::asking(&certificate, clients, &credentials.authorities)?);
        asking.insert(key, made.clone());
        Some((made, !clients.is_optional))
    }

    /// Decides by the newest table and counts the request in flight, in one step without yielding.
    pub(crate) fn pick(self: &Rc<Self>, wanted: &Wanted<'_>) -> Picked {
        let Wanted { client, head: request, port, tried, mirrored, started, .. } = wanted;
        let Client { entrance, transport, .. } = client;
        let mut cache = self.table.borrow_mut();
        let table = cache.load();
        if table.misdirected(*entrance, transport, request.host) {
            return Picked::Refuse(Refusal::Misdirected);
        }
        let forward = match table.find(*entrance, request, &mut self.draws.borrow_mut()) {
            Decision::Forward(forward) => forward,
            Decision::Refuse(refusal) => return Picked::Refuse(refusal),
            Decision::Preflight(cors) => return Picked::Preflight(cors.preflight(request)),
            Decision::Redirect { redirect, prefix } => {
                let location = redirect.location(request, transport.scheme(), entrance.port(*port), prefix);
                return Picked::Redirect { status: redirect.status, location };
            }
        };
        let now = Instant::now();
        let Some(granted) = self.grant(&forward, tried, table, now) else { return Picked::Spared };
        let Granted { endpoint, is_held, circuit, pass } = granted;
        let mut endpoint = endpoint.clone();
        endpoint.protocol = forward.rule.protocol.unwrap_or(endpoint.protocol);
        let leave = Leave { circuit, pass };
        let Ok(secure) = self.secured(&endpoint, forward.shown) else {
            return Picked::Refuse(Refusal::UntrustedBackend);
        };
        let presence = self.enter(endpoint.pod, table);
        let (meter, of_route) = self.meters.borrow_mut().route(forward.route, &endpoint.version, &self.plane.meters);
        let filters = (*forward.filters != Filters::default()).then(|| Box::new(forward.filters.clone()));
        let rule = forward.rule.clone();
        let prefix = if rule.filters.rewrite.is_some() || filters.is_some() { forward.prefix } else { "" }.into();
        let flight = Flight::new(presence, leave, meter, of_route, *started, now);
        let begun = rule.session.as_ref().filter(|_| !is_held);
        let begun = begun.and_then(|session| head::of_session(&session.begin(&endpoint, request.received), transport));
        let version = forward.cookie.as_ref().and_then(|cookie| head::of_version(cookie, transport));
        let reminders = begun.into_iter().chain(version).collect();
        let (copies, part) = if *mirrored { self.copies(&forward, wanted, table) } else { (Vec::new(), None) };
        let route = if copies.is_empty() { Box::default() } else { forward.route.to_string().into() };
        Picked::Forward(Pick { endpoint, secure, rule, filters, prefix, flight, reminders, copies, part, route })
    }

    /// An endpoint of the version that was chosen, or of the one that stands in for it. `None`: nobody should be asked.
    fn grant<'t>(
        &self,
        forward: &Forward<'t>,
        tried: &[SocketAddr],
        table: &Table,
        now: Instant,
    ) -> Option<Granted<'t>> {
        let held = forward.held.filter(|held| !tried.contains(&held.address));
        let endpoint = held.unwrap_or_else(|| self.least_loaded(forward.endpoints, tried, table, now));
        let circuit = self.circuit(endpoint.version.id);
        let resort = if forward.instead.is_some() { Resort::OtherVersion } else { Resort::Nobody };
        let pass = circuit.borrow_mut().enter(now, resort);
        if let Some(pass) = pass {
            return Some(Granted { endpoint, is_held: held.is_some(), circuit, pass });
        }
        let meter = self.meters.borrow_mut().version(&endpoint.version, &self.plane.meters);
        if let Some(instead) = forward.instead {
            meter.diverted();
            let endpoint = self.least_loaded(instead, tried, table, now);
            let circuit = self.circuit(endpoint.version.id);
            let pass = circuit.borrow_mut().enter(now, Resort::Nobody)?;
            return Some(Granted { endpoint, is_held: false, circuit, pass });
        }
        // Where pods of several versions stand behind one Service, one that is silent says nothing about the others.
        if forward.endpoints.iter().any(|other| other.version.id != endpoint.version.id) {
            let pass = circuit.borrow_mut().force();
            return Some(Granted { endpoint, is_held: held.is_some(), circuit, pass });
        }
        meter.circuit_refused();
        None
    }

    fn circuit(&self, version: VersionId) -> Rc<RefCell<Circuit>> {
        let mut circuits = self.circuits.borrow_mut();
        if circuits.len() >= limits::METERED && !circuits.contains_key(&version) {
            circuits.clear();
        }
        circuits.entry(version).or_insert_with(|| Rc::new(RefCell::new(Circuit::new()))).clone()
    }

    /// Where copies of the request go, and the place of its own answer if that is compared with theirs. Without room for a copy it is
    /// not made.
    fn copies(self: &Rc<Self>, forward: &Forward<'_>, wanted: &Wanted<'_>, table: &Table) -> (Vec<Copy>, Option<Part>) {
        let (mut copies, mut stable) = (Vec::new(), None);
        for Copied { endpoints, of } in table.mirrored(forward, &wanted.head, &mut self.draws.borrow_mut()) {
            let CopyOf::Request(Some(trial)) = of else {
                let is_of_backend = matches!(of, CopyOf::Request(_));
                copies.extend(self.copy(forward, endpoints, is_of_backend, table, || Some(None)));
                continue;
            };
            if wanted.is_call {
                continue;
            }
            let mut first = None;
            copies.extend(self.copy(forward, endpoints, true, table, || {
                let part = self.begin(trial.comparison, wanted)?;
                let candidate = part.also(Role::Candidate);
                first = Some(part);
                Some(Some(candidate))
            }));
            if let Some(part) = &first
                && (trial.asks_twice || self.plane.comparer.is_learning(trial.comparison))
            {
                copies.extend(self.copy(forward, trial.stable, true, table, || Some(Some(part.also(Role::Twin)))));
            }
            stable = first;
        }
        (copies, stable)
    }

    /// One copy to any of these endpoints. `part_of` says where its answer is compared, or, by `None`, that there is no room for that.
    fn copy(
        self: &Rc<Self>,
        forward: &Forward<'_>,
        endpoints: &[Endpoint],
        is_of_backend: bool,
        table: &Table,
        part_of: impl FnOnce() -> Option<Option<Part>>,
    ) -> Option<Copy> {
        let mut endpoint = self.least_loaded(endpoints, &[], table, Instant::now()).clone();
        if is_of_backend {
            endpoint.protocol = forward.rule.protocol.unwrap_or(endpoint.protocol);
        }
        let secure = self.secured(&endpoint, forward.shown).ok()?;
        let meter = self.meters.borrow_mut().version(&endpoint.version, &self.plane.meters);
        let room = self.copies.clone().try_acquire_owned().ok();
        let Some((permit, part)) = room.and_then(|permit| Some((permit, part_of()?))) else {
            meter.mirror_dropped();
            return None;
        };
        let presence = self.enter(endpoint.pod, table);
        Some(Copy { endpoint, is_of_backend, secure, presence, meter, permit, part })
    }

    /// The place of the stable version's answer in a new trial, if there is room for one more.
    fn begin(&self, comparison: &Arc<Comparison>, wanted: &Wanted<'_>) -> Option<Part> {
        let room = self.trials.clone().try_acquire_owned().ok()?;
        let endpoint = sluice_compare::endpoint(wanted.head.method, wanted.head.path);
        let request = wanted.id.to_str().unwrap_or_default().to_owned();
        Some(Trial::begin(comparison.clone(), endpoint, request, self.plane.comparer.clone(), room))
    }

    /// The `Err` stands for terms that cannot be met.
    fn secured(&self, endpoint: &Endpoint, shown: Option<CertificateId>) -> Result<Option<Rc<Secure>>, ()> {
        let Some(tls) = &endpoint.tls else { return Ok(None) };
        let key = ((tls.id, shown), endpoint.protocol);
        let mut secured = self.secured.borrow_mut();
        if let Some(known) = secured.get(&key) {
            return Ok(Some(known.clone()));
        }
        // Those in use are made again at their next request.
        if secured.len() >= limits::SECURED {
            secured.clear();
        }
        let made = Secure::new(tls, endpoint.protocol, shown, &self.plane.credentials.load()).ok_or(())?;
        Ok(Some(secured.entry(key).or_insert(Rc::new(made)).clone()))
    }

    pub(crate) async fn connect(&self, pick: &Pick) -> Result<Connection, Reason> {
        let limit = pick.rule.connect.unwrap_or(limits::CONNECT);
        self.pool.connect(&pick.endpoint, pick.secure.as_deref(), limit).await
    }

    fn enter(self: &Rc<Self>, pod: PodId, table: &Table) -> Presence {
        let known = self.known(pod, table);
        known.pod.enter(self.index);
        Presence { worker: self.clone(), known }
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.meters.borrow_mut().refused(reason, &self.plane.meters);
    }

    /// One that is well and has little to do; those that failed this request already only when there is no other.
    fn least_loaded<'t>(
        &self,
        endpoints: &'t [Endpoint],
        tried: &[SocketAddr],
        table: &Table,
        now: Instant,
    ) -> &'t Endpoint {
        let draw = |among: usize| (self.next_random() % among as u64) as usize;
        if !tried.is_empty() {
            let untried: Vec<&Endpoint> = endpoints.iter().filter(|e| !tried.contains(&e.address)).collect();
            if !untried.is_empty() {
                return untried[draw(untried.len())];
            }
        }
        if let [only] = endpoints {
            return only;
        }
        let standing = |at: usize| {
            let known = self.known(endpoints[at].pod, table);
            let health = known.health.borrow();
            let cost = health.cost(known.pod.load(self.index), now);
            Standing { out: health.is_out(now), warmth: health.warmth(now), cost }
        };
        &endpoints[health::choose(endpoints.len(), standing, draw)]
    }

    fn known(&self, id: PodId, table: &Table) -> Rc<Known> {
        let mut pods = self.pods.borrow_mut();
        let known = pods.entry(id).or_insert_with(|| {
            let health = RefCell::new(Health::new(Instant::now()));
            Rc::new(Known { pod: self.plane.pods.get(id, table), health })
        });
        known.clone()
    }

    pub(crate) fn manners(&self) -> &Manners {
        &self.plane.manners
    }

    /// As long again by half at most, so that what failed together does not come back together.
    pub(crate) fn jittered(&self, delay: Duration) -> Duration {
        let half = u64::try_from(delay.as_micros() / 2).unwrap_or(u64::MAX);
        delay + Duration::from_micros(self.next_random() % half.max(1))
    }

    /// Xorshift: even enough to spread requests, and no secret.
    pub(crate) fn next_random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// Keeps the connection for the next request, if there may be one.
    pub(crate) fn give_back(&self, connection: Connection) {
        let Connection::Exclusive(connection) = connection else { return };
        if self.table.borrow_mut().load().pods().contains(connection.pod()) {
            self.pool.put(connection);
        }
    }
}

/// Another number for every worker of every gateway.
fn seed(worker: usize) -> u64 {
    std::hash::RandomState::new().hash_one(worker)
}

/// A request, or a copy of one, that counts as in flight to a pod.
pub(crate) struct Presence {
    worker: Rc<Worker>,
    known: Rc<Known>,
}

impl Presence {
    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.known.pod.leave(self.worker.index) {
            self.worker.plane.progress.notify_one();
        }
    }
}

/// A request that a version's circuit let through, until it is over.
struct Leave {
    circuit: Rc<RefCell<Circuit>>,
    pass: Pass,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.circuit.borrow_mut().leave(self.pass);
    }
}

/// A request in flight to a pod, from the pick of its endpoint to the end of its answer.
pub(crate) struct Flight {
    // Dropped after the request is counted: who sees the pod drained sees all of its answers.
    presence: Presence,
    leave: Leave,
    meter: Arc<Meter>,
    of_route: Arc<RouteMeter>,
    started: Instant,
    /// When this pod was chosen.
    picked: Instant,
    status: Option<u16>,
    entry: Option<Box<Entry>>,
}

impl Flight {
    fn new(
        presence: Presence,
        leave: Leave,
        meter: Arc<Meter>,
        of_route: Arc<RouteMeter>,
        started: Instant,
        picked: Instant,
    ) -> Self {
        of_route.begin();
        Self { presence, leave, meter, of_route, started, picked, status: None, entry: None }
    }

    /// The line of the log that is written when the answer is over.
    pub(crate) fn note(&mut self, entry: Option<Box<Entry>>) {
        self.entry = entry;
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.sent(bytes);
        }
    }

    /// The client got, or will get, an answer with this status: the backend's, or ours in its place.
    pub(crate) fn answer(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// The pod's own answer has begun.
    pub(crate) fn heard(&self, status: StatusCode) {
        let now = Instant::now();
        self.note_outcome(now, if status.is_server_error() { Outcome::Error } else { Outcome::Well });
        match status {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                self.health().failed(now);
            }
            _ => self.health().answered(now, now.duration_since(self.picked)),
        }
    }

    /// It did not begin in time.
    pub(crate) fn timed_out(&self) {
        self.failed(Instant::now());
    }

    pub(crate) fn connection_failed(&self) {
        self.meter.connection_failed();
        self.failed(Instant::now());
    }

    /// Nothing was heard.
    fn failed(&self, now: Instant) {
        self.note_outcome(now, Outcome::Silence);
        self.health().failed(now);
    }

    fn note_outcome(&self, now: Instant, outcome: Outcome) {
        if self.leave.circuit.borrow_mut().heard(now, outcome) {
            self.meter.circuit_opened();
        }
    }

    fn health(&self) -> RefMut<'_, Health> {
        self.presence.known.health.borrow_mut()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        self.of_route.end(self.status, took);
        if let Some(status) = self.status {
            self.meter.answered(status, took);
        }
    }
}

/// A flight whose answer is being passed on, with the connection to be used again afterwards.
pub(crate) struct Passage {
    pub(crate) flight: Flight,
    pub(crate) connection: Connection,
}

impl Passage {
    /// The answer was read to its end.
    pub(crate) fn complete(self) {
        let Self { flight, connection } = self;
        flight.presence.worker.give_back(connection);
    }

    /// The backend broke off in the middle of its answer.
    pub(crate) fn break_off(self) {
        self.flight.meter.broke_off();
    }
}
