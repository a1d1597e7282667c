//! Starting and stopping the parts, in the order in which they need each other.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io};

use sluice_api::{Live, Pki, Server};
use sluice_control::release::{self, ReleaseOptions};
use sluice_control::workload::{self, WorkloadOptions};
use sluice_gateway::{Gateway, GatewayHandle, GatewayOptions};
use sluice_node::{Agent, Driver, NodeOptions};
use sluice_services::{Plan, Services};
use sluice_store::{OpenError, Store};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clients::client;
use crate::data::{DataLost, DataWatch};
use crate::definitions;
use crate::logs::NodeLogs;
use crate::measure::{GatewayCounters, GatewayMeasures};
use crate::metrics::NodeMetrics;
use crate::options::{Options, StartError};
use crate::services;
use crate::streams::NodeStreams;

/// A running engine.
pub struct Engine {
    api: SocketAddr,
    kubeconfig: PathBuf,
    ready_after: Duration,
    client: kube::Client,
    server: Server,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    parts: Option<Parts>,
    stop_pods: bool,
    data: DataWatch,
}

/// Where the API asks parts that start after it.
#[derive(Clone, Copy)]
struct Seams<'a> {
    logs: &'a NodeLogs,
    streams: &'a NodeStreams,
    metrics: &'a NodeMetrics,
    counted: &'a GatewayMeasures,
}

/// Everything above the API.
struct Parts {
    agent: Agent,
    services: Services,
    gateway: GatewayHandle,
    controllers: JoinSet<()>,
    stop_controllers: CancellationToken,
}

impl Engine {
    /// Returns once the API answers and every part works.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let started = Instant::now();
        make_data_dir(&options.data)?;
        let listener = bind(options.api, "--api").await?;
        let api = listener.local_addr().map_err(StartError::other)?;
        let store = open_store(&options.data)?;
        let data = DataWatch::over(&options.data);
        // Where no pod can have such an address, no service needs one.
        let ipv6 = options.ipv6 && options.driver != Driver::Process;
        let plan =
            if options.controllers { Some(services::plan(options.services, &options.data, ipv6)?) } else { None };
        let service_network = plan.as_ref().map(|plan| plan.network);
        let names: Vec<IpAddr> =
            service_network.iter().map(|network| IpAddr::V4(network.api())).chain([api.ip()]).collect();
        let pki = Pki::open(&options.data.join("pki"), &names).map_err(StartError::other)?;
        let logs = Arc::new(NodeLogs::default());
        let streams = Arc::new(NodeStreams::default());
        let metrics = Arc::new(NodeMetrics::default());
        let counted = Arc::new(GatewayMeasures::default());
        let live = || {
            let used = Live { kinds: sluice_schema::metrics_api(), objects: metrics.clone() };
            vec![used, Live { kinds: sluice_schema::measured_api(), objects: counted.clone() }]
        };
        let server_options = sluice_api::Options {
            admin_token: Some(pki.admin_token.clone()),
            logs: Some(logs.clone()),
            streams: Some(streams.clone()),
            live: plan.as_ref().map(|_| live()).unwrap_or_default(),
            measures: Some(counted.clone()),
            service_network: service_network.map(|network| (network.address, network.prefix_length)),
            service_network_v6: plan.as_ref().and_then(|plan| plan.network_v6),
        };
        let server = Server::start(store, server_options).await.map_err(StartError::other)?;
        let tls = pki.server_tls().map_err(StartError::other)?;
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(server.clone(), listener, tls, stop.clone()));

        let admin = client(&server, "engine");
        definitions::install(&server, &admin).await?;
        let parts = match plan {
            Some(plan) => {
                let seams = Seams { logs: &logs, streams: &streams, metrics: &metrics, counted: &counted };
                Some(Parts::start(&server, &options, (plan, api), seams, &pki.ca).await?)
            }
            None => None,
        };
        let kubeconfig = options.kubeconfig.clone().unwrap_or_else(|| options.data.join("kubeconfig"));
        sluice_api::write_kubeconfig(&kubeconfig, &pki.kubeconfig(&format!("https://{api}")))
            .map_err(StartError::other)?;
        Ok(Self {
            api,
            kubeconfig,
            ready_after: started.elapsed(),
            client: admin,
            server,
            stop,
            serving,
            parts,
            stop_pods: options.stop_pods,
            data,
        })
    }

    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// The gateway's default listener; none without controllers.
    pub fn gateway(&self) -> Option<SocketAddr> {
        self.parts.as_ref().map(|parts| parts.gateway.address())
    }

    /// Where names of services are answered, if anywhere.
    pub fn dns(&self) -> Option<SocketAddr> {
        self.parts.as_ref().and_then(|parts| parts.services.dns())
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// A client that may do everything, without sockets.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Returns when the data directory was taken away: what is written from then on is lost, so the engine should end.
    pub async fn data_lost(&self) -> DataLost {
        self.data.lost().await
    }

    /// Stops the parts in the reverse order; pods run on unless the options said otherwise, or they have lost what they live in.
    pub async fn shutdown(self) {
        let stop_pods = self.stop_pods || self.data.is_lost();
        if let Some(Parts { agent, services, gateway, mut controllers, stop_controllers }) = self.parts {
            // Controllers first: they would replace what is being stopped.
            stop_controllers.cancel();
            while controllers.join_next().await.is_some() {}
            if stop_pods {
                agent.stop_all().await;
            } else {
                agent.shutdown().await;
            }
            services.shutdown(stop_pods).await;
            gateway.shutdown().await;
        }
        self.stop.cancel();
        self.server.stop();
        let _ = self.serving.await;
    }
}

impl Parts {
    async fn start(
        server: &Server,
        options: &Options,
        (plan, api): (Plan, SocketAddr),
        seams: Seams<'_>,
        ca: &str,
    ) -> Result<Self, StartError> {
        definitions::install_classes(&client(server, "engine")).await?;
        let gateway_options = GatewayOptions {
            address: options.gateway,
            tls_address: options.gateway_tls,
            addresses: options.gateway_addresses.clone(),
            trusted_proxies: options.trusted_proxies.clone(),
            access_log: options.access_log,
            ..GatewayOptions::default()
        };
        let gateway = Gateway::start(client(server, "gateway"), gateway_options).await.map_err(gateway_failed)?;
        let dns = services::listen(options.dns, &plan).await?;
        let dns_service = match dns {
            Some(_) => services::dns_service(&client(server, "engine"), &plan).await?,
            None => None,
        };
        let node_options = NodeOptions {
            driver: options.driver,
            ipv6: options.ipv6,
            service_network_v6: plan.network_v6,
            cluster_dns: dns_service.filter(|address| plan.in_kernel() != address.is_loopback()),
            ..NodeOptions::new(&options.data, &options.program)
        };
        let services = services::start(client(server, "services"), plan, dns, api, node_options.node_name.clone());
        let agent = Agent::start(client(server, "node"), node_options).await.map_err(StartError::other)?;
        seams.logs.connect(agent.logs());
        seams.streams.connect(agent.streams());
        seams.metrics.connect(agent.usage());
        seams.counted.connect(gateway.counters());
        let stop_controllers = CancellationToken::new();
        let mut controllers = JoinSet::new();
        let workload_options = WorkloadOptions { ca_pem: ca.to_owned() };
        controllers.spawn(workload::run(client(server, "workload"), workload_options, stop_controllers.clone()));
        let measure = Arc::new(GatewayCounters(gateway.counters()));
        let release_options = ReleaseOptions::default();
        controllers.spawn(release::run(client(server, "release"), measure, release_options, stop_controllers.clone()));
        Ok(Self { agent, services, gateway, controllers, stop_controllers })
    }
}

async fn serve(server: Server, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
    if let Err(error) = sluice_api::serve(server, listener, tls, stop).await {
        tracing::error!(%error, "The API stopped listening");
    }
}

async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| listen_failed(address, flag, error))
}

fn listen_failed(address: SocketAddr, flag: &'static str, error: io::Error) -> StartError {
    match error.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address, flag },
        _ => StartError::Listen { address, flag, source: error },
    }
}

fn gateway_failed(error: sluice_gateway::StartError) -> StartError {
    match error {
        sluice_gateway::StartError::Listen { address, source } => listen_failed(address, "--gateway", source),
        other => StartError::other(other),
    }
}

/// Processes of pods may run as somebody else, who passes through it to the pod's own directory. What is secret is closed
/// to others by its own mode.
const DATA_DIR_MODE: u32 = 0o711;

/// Whoever made a directory that is there decides who may pass through it.
fn make_data_dir(path: &Path) -> Result<(), StartError> {
    let make = || {
        if path.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(DATA_DIR_MODE).create(path)?;
        // Whatever the umask took from it.
        fs::set_permissions(path, fs::Permissions::from_mode(DATA_DIR_MODE))
    };
    make().map_err(|source| StartError::DataUnwritable { path: path.to_owned(), source })
}

fn open_store(data: &Path) -> Result<Store, StartError> {
    Store::open(data).map_err(|error| match error {
        OpenError::InUse { .. } => StartError::DataInUse { path: data.to_owned() },
        OpenError::NewerFormat { .. } => StartError::DataNewer { path: data.to_owned() },
        OpenError::Io { path, source } => StartError::DataUnwritable { path, source },
        other @ OpenError::Corrupt { .. } => StartError::other(other),
    })
}
