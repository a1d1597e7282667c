//! The data plane: workers that serve requests by the newest routing table, and what the control side knows of them.
//!
//! A worker is a thread with its own runtime, listeners and upstream connections; nothing is shared between workers on the way
//! of a request but the immutable table. Replacing the table is a grace period: [`Plane::publish`] makes it visible, each worker
//! acknowledges when it has let go of the former one, and only then is [`Plane::acknowledged`] raised. A worker picks an endpoint
//! and counts itself in flight in one step without yielding, so whoever sees the acknowledgement also sees every request that is
//! still under way to a withdrawn pod.

mod accept;
mod access_log;
mod answer;
mod body;
mod budget;
mod circuit;
mod comparer;
mod conversation;
mod exposition;
mod forwarding;
mod framing;
mod guard;
mod head;
mod health;
mod identity;
mod limits;
mod listen;
mod meter;
mod mirror;
mod patience;
mod pods;
mod pool;
mod proxy;
mod sieve;
mod socket;
mod sources;
mod tls;
mod trial;
mod trust;
mod tunnel;
mod worker;

pub(crate) use access_log::AccessLog;
pub use comparer::BookKey;
pub(crate) use limits::{CLOSED as SOCKETS_CLOSED, LAST_REQUESTS};
pub(crate) use listen::open;
pub use meter::{CircuitCounts, MirrorCounts, VersionKey};
pub(crate) use tls::{Certificate, CertificateError, Certificates};
pub(crate) use trust::{Authorities, AuthoritiesError, KnownAuthorities, read_system};

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use sluice_compare::Report;
use sluice_route::{Entrance, Network, Table};
use sluice_stats::VersionSnapshot;
use tokio::sync::{Notify, mpsc};

use comparer::Comparer;
use exposition::Counted;
use meter::Meters;
use patience::Tick;
use pods::Pods;
use worker::{Order, Worker};

/// Shared by the workers and the control side.
pub(crate) struct Plane {
    table: Arc<ArcSwap<Table>>,
    credentials: ArcSwap<Credentials>,
    lines: Vec<Line>,
    /// Told when a worker acknowledged, or when a withdrawn pod has no more requests.
    progress: Notify,
    pods: Pods,
    meters: Meters,
    comparer: Comparer,
    manners: Manners,
}

/// How requests are treated, whatever their route says.
#[derive(Default)]
pub(crate) struct Manners {
    pub(crate) trusted: Vec<Network>,
    pub(crate) log: Option<AccessLog>,
    pub(crate) tick: Tick,
}

/// What handshakes need. Tables name it by ids.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) certificates: Certificates,
    pub(crate) authorities: KnownAuthorities,
}

/// An entrance that is served: says when it no longer is.
pub(crate) struct Door {
    listening: mpsc::Receiver<Infallible>,
    serving: mpsc::Receiver<Infallible>,
}

impl Door {
    /// Every worker has closed its socket.
    pub(crate) async fn closed(&mut self) {
        while self.listening.recv().await.is_some() {}
    }

    /// And everybody is gone who came in by them.
    pub(crate) async fn left(&mut self) {
        while self.serving.recv().await.is_some() {}
    }
}

/// What a door is used by.
struct Held {
    /// As long as the socket.
    _socket: mpsc::Sender<Infallible>,
    client: Presence,
}

/// As long as a client.
#[derive(Clone)]
struct Presence(#[expect(dead_code, reason = "it is there to be dropped")] mpsc::Sender<Infallible>);

/// What the control side and one worker say to each other.
struct Line {
    acknowledged: AtomicU64,
    /// A new table is there.
    wake: Notify,
    orders: mpsc::UnboundedSender<Order>,
}

/// The threads of a plane; joined by [`Workers::stop`], told to stop when dropped.
pub(crate) struct Workers {
    plane: Arc<Plane>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(crate) fn start(count: usize, manners: Manners) -> io::Result<Self> {
        let (lines, orders): (Vec<_>, Vec<_>) = (0..count)
            .map(|_| {
                let (sender, receiver) = mpsc::unbounded_channel();
                (Line { acknowledged: AtomicU64::new(0), wake: Notify::new(), orders: sender }, receiver)
            })
            .unzip();
        let plane = Arc::new(Plane {
            table: Arc::default(),
            credentials: ArcSwap::default(),
            lines,
            progress: Notify::new(),
            pods: Pods::new(count),
            meters: Meters::default(),
            comparer: Comparer::start()?,
            manners,
        });
        let mut workers = Self { plane: plane.clone(), threads: Vec::with_capacity(count) };
        for (index, orders) in orders.into_iter().enumerate() {
            workers.threads.push(Worker::spawn(plane.clone(), index, orders)?);
        }
        Ok(workers)
    }

    pub(crate) fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// Closes listeners, finishes what is in flight within [`limits::SHUTDOWN_DRAIN`], and ends the threads.
    pub(crate) async fn stop(mut self) {
        let (threads, plane) = (std::mem::take(&mut self.threads), self.plane.clone());
        drop(self);
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("Gateway worker panicked");
                }
            }
        });
        if let Err(error) = joined.await {
            tracing::error!(%error, "Gateway workers not joined");
        }
        if let Some(log) = &plane.manners.log {
            log.drained().await;
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.plane.order(|| Order::Stop);
    }
}

impl Plane {
    /// Makes the table visible to every worker. Control side only, generations must rise.
    pub(crate) fn publish(&self, table: Arc<Table>) {
        self.pods.admit(&table);
        self.table.store(table);
        for line in &self.lines {
            line.wake.notify_one();
        }
    }

    /// What tables from now on may name, and what workers may still have one with.
    pub(crate) fn certify(&self, credentials: Credentials) {
        self.credentials.store(Arc::new(credentials));
    }

    /// The newest generation that every worker has gone over to.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.lines.iter().map(|line| line.acknowledged.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Returns at the next acknowledgement or end of a drain. May return without either.
    pub(crate) async fn progress(&self) {
        self.progress.notified().await;
    }

    /// Uids of pods that the acknowledged table does not serve but that still answer requests. Call only with the table that
    /// [`Self::acknowledged`] names.
    pub(crate) fn draining(&self, table: &Table) -> Vec<Arc<str>> {
        self.pods.draining(table)
    }

    /// Gives every worker its own socket of this entrance.
    pub(crate) fn serve(&self, entrance: Entrance, sockets: Vec<TcpListener>) -> Door {
        let ((sockets_use, listening), (clients_use, serving)) = (mpsc::channel(1), mpsc::channel(1));
        for (line, socket) in self.lines.iter().zip(sockets) {
            let held = Held { _socket: sockets_use.clone(), client: Presence(clients_use.clone()) };
            // A worker that is gone has been told to stop.
            let _ = line.orders.send(Order::Serve(entrance, socket, held));
        }
        Door { listening, serving }
    }

    pub(crate) fn close(&self, entrance: Entrance) {
        self.order(|| Order::Close(entrance));
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        self.meters.snapshot()
    }

    pub(crate) fn mirrors(&self) -> BTreeMap<VersionKey, MirrorCounts> {
        self.meters.mirrors()
    }

    pub(crate) fn circuits(&self) -> BTreeMap<VersionKey, CircuitCounts> {
        self.meters.circuits()
    }

    /// What was found about each candidate whose answers are, or were, compared.
    pub(crate) fn comparisons(&self) -> BTreeMap<BookKey, Report> {
        self.comparer.reports()
    }

    pub(crate) fn snapshot_of(&self, namespace: &str, hash: &str) -> VersionSnapshot {
        self.meters.snapshot_of(namespace, hash)
    }

    /// Requests that were answered without a backend, by the reason.
    #[cfg(test)]
    pub(crate) fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.meters.refusals()
    }

    /// Everything that was counted, as Prometheus reads it.
    pub(crate) fn exposition(&self) -> String {
        let counted = Counted {
            generation: self.acknowledged(),
            routes: self.meters.routes(),
            versions: self.meters.snapshot(),
            mirrors: self.meters.mirrors(),
            circuits: self.meters.circuits(),
            comparisons: self.comparer.reports(),
            comparisons_dropped: self.comparer.dropped(),
            refusals: self.meters.refusals(),
        };
        counted.text()
    }

    pub(crate) fn workers(&self) -> usize {
        self.lines.len()
    }

    fn order(&self, order: impl Fn() -> Order) {
        for line in &self.lines {
            let _ = line.orders.send(order());
        }
    }
}

#[cfg(test)]
mod tests;
