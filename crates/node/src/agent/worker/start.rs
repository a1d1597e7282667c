//! Brings a pod up: adopts the supervisor that runs, resumes one that was lost, or starts the first.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt as _;
use tracing::{debug, info};

use super::{SyncError, Worker};
use crate::{
    agent::{
        link::{Link, kill_leftovers},
        prepare::Preparation,
        sources::{Sources, references},
        volumes,
    },
    plan::{Launch, PodPlan},
    pod_dir::{PASSAGE_DIR, make_dir, read_json, write_json},
    wire::PodState,
};

impl Worker {
    pub(super) async fn ensure_running(&mut self) -> Result<(), SyncError> {
        if self.link.is_some() || self.finished() {
            return Ok(());
        }
        if self.plan.is_none() {
            self.plan = read_json(&self.dir.plan())?;
        }
        match self.plan {
            Some(_) => self.adopt_or_resume().await,
            None => self.begin().await,
        }
    }

    /// Takes hold of what an earlier agent, or an earlier supervisor, has left.
    pub(super) async fn adopt_or_resume(&mut self) -> Result<(), SyncError> {
        match Link::connect(&self.dir).await {
            Ok(link) => {
                debug!(pod = self.pod.name_any(), "Adopted");
                self.hold(link);
                return Ok(());
            }
            Err(error) => debug!(pod = self.pod.name_any(), %error, "No supervisor"),
        }
        let saved: Option<PodState> = read_json(&self.dir.state())?;
        if let Some(saved) = saved {
            if saved.finished {
                self.state = Some(Arc::new(saved));
                return Ok(());
            }
            kill_leftovers(&saved);
            let message = "the pod's supervisor was lost: what ran under it was ended and starts again";
            self.context.warning(&self.pod, None, "SupervisorLost", message);
        }
        self.launch().await
    }

    async fn begin(&mut self) -> Result<(), SyncError> {
        make_dir(self.dir.path(), PASSAGE_DIR)?;
        if self.memory.address.is_none() {
            self.memory.address = Some(self.context.addresses.allocate(Timestamp::now())?);
            self.remember()?;
        }
        let sources = self.write_volumes().await?;
        let plan = self.make_plan(&sources).ok_or(SyncError::NoSpec)?;
        write_json(&self.dir.plan(), &plan)?;
        self.tell_withheld(&plan, None);
        self.tell_placements();
        self.plan = Some(plan);
        self.stale = false;
        self.launch().await
    }

    async fn launch(&mut self) -> Result<(), SyncError> {
        match Link::start(self.context.options.exe.clone(), self.dir.clone()).await {
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
        self.state = Some(link.state());
        self.link = Some(link);
    }

    /// Makes the volumes hold what they should now.
    pub(super) async fn write_volumes(&mut self) -> Result<Sources, SyncError> {
        let namespace = self.pod.namespace().unwrap_or_default();
        let wanted: BTreeSet<_> = references(&self.pod);
        let sources = Sources::fetch(&self.context.client, &namespace, &wanted).await?;
        let facts = self.facts().ok_or(SyncError::NoSpec)?;
        self.tokens.refresh(&self.context.client, &self.pod, Timestamp::now()).await?;
        volumes::write(&self.pod, &self.dir, &facts, &sources, &self.tokens)?;
        Ok(sources)
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
            options: &self.context.options,
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
                "ErrImagePull" => {
                    told("Failed", true, &format!("Failed to pull image \"{}\": {message}", container.image));
                    told("Failed", true, "Error: ErrImagePull");
                }
                "ImagePullBackOff" => {
                    told("BackOff", false, &format!("Back-off pulling image \"{}\": {message}", container.image));
                    told("Failed", true, "Error: ImagePullBackOff");
                }
                _ => told("Failed", true, &format!("Error: {message}")),
            }
        }
    }

    /// A process has no mount namespace: says where its volumes really lie, and that some wishes are not met.
    fn tell_placements(&self) {
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
