//! The control side: what the API says becomes the next table, and what the workers serve is said in the API.
//!
//! One loop orders everything: changes come in from the watches, are compiled together, published, and once every worker has gone
//! over to the table, the revisions it was made of are acknowledged in the Lease and the statuses are brought up to date.

mod doors;
mod events;
mod lease;
mod materials;
mod object;
mod peers;
mod reading;
mod status;
mod watch;

pub(crate) use lease::give_back;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use sluice_route::{Change, Compiled, Compiler, Needs, ObjectKey, Report, Table};
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::options::GatewayOptions;
use crate::plane::{Authorities, Certificate, Credentials, Plane, read_system};
use doors::Doors;
use events::Events;
use lease::{Acknowledged, Holder};
use object::{CaConfigMap, Resource, TlsSecret};
use peers::Peers;
use status::Statuses;
use watch::Update;

/// Changes taken in before they are compiled, however many more are waiting.
const MAX_BATCH: usize = 4096;
/// Changes waiting to be taken in; then the watches wait.
const QUEUE: usize = 4096;
/// How often sockets that could not be opened are tried again.
const REOPEN: Duration = Duration::from_secs(10);

/// The newest revision seen of each resource.
type Seen = BTreeMap<Resource, u64>;

pub(crate) struct Control {
    plane: Arc<Plane>,
    compiler: Compiler,
    doors: Doors,
    statuses: Statuses,
    /// Resources whose first list is not in yet.
    /// With the round of lists that is due.
    missing: BTreeMap<Resource, u64>,
    certificates: materials::Store<Certificate>,
    authorities: materials::Store<Authorities>,
    seen: Seen,
    /// What was published last, until every worker serves it. Changes wait for that: they are compiled together then.
    published: Option<Published>,
    /// What every worker serves.
    served: Option<Published>,
    lease: channel::Sender<Option<Acknowledged>>,
    peers: channel::Receiver<Option<Peers>>,
    ready: channel::Sender<bool>,
}

/// A table with what it was made of.
struct Published {
    table: Arc<Table>,
    report: Arc<Report>,
    seen: Seen,
}

/// What runs beside the loop; ends when dropped.
pub(crate) struct Tasks {
    tasks: JoinSet<()>,
}

impl Tasks {
    pub(crate) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Control {
    /// Starts the watches and writers, and gives the loop to be run. `sockets` are those of the default entrance.
    pub(crate) fn new(
        client: &Client,
        plane: Arc<Plane>,
        sockets: Vec<TcpListener>,
        options: &GatewayOptions,
        ready: channel::Sender<bool>,
    ) -> (Self, mpsc::Receiver<Update>, Tasks) {
        let mut tasks = JoinSet::new();
        let (sender, updates) = mpsc::channel(QUEUE);
        let (others, peers) = channel::channel(None);
        for resource in Resource::ALL {
            let (client, sender, mut announced) = (client.clone(), sender.clone(), peers.clone());
            tasks.spawn(async move {
                if announced.wait_for(Option::is_some).await.is_ok() {
                    watch::run(client, resource, sender).await;
                }
            });
        }
        let (certificates, wanted) = materials::Store::new();
        tasks.spawn(watch::run_wanted::<TlsSecret>(client.clone(), Resource::Secrets, wanted, sender.clone()));
        let (authorities, wanted) = materials::Store::new();
        tasks.spawn(watch::run_wanted::<CaConfigMap>(client.clone(), Resource::ConfigMaps, wanted, sender));
        let (lease, acknowledged) = channel::channel(None);
        let address = options.advertise.unwrap_or_else(|| shown(options.address.ip()));
        let instance = options.instance.clone();
        let identity = format!("{instance}_{}_{}", std::process::id(), Timestamp::now().as_nanosecond());
        let holder = Holder { client: client.clone(), instance, identity, address };
        tasks.spawn(lease::run(holder, acknowledged, others));
        let (events, writer) = Events::new(client.clone());
        tasks.spawn(writer);
        let (statuses, writer) = Statuses::new(client.clone(), events);
        tasks.spawn(writer);
        let control = Self {
            compiler: Compiler::new(options.address.port())
                .at(address)
                .secure_at(options.tls_address)
                .with_addresses(options.addresses.clone()),
            doors: Doors::new(plane.clone(), options.address.ip(), sockets),
            plane,
            statuses,
            missing: Resource::ALL.into_iter().map(|resource| (resource, 0)).collect(),
            certificates,
            authorities,
            seen: Seen::new(),
            published: None,
            served: None,
            lease,
            peers,
            ready,
        };
        (control, updates, Tasks { tasks })
    }

    /// Until the watches end or `stop` is set.
    pub(crate) async fn run(mut self, mut updates: mpsc::Receiver<Update>, mut stop: channel::Receiver<bool>) {
        let (plane, mut peers) = (self.plane.clone(), self.peers.clone());
        let mut batch = Vec::new();
        let mut reopen = interval(REOPEN);
        reopen.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let idle = self.published.is_none();
            tokio::select! {
                () = plane.progress() => {}
                count = updates.recv_many(&mut batch, MAX_BATCH), if idle => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|update| self.take(update));
                    self.compile().await;
                }
                _ = reopen.tick(), if idle => self.reopen().await,
                Ok(()) = peers.changed() => {
                    let known = peers.borrow_and_update().clone();
                    known.into_iter().for_each(|known| self.statuses.follow(known));
                }
                () = told(&mut stop) => return,
            }
            self.acknowledge();
        }
    }

    fn take(&mut self, update: Update) {
        match update {
            Update::Listed { resource, round } => {
                if self.missing.get(&resource).is_some_and(|due| *due <= round) {
                    self.missing.remove(&resource);
                }
            }
            Update::Changed { resource, revision, change } => {
                let newest = self.seen.entry(resource).or_default();
                *newest = revision.max(*newest);
                match *change {
                    watch::Change::Facts(Change::Class(name, ours)) => {
                        self.statuses.class(&name, ours);
                        self.compiler.apply(Change::Class(name, ours));
                    }
                    watch::Change::Facts(change) => self.compiler.apply(change),
                    watch::Change::Certificate(key, read) => {
                        let facts = self.certificates.take(&key, read);
                        self.compiler.apply(Change::Secret(key, facts));
                    }
                    watch::Change::Authorities(key, read) => {
                        let facts = self.authorities.take(&key, read);
                        self.compiler.apply(Change::Authorities(key, facts));
                    }
                    watch::Change::Status(subject, observed) => self.statuses.observe(subject, observed),
                }
            }
        }
    }

    /// Publishes a table when one is due. Until every resource was listed once there is none: half a world would answer 404.
    async fn compile(&mut self) {
        if !self.missing.is_empty() {
            return;
        }
        // A listener's first table has its certificate already, if there is one.
        if self.compiler.needs().is_some_and(|needs| self.waits_for(needs)) {
            return;
        }
        let compiled = self.compiler.compile().map(|compiled| self.open_doors(compiled));
        self.doors.settle().await;
        match compiled {
            Some(Compiled { table, report }) => {
                tracing::debug!(generation = table.generation, "Table published");
                self.plane.certify(self.between());
                self.plane.publish(table.clone());
                self.published = Some(Published { table, report, seen: self.seen.clone() });
            }
            // Nothing of it concerns the table that is served, or nothing at all is asked for: as good as served.
            None => {
                let empty = || Published { table: Arc::default(), report: Arc::default(), seen: Seen::new() };
                self.served.get_or_insert_with(empty).seen.clone_from(&self.seen);
            }
        }
    }

    /// Whether something of it is to be read first.
    fn waits_for(&mut self, needs: Needs) -> bool {
        let Needs { secrets, config_maps, system } = needs;
        if system {
            read_system();
        }
        let rounds = [
            (Resource::Secrets, self.certificates.want(secrets)),
            (Resource::ConfigMaps, self.authorities.want(config_maps)),
        ];
        let due: Vec<_> = rounds.into_iter().filter_map(|(resource, round)| Some((resource, round?))).collect();
        let waits = !due.is_empty();
        self.missing.extend(due);
        waits
    }

    fn between(&self) -> Credentials {
        Credentials { certificates: self.certificates.between(), authorities: self.authorities.between() }
    }

    /// Opens and closes sockets as the listeners ask; those that fail are said in the report.
    fn open_doors(&mut self, compiled: Compiled) -> Compiled {
        let closed = self.doors.follow(&compiled.report.entrances);
        self.compiler.set_closed(closed);
        self.compiler.compile().unwrap_or(compiled)
    }

    async fn reopen(&mut self) {
        if self.doors.any_closed() {
            let closed = self.doors.retry();
            self.compiler.set_closed(closed);
            self.compile().await;
        }
    }

    /// Says what has come to be served by every worker.
    fn acknowledge(&mut self) {
        let generation = self.plane.acknowledged();
        if let Some(published) = self.published.take_if(|published| published.table.generation <= generation) {
            self.served = Some(published);
            let (certificates, authorities) = (self.certificates.settled(), self.authorities.settled());
            self.plane.certify(Credentials { certificates, authorities });
        }
        // Only the table that is served may say who is draining: by a former one a pod that is back would seem withdrawn.
        if self.published.is_some() {
            return;
        }
        let Some(served) = &self.served else { return };
        self.doors.admit();
        self.ready.send_replace(true);
        let acknowledged = Acknowledged::new(&served.seen, &self.plane.draining(&served.table));
        self.lease.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&acknowledged);
            if changed {
                *current = Some(acknowledged);
            }
            changed
        });
        self.statuses.report(&served.report);
    }
}

/// Keeps nothing of the channel.
async fn told(stop: &mut channel::Receiver<bool>) {
    let _told = stop.wait_for(|stop| *stop).await.map(|stop| *stop);
}

/// The address that Gateways without one of their own are told.
fn shown(listening: IpAddr) -> IpAddr {
    if listening.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listening }
}

/// The key of an object, cluster-scoped ones without a namespace.
fn key_of(metadata: &kube::core::ObjectMeta) -> ObjectKey {
    ObjectKey::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
