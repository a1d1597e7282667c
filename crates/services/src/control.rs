//! Keeps names, sockets and the packet filter at what the API says.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::{self, Store, store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dns::{DnsListener, Names};
use crate::doors::Cluster;
use crate::forward::{Forwarder, Part};
use crate::plan::Plan;

/// Changes that come together are one change; nobody notices so short a delay.
const TOGETHER: Duration = Duration::from_millis(5);
/// What could not be done is tried again: a port may become free.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct ServicesOptions {
    pub plan: Plan,
    /// None: no names.
    pub dns: Option<DnsListener>,
    /// What the machine's own resolvers are read from.
    pub resolv_conf: PathBuf,
    /// The node that "local" means.
    pub node_name: String,
    /// What the engine itself serves.
    pub own: Vec<OwnBackend>,
}

/// A port of a service that no pod stands behind but the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnBackend {
    pub namespace: &'static str,
    pub service: &'static str,
    /// The number in the service.
    pub port: u16,
    pub backend: SocketAddrV4,
}

impl OwnBackend {
    pub(crate) fn is_of(&self, service: &Service, port: &ServicePort) -> bool {
        service.metadata.namespace.as_deref() == Some(self.namespace)
            && service.metadata.name.as_deref() == Some(self.service)
            && port.port == i32::from(self.port)
    }
}

/// Services as they work.
#[derive(Debug)]
pub struct Services {
    dns: Option<SocketAddr>,
    stop: CancellationToken,
    /// Gives back whether the table is to be taken away.
    control: tokio::task::JoinHandle<Doors>,
}

impl Services {
    pub fn start(client: Client, options: ServicesOptions) -> Self {
        let ServicesOptions { plan, dns, resolv_conf, node_name, own } = options;
        let names = Arc::new(ArcSwap::from_pointee(Names::default()));
        let address = dns.as_ref().map(DnsListener::address);
        let doors = Doors::new(plan);
        let stop = CancellationToken::new();
        let own_stop = stop.clone();
        let control = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            let state = State::follow(&client, &mut tasks, node_name, own);
            let mut doors = doors;
            let until_stopped = state.keep(&names, &mut doors, dns.map(|dns| (dns, resolv_conf)), &mut tasks);
            let _stopped = own_stop.run_until_cancelled(until_stopped).await;
            doors
        });
        Self { dns: address, stop, control }
    }

    /// Where names are answered.
    pub fn dns(&self) -> Option<SocketAddr> {
        self.dns
    }

    /// What the kernel does goes on without us, unless it is told to forget it.
    pub async fn shutdown(self, forget: bool) {
        self.stop.cancel();
        if let Ok(doors) = self.control.await
            && forget
        {
            doors.forget();
        }
    }
}

/// What the API says, in memory.
struct State {
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    changed: Arc<Notify>,
    node_name: String,
    own: Vec<OwnBackend>,
}

impl State {
    fn follow(client: &Client, tasks: &mut JoinSet<()>, node_name: String, own: Vec<OwnBackend>) -> Self {
        let changed = Arc::new(Notify::new());
        let (services, service_writer) = store();
        let (slices, slice_writer) = store();
        let config = || watcher::Config::default().streaming_lists();
        let found = watcher(Api::<Service>::all(client.clone()), config()).default_backoff();
        tasks.spawn(tell(reflector::reflector(service_writer, found), Arc::clone(&changed)));
        let found = watcher(Api::<EndpointSlice>::all(client.clone()), config()).default_backoff();
        tasks.spawn(tell(reflector::reflector(slice_writer, found), Arc::clone(&changed)));
        tasks.spawn(tell_of_networks(Arc::clone(&changed)));
        Self { services, slices, changed, node_name, own }
    }

    async fn keep(
        &self,
        names: &Arc<ArcSwap<Names>>,
        doors: &mut Doors,
        dns: Option<(DnsListener, PathBuf)>,
        tasks: &mut JoinSet<()>,
    ) {
        // Half a list would close what an earlier engine opened. The writers live as long as their tasks.
        let _both = tokio::join!(self.services.wait_until_ready(), self.slices.wait_until_ready());
        let cluster = self.cluster();
        names.store(Arc::new(Names::new(&cluster)));
        if let Some((dns, resolv_conf)) = dns {
            tasks.spawn(dns.serve(Arc::clone(names), resolv_conf));
        }
        let mut cluster = Some(cluster);
        loop {
            let now = cluster.take().unwrap_or_else(|| self.cluster());
            names.store(Arc::new(Names::new(&now)));
            let done = doors.keep(&now).await;
            let changed = self.changed.notified();
            match done {
                true => changed.await,
                false => drop(tokio::time::timeout(RETRY, changed).await),
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    fn cluster(&self) -> Cluster {
        Cluster {
            services: self.services.state(),
            slices: self.slices.state(),
            own: self.own.clone(),
            node_name: self.node_name.clone(),
        }
    }
}

/// A network of pods that is there now has doors of its own.
#[cfg(target_os = "linux")]
async fn tell_of_networks(changed: Arc<Notify>) {
    let mut networks = sluice_reach::changed();
    while networks.changed().await.is_ok() {
        changed.notify_one();
    }
}

#[cfg(not(target_os = "linux"))]
async fn tell_of_networks(_: Arc<Notify>) {}

async fn tell<K>(events: impl Stream<Item = watcher::Result<watcher::Event<K>>>, changed: Arc<Notify>) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(_) => changed.notify_one(),
            Err(error) => tracing::debug!(%error, "Watch interrupted"),
        }
    }
}

/// Where services are reached.
#[derive(Debug)]
struct Doors {
    forwarder: Forwarder,
    part: Part,
    #[cfg(target_os = "linux")]
    filter: Option<crate::kernel::Filter>,
    /// Held as long as the doors are ours.
    _plan: Plan,
}

impl Doors {
    fn new(plan: Plan) -> Self {
        Self {
            forwarder: Forwarder::new(),
            part: if plan.in_kernel() { Part::LeftByTheKernel } else { Part::Everything },
            #[cfg(target_os = "linux")]
            filter: plan.in_kernel().then(crate::kernel::Filter::default),
            _plan: plan,
        }
    }

    /// Whether everything is as it should be.
    async fn keep(&mut self, cluster: &Cluster) -> bool {
        let doors = cluster.doors();
        self.forwarder.keep(&doors, self.part).await;
        let done = !self.forwarder.is_waiting();
        #[cfg(target_os = "linux")]
        if let Some(filter) = &mut self.filter
            && let Err(error) = filter.keep(&doors)
        {
            tracing::warn!(%error, "The packet filter refused the table of services");
            return false;
        }
        done
    }

    fn forget(mut self) {
        #[cfg(target_os = "linux")]
        if let Some(filter) = &mut self.filter
            && let Err(error) = filter.remove()
        {
            tracing::warn!(%error, "The packet filter kept the table of services");
        }
        #[cfg(not(target_os = "linux"))]
        let _nothing_stays = &mut self;
    }
}
