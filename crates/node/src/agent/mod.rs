//! The node agent: follows the pods of its node through the API and makes this machine run them.
//!
//! `node` registers the machine; `pods` keeps a `worker` per pod; `prepare` turns a pod into the plan of its supervisor out of
//! `images`, `env`, `downward`, `sources`, `tokens` and `volumes`; `link` speaks to the supervisor,
//! `pulse` sees whether it gets on, `remains` are those of a lost one; `probes` and `status` find out and report how it goes; `drain` and `teardown` see it out;
//! `logs` reads what it wrote; `streams` talks to what runs; `usage` measures it;
//! `provisioner` makes directories for claims.

mod addresses;
mod admission;
mod bounds;
mod confine;
mod context;
mod downward;
mod drain;
mod driver_choice;
mod env;
mod events;
mod expand;
mod holding;
mod host_doors;
mod ignored;
mod images;
mod link;
mod logs;
mod memory;
mod network;
mod node;
mod options;
mod packet_filter;
mod pods;
mod prepare;
mod probes;
mod provisioner;
mod pulls;
mod pulse;
mod remains;
mod resources;
mod service_env;
mod signals;
mod sources;
mod status;
mod streams;
mod teardown;
mod tokens;
mod usage;
mod volumes;
mod warm;
mod worker;

use std::{hash::BuildHasher as _, path::PathBuf, sync::Arc};

use tokio::{
    sync::{broadcast, watch},
    task::JoinSet,
};
use tracing::warn;

use self::{
    addresses::AddressPool,
    context::Context,
    driver_choice::{Containers, Obstacle},
    events::Recorder,
    images::Images,
    memory::Memory,
    network::PodNet,
    pulls::Pulls,
};

pub use logs::{LogError, LogOptions, LogReader, LogSource, LogStream, LogTarget};
pub use options::{Driver, NodeOptions};
pub use provisioner::PROVISIONER;
use sluice_pod::pod_dir::{PASSAGE_DIR, PRIVATE_DIR, PodDir, make_dir, read_json};
pub use streams::{Ended, StreamError, StreamOpener, StreamSource, StreamWish, Streams, TerminalSize};
pub use usage::{ContainerUsage, NodeUsage, PodUsage, Usage, UsageReader};

/// Changes of ConfigMaps, Secrets and images that a slow pod may lag behind before it looks at all of them again.
const MAX_CHANGES: usize = 256;

/// Why an agent did not come up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot create `{}`", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("cannot open the images")]
    Images(#[source] Box<sluice_image::StoreError>),
    #[error("cannot register node `{name}`")]
    Register { name: String, source: Box<kube::Error> },
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    options: Arc<NodeOptions>,
    usage: UsageReader,
    rootless: bool,
    stop: watch::Sender<bool>,
    /// Ends by itself when told to stop.
    pods: JoinSet<()>,
    /// Watches that have no end of their own.
    watches: JoinSet<()>,
}

impl Agent {
    /// Registers the node, adopts the pods that already run, and follows the API from then on.
    pub async fn start(client: kube::Client, options: NodeOptions) -> Result<Self, StartError> {
        let options = Arc::new(options);
        for (path, mode) in
            [(options.pods_dir(), PASSAGE_DIR), (options.volumes_dir(), PASSAGE_DIR), (options.logs_dir(), PRIVATE_DIR)]
        {
            make_dir(&path, mode).map_err(|source| StartError::Directory { path, source })?;
        }
        remains::end_homeless(&options.pods_dir());
        let (recorder, recording) = Recorder::new(client.clone(), options.node_name.clone());
        let (changes, _) = broadcast::channel(MAX_CHANGES);
        let pulls = Pulls::new(&options.data_dir, client.clone(), recorder.clone(), changes.clone())
            .map_err(|error| StartError::Images(Box::new(error)))?;
        node::register(&client, &options, pulls.node_images())
            .await
            .map_err(|source| StartError::Register { name: options.node_name.clone(), source: Box::new(source) })?;
        let (stop, stopping) = watch::channel(false);
        let (mut pods, mut watches) = (JoinSet::new(), JoinSet::new());

        let images = Images::default();
        let (gateways_in, gateways) = watch::channel(None);
        watches.spawn(images.clone().follow(client.clone(), changes.clone()));
        watches.spawn(sources::announce_changes(client.clone(), changes.clone()));
        watches.spawn(drain::follow(client.clone(), gateways_in));
        watches.spawn(provisioner::follow(client.clone(), options.clone()));
        watches.spawn(recording);
        let usage = UsageReader::new(client.clone(), &options.node_name, options.pods_dir());
        watches.spawn(usage.clone().keep());
        watches.spawn(pulls.clone().collect(options.pods_dir()));
        watches.spawn(node::keep_alive(client.clone(), options.clone(), pulls.clone(), stopping.clone()));

        let containers = containers(&options).await;
        // Loopback addresses of services lead out of a pod only where the engine listens in its network.
        let cluster_dns = options.cluster_dns.filter(|dns| dns.is_loopback() == (containers == Containers::Rootless));
        let (addresses, net) = networks(&options, containers);
        let context = Context {
            addresses,
            net,
            containers,
            means: bounds::Means::find_out(),
            cluster_dns,
            host_ip: node::host_ip(),
            allocatable: node::capacity(&options),
            client,
            options: options.clone(),
            images,
            pulls,
            recorder,
            changes,
            gateways,
        };
        let context = Arc::new(context);
        let net = context.clone();
        watches.spawn(async move { net.net.stay_held().await });
        pods.spawn(pods::follow(context, stopping));
        Ok(Self { options, usage, rootless: containers == Containers::Rootless, stop, pods, watches })
    }

    pub fn node_name(&self) -> &str {
        &self.options.node_name
    }

    /// Reads the logs of this node's pods; cheap to clone.
    pub fn logs(&self) -> LogReader {
        LogReader::new(&self.options.data_dir)
    }

    /// Talks to what runs in this node's pods; cheap to clone.
    pub fn streams(&self) -> StreamOpener {
        StreamOpener::new(&self.options.data_dir)
    }

    /// Tells what this machine and its pods use; cheap to clone.
    pub fn usage(&self) -> UsageReader {
        self.usage.clone()
    }

    /// Ends the agent and leaves every pod running: the next agent over the same directory adopts them.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.pods.join_next().await.is_some() {}
        self.watches.shutdown().await;
        remains::end_homeless(&self.options.pods_dir());
    }

    /// Ends the agent and then every pod, each with its own grace period. Their objects stay in the API as they are: the next
    /// agent over the same directory starts them afresh.
    pub async fn stop_all(self) {
        let (options, rootless) = (self.options.clone(), self.rootless);
        self.shutdown().await;
        let directories = std::fs::read_dir(options.pods_dir()).into_iter().flatten().flatten();
        let mut stops: JoinSet<()> = directories
            .map(|directory| {
                let (dir, options) = (PodDir::new(directory.path()), options.clone());
                async move {
                    let _address = teardown::tear_down(&dir, &options, teardown::Grace::Own).await;
                }
            })
            .collect();
        while stops.join_next().await.is_some() {}
        if let Err(error) = PodNet::open(&options, rootless).remove().await {
            warn!(%error, "The pods' network is left behind");
        }
    }
}

/// The addresses of process pods have this many bits in common.
const PROCESS_PREFIX_LENGTH: u32 = 10;

/// Trying takes a process.
async fn containers(options: &NodeOptions) -> Containers {
    let exe = options.exe.clone();
    let found = tokio::task::spawn_blocking(move || Containers::find_out(&exe)).await;
    found.unwrap_or(Containers::Impossible(Obstacle::Privilege))
}

/// Where pods get their addresses from, knowing those that pods have already.
fn networks(options: &NodeOptions, containers: Containers) -> (AddressPool, PodNet) {
    let file = options.data_dir.join("addresses.json");
    let pool = AddressPool::open(options.pod_network, PROCESS_PREFIX_LENGTH, file, seed());
    let mut net = PodNet::open(options, containers == Containers::Rootless);
    if containers == Containers::Root && options.driver != Driver::Process {
        PodNet::tell_families(options);
    }
    for pod in std::fs::read_dir(options.pods_dir()).into_iter().flatten().flatten() {
        let memory: Option<Memory> = read_json(&PodDir::new(pod.path()).memory()).ok().flatten();
        let Some(memory) = memory else { continue };
        if let Some(address) = memory.address {
            pool.adopt(address);
            net.addresses.adopt(address);
        }
        net.adopt(&pod.file_name().to_string_lossy(), memory.host_ports);
    }
    (pool, net)
}

/// Some number that is another one for every agent.
fn seed() -> u32 {
    let random = std::hash::RandomState::new().hash_one(std::process::id());
    // The upper half is as random as the whole.
    (random >> 32) as u32
}
