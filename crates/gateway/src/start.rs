//! Starting a gateway, and the handle to a running one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use sluice_route::Entrance;
use sluice_stats::VersionSnapshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::control::{Control, Tasks, give_back};
use crate::options::GatewayOptions;
use crate::plane::{Plane, VersionKey, Workers, open};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start the gateway's workers")]
    Workers(#[source] io::Error),
}

pub struct Gateway;

impl Gateway {
    /// Binds the default listener and starts the workers; routes follow as the control side reads them through `client`. Until
    /// then every request is answered with 404.
    #[expect(
        clippy::unused_async,
        reason = "must be called inside a runtime, and may come to wait for the first table"
    )]
    pub async fn start(client: Client, options: GatewayOptions) -> Result<GatewayHandle, StartError> {
        let count = match options.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let listen = |source| StartError::Listen { address: options.address, source };
        let sockets = open(options.address, count).map_err(listen)?;
        let address = sockets[0].local_addr().map_err(listen)?;
        let workers = Workers::start(count).map_err(StartError::Workers)?;
        workers.plane().serve(Entrance::Default, sockets);

        let options = GatewayOptions { address, ..options };
        let (control, updates, tasks) = Control::new(&client, workers.plane().clone(), &options);
        let (stop, stopped) = watch::channel(false);
        let control = tokio::spawn(control.run(updates, stopped));
        tracing::info!(%address, workers = count, "Gateway listens");
        Ok(GatewayHandle { address, instance: options.instance, client, workers, control, tasks, stop })
    }
}

/// A running gateway; [`GatewayHandle::shutdown`] ends it with care, dropping it ends it without giving its Lease back.
pub struct GatewayHandle {
    address: SocketAddr,
    instance: String,
    client: Client,
    workers: Workers,
    control: JoinHandle<()>,
    tasks: Tasks,
    stop: watch::Sender<bool>,
}

/// Reads the counters of a gateway, for as long as anybody likes.
#[derive(Clone)]
pub struct Counters {
    plane: Arc<Plane>,
}

impl Counters {
    /// Counters since start of every version that got a request.
    pub fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        self.plane.snapshot()
    }

    /// Those of one version; zero if it never got a request.
    pub fn of(&self, namespace: &str, hash: &str) -> VersionSnapshot {
        self.plane.snapshot_of(namespace, hash)
    }
}

impl GatewayHandle {
    /// Where the default listener is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The newest routing table that every worker serves; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.workers.plane().acknowledged()
    }

    /// Counters since start of every version that got a request.
    pub fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        self.counters().snapshot()
    }

    /// A cheap handle to the counters alone.
    pub fn counters(&self) -> Counters {
        Counters { plane: self.workers.plane().clone() }
    }

    /// Takes no more connections, finishes the requests in flight within a bounded time and gives the Lease back.
    pub async fn shutdown(self) {
        let Self { address, instance, client, workers, control, tasks, stop } = self;
        stop.send_replace(true);
        if let Err(error) = control.await {
            tracing::error!(%error, "Gateway control ended badly");
        }
        workers.stop().await;
        // After the last writer of the Lease: nobody puts it back.
        tasks.end().await;
        give_back(&client, &instance).await;
        tracing::info!(%address, "Gateway stopped");
    }
}
