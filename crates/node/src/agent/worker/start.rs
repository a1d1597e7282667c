//! Brings a pod up: adopts the supervisor that runs, resumes one that was lost, or starts the first.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt as _;
use sluice_pod::{
    confinement::Sandbox,
    driver::cgroup,
    plan::{Launch, PodPlan},
    pod_dir::{PASSAGE_DIR, Recovered, make_dir, read_json, recover_json, write_json},
    wire::PodState,
};
use tracing::{debug, info};

use super::{SyncError, Worker};
use crate::agent::{
    admission,
    confine::{hostname, write_etc},
    driver_choice::{self, Kind},
    ignored,
    link::{Link, LinkError},
    network::{Settled, host_ports},
    prepare::Preparation,
    remains,
    resources::pod_resources,
    sources::{Sources, references},
    volumes,
};

impl Worker {
    pub(super) async fn ensure_running(&mut self) -> Result<(), SyncError> {
        if self.link.is_some() || self.finished() {
            return Ok(());
        }
        if self.plan.is_some() {
            return self.adopt_or_resume().await;
        }
        match recover_json(&self.dir.plan())? {
            Recovered::Whole(Some(plan)) => {
                self.plan = Some(plan);
                self.adopt_or_resume().await
            }
            Recovered::Whole(None) => {
                self.begin().await?;
                self.launch().await
            }
            Recovered::Damaged(what) => {
                // What was planned then follows from the pod.
                self.context.warning(&self.pod, None, "DamagedRecord", &what);
                self.begin().await?;
                self.adopt_or_resume().await
            }
        }
    }

    /// Takes hold of what an earlier agent, or an earlier supervisor, has left.
    pub(super) async fn adopt_or_resume(&mut self) -> Result<(), SyncError> {
        match Link::connect(&self.dir).await {
            Ok(link) => {
                debug!(pod = self.pod.name_any(), "Adopted");
                self.hold(link);
                // The agent before us may have ended before it said where the pod's ports lead.
                return self.connect().await;
            }
            // It is there, only not for us.
            Err(error @ LinkError::Foreign { .. }) => return Err(error.into()),
            Err(error @ LinkError::Silent) if remains::is_attended(&self.dir) => return Err(error.into()),
            Err(error) => debug!(pod = self.pod.name_any(), %error, "No supervisor"),
        }
        let saved = match recover_json::<PodState>(&self.dir.state())? {
            Recovered::Whole(saved) => saved,
            Recovered::Damaged(what) => {
                self.context.warning(&self.pod, None, "DamagedRecord", &what);
                None
            }
        };
        if let Some(saved) = saved {
            if saved.finished {
                self.state = Some(Arc::new(saved));
                return Ok(());
            }
            self.holds.testify(&self.dir)?;
            let message = "the pod's supervisor was lost: another one takes over what it left";
            self.context.warning(&self.pod, None, "SupervisorLost", message);
        }
        self.connect().await?;
        self.launch().await
    }

    /// Writes down what the pod is to be.
    async fn begin(&mut self) -> Result<(), SyncError> {
        // Made once by the agent: when it has gone, so has everything.
        std::fs::metadata(self.context.options.pods_dir())?;
        make_dir(self.dir.path(), PASSAGE_DIR)?;
        if self.memory.address.is_none() {
            self.settle()?;
        }
        // Also when that was left undone by a full disk before.
        self.remember()?;
        if let Some(spec) = &self.pod.spec
            && let Err(refusal) = admission::admit(spec, self.memory.confined, enforces_apparmor())
        {
            return self.reject(&refusal).await;
        }
        if let (true, Some(spec)) = (self.has_own_network(), &self.pod.spec) {
            hostname(&self.pod, spec).map_err(SyncError::Driver)?;
        }
        self.connect().await?;
        let sources = self.write_volumes().await?;
        self.give_volumes(&sources).await?;
        let plan = self.make_plan(&sources).ok_or(SyncError::NoSpec)?;
        write_json(&self.dir.plan(), &plan)?;
        self.tell_withheld(&plan, None);
        self.tell_ignored();
        self.tell_placements();
        self.plan = Some(plan);
        self.stale = false;
        Ok(())
    }

    /// Decides once and for all what the pod runs as, and where it is reached.
    fn settle(&mut self) -> Result<(), SyncError> {
        let spec = self.pod.spec.as_ref().ok_or(SyncError::NoSpec)?;
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let images = &self.context.images;
        let all_known = containers.all(|container| images.is_process(container.image.as_deref().unwrap_or_default()));
        let (driver, containers) = (self.context.options.driver, self.context.containers);
        let kind = driver_choice::choose(driver, spec, all_known, containers).map_err(SyncError::Driver)?;
        let now = Timestamp::now();
        self.memory.confined = kind == Kind::Container;
        let address = match (kind, self.context.host_ip) {
            (Kind::Process, _) => self.context.addresses.allocate(now)?,
            (Kind::Container, IpAddr::V4(host)) if spec.host_network == Some(true) => host,
            (Kind::Container, _) => {
                let Settled { address, address_v6, namespace } = self.context.net.settle(now)?;
                self.network = namespace;
                self.memory.address_v6 = address_v6;
                address
            }
        };
        if kind == Kind::Container && spec.host_network != Some(true) {
            let addresses: Vec<_> =
                [IpAddr::V4(address)].into_iter().chain(self.memory.address_v6.map(IpAddr::V6)).collect();
            self.memory.host_ports = host_ports(spec, &addresses);
        }
        self.memory.address = Some(address);
        Ok(())
    }

    /// A container pod needs a network to be connected to, and its ports of the machine must lead to it.
    async fn connect(&self) -> Result<(), SyncError> {
        if self.has_own_network() {
            self.context.net.join(&self.pod.uid().unwrap_or_default(), self.memory.host_ports.clone()).await?;
        }
        Ok(())
    }

    fn has_own_network(&self) -> bool {
        let on_the_host = self.pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        self.memory.confined && !on_the_host
    }

    fn sandbox(&self) -> Option<Sandbox> {
        let spec = self.pod.spec.as_ref().filter(|_| self.memory.confined)?;
        let address = self.memory.address.filter(|_| spec.host_network != Some(true));
        let hostname = match self.has_own_network() {
            // Looked at before the pod began.
            true => hostname(&self.pod, spec).unwrap_or_default(),
            false => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
        Some(Sandbox {
            hostname,
            holder: self.context.net.holder(),
            network: address.map(|address| self.context.net.of_pod(address, self.memory.address_v6)),
            host_ipc: spec.host_ipc == Some(true),
            host_pid: spec.host_pid == Some(true),
            share_pids: spec.share_process_namespace == Some(true),
            resources: pod_resources(spec),
            sysctls: sysctls.map(|setting| (setting.name.clone(), setting.value.clone())).collect(),
        })
    }

    async fn launch(&mut self) -> Result<(), SyncError> {
        if !self.memory.confined && self.context.means.limits.is_some() {
            // Nobody waits for it, only the pod's first process would.
            drop(tokio::task::spawn_blocking(cgroup::announce_move));
        }
        let started = Link::start(self.context.options.exe.clone(), self.dir.clone(), self.network.take()).await;
        // However short this pod is: the next one is not to wait.
        if self.has_own_network() {
            self.context.net.prepare_more();
        }
        match started {
            Ok(link) => {
                info!(pod = self.pod.name_any(), "Started");
                self.hold(link);
                Ok(())
            }
            Err(error) => match read_json::<PodState>(&self.dir.state())?.filter(|saved| saved.finished) {
                // A short pod can be over before anybody has asked for it.
                Some(saved) => {
                    self.state = Some(Arc::new(saved));
                    Ok(())
                }
                None => Err(error.into()),
            },
        }
    }

    fn hold(&mut self, link: Link) {
        // Probes speak to the supervisor that they began with.
        self.probing.clear();
        self.holds.follow(&self.dir, &link.state());
        self.state = Some(link.state());
        self.link = Some(link);
    }

    /// Makes the volumes hold what they should now.
    pub(super) async fn write_volumes(&mut self) -> Result<Sources, SyncError> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let wanted: BTreeSet<_> = references(&self.pod);
        let mut sources = Sources::fetch(&self.context.client, &namespace, &wanted).await?;
        let links = self.pod.spec.as_ref().is_none_or(|spec| spec.enable_service_links != Some(false));
        sources.fetch_services(&self.context.client, links).await?;
        let facts = self.facts().ok_or(SyncError::NoSpec)?;
        self.tokens.refresh(&self.context.client, &self.pod, Timestamp::now()).await?;
        volumes::write(&self.pod, &self.dir, &facts, &sources, &self.tokens)?;
        if let Some(sandbox) = self.sandbox() {
            write_etc(&self.pod, &self.dir, &facts, &sandbox, self.context.cluster_dns)?;
        }
        Ok(sources)
    }

    /// Volumes that outlive pods get the group of this one.
    async fn give_volumes(&self, sources: &Sources) -> Result<(), SyncError> {
        let wanted = volumes::ownerships(&self.pod, &self.dir, sources);
        if wanted.is_empty() {
            return Ok(());
        }
        let given = tokio::task::spawn_blocking(move || wanted.iter().try_for_each(volumes::Ownership::give));
        Ok(given.await.unwrap_or_else(|panicked| Err(std::io::Error::other(panicked)))?)
    }

    pub(super) fn make_plan(&self, sources: &Sources) -> Option<PodPlan> {
        let facts = self.facts()?;
        let preparation = Preparation {
            pod: &self.pod,
            spec: self.pod.spec.as_ref()?,
            dir: &self.dir,
            facts: &facts,
            sources,
            images: &self.context.images,
            pulls: &self.context.pulls,
            options: &self.context.options,
            means: &self.context.means,
            sandbox: self.sandbox(),
        };
        Some(preparation.plan())
    }

    /// Says of each container that cannot be started why, when that is news.
    pub(super) fn tell_withheld(&self, plan: &PodPlan, before: Option<&PodPlan>) {
        for (index, container) in plan.containers.iter().enumerate() {
            let Launch::Withheld { reason, message } = &container.launch else { continue };
            if before.is_some_and(|before| before.containers[index].launch == container.launch) {
                continue;
            }
            let told = |reason: &str, warning: bool, message: &str| {
                let at = Timestamp::now();
                self.context.happened(&self.pod, Some(&container.name), reason, message, warning, at);
            };
            match reason.as_str() {
                // The pull tells for itself.
                "ErrImagePull" if self.memory.confined => {}
                "ErrImagePull" => {
                    told("Failed", true, &format!("Failed to pull image \"{}\": {message}", container.image));
                    told("Failed", true, "Error: ErrImagePull");
                }
                "ImagePullBackOff" => {
                    told("BackOff", false, &format!("Back-off pulling image \"{}\"", container.image));
                    told("Failed", true, "Error: ImagePullBackOff");
                }
                "ContainerCreating" => {}
                "InvalidImageName" => {
                    told("InspectFailed", true, message);
                    told("Failed", true, "Error: InvalidImageName");
                }
                "ErrImageNeverPull" => {
                    told("ErrImageNeverPull", true, message);
                    told("Failed", true, "Error: ErrImageNeverPull");
                }
                _ => told("Failed", true, &format!("Error: {message}")),
            }
        }
    }

    /// What the manifest asks for and this pod does not get.
    fn tell_ignored(&self) {
        let runs = if self.memory.confined { ignored::Runs::Contained } else { ignored::Runs::Free };
        let told = ignored::told(&self.pod, runs(&self.context.means));
        if let Some(message) = told {
            self.context.warning(&self.pod, None, "FieldsIgnored", &message);
        }
        if let Some(message) = self.context.means.gap(&self.pod).filter(|_| !self.memory.confined) {
            self.context.warning(&self.pod, None, "ConfinementIncomplete", &message);
        }
    }

    /// A process has no mount namespace: says where its volumes really lie, and that some wishes are not met.
    fn tell_placements(&self) {
        if self.memory.confined {
            return;
        }
        for container in
            self.pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
        {
            let (_, elsewhere) = volumes::placements(&self.pod, &self.dir, container);
            if !elsewhere.is_empty() {
                let message = format!("A process sees this machine's own files, so {}", elsewhere.join("; "));
                self.context.warning(&self.pod, Some(&container.name), "MountPathUnavailable", &message);
            }
            if container.security_context.as_ref().is_some_and(|context| context.run_as_user.is_some())
                && !rustix::process::geteuid().is_root()
            {
                let message = "runAsUser is ignored: without root, a process runs as the user of its node";
                self.context.warning(&self.pod, Some(&container.name), "SecurityContextIgnored", message);
            }
        }
    }
}

/// Whether the kernel knows AppArmor and has it switched on.
fn enforces_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|enabled| enabled.starts_with('Y'))
}
