//! While a pod runs: volumes and environments follow their sources, probes follow the containers.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};
use sluice_pod::{
    plan::{Launch, PodPlan},
    wire::Request,
};
use tokio::time::Instant;
use tracing::warn;

use super::{IDLE, RETRY, SyncError, Worker};
use crate::agent::{
    memory::Readiness,
    probes::{self, Finding, News, Purpose, Subject},
    pulls::{FAILURE_SHOWN, back_off_message},
    status::running_containers,
};

impl Worker {
    /// Brings volumes and commands up to date if their sources may have changed; says when to look again.
    pub(super) async fn refresh(&mut self) -> Result<Duration, SyncError> {
        let Some(link) = self.link.clone().filter(|_| self.stale) else {
            return Ok(self.until_recheck());
        };
        let sources = self.write_volumes().await?;
        let Some(mut plan) = self.make_plan(&sources) else { return Ok(IDLE) };
        self.slow_down_pulls(&mut plan);
        self.tell_withheld(&plan, self.plan.as_ref());
        for (index, container) in plan.containers.iter().enumerate() {
            let known = self.plan.as_ref().map(|known| &known.containers[index]);
            let image = known.is_none_or(|known| known.image != container.image).then(|| container.image.clone());
            if image.is_some() || known.is_none_or(|known| known.launch != container.launch) {
                let launch = Box::new(container.launch.clone());
                link.call(Request::Provide { container: container.name.clone(), launch, image: image.clone() }).await?;
            }
            if image.is_some() {
                self.end_changed(&container.name).await;
            }
        }
        self.plan = Some(plan);
        self.stale = false;
        Ok(self.until_recheck())
    }

    /// Other news must not put off the next look at withheld containers and ageing tokens.
    fn until_recheck(&mut self) -> Duration {
        let wait = if self.is_withheld() { Some(RETRY) } else { self.tokens.renew_in(Timestamp::now()) };
        let Some(wait) = wait else { return IDLE };
        let now = Instant::now();
        let at = self.recheck_at.map_or(now + wait, |at| at.min(now + wait));
        self.recheck_at = Some(at);
        at.saturating_duration_since(now).min(IDLE)
    }

    /// Another image for a container that runs: it is ended, and starts again from the new one.
    async fn end_changed(&self, container: &str) {
        let running = self.state.as_ref().and_then(|state| state.container(container)?.running());
        let Some((id, _)) = running else { return };
        let message = format!("Container {container} definition changed, will be restarted");
        let grace_seconds = self.plan.as_ref().map_or(0, |plan| plan.grace_seconds);
        self.ask(Request::End { container: container.to_owned(), id: id.to_owned(), grace_seconds, message }).await;
    }

    pub(super) fn is_withheld(&self) -> bool {
        let containers = self.plan.iter().flat_map(|plan| &plan.containers);
        containers.into_iter().any(|container| matches!(container.launch, Launch::Withheld { .. }))
    }

    /// An image that no process image stands for is waited for as one that cannot be pulled.
    fn slow_down_pulls(&mut self, plan: &mut PodPlan) {
        let now = Timestamp::now();
        for container in &mut plan.containers {
            match &mut container.launch {
                Launch::Withheld { reason, message } if reason == "ErrImagePull" && !self.memory.confined => {
                    let since = *self.pull_failed.entry(container.name.clone()).or_insert(now);
                    if now.duration_since(since).unsigned_abs() >= FAILURE_SHOWN {
                        *reason = "ImagePullBackOff".to_owned();
                        *message = back_off_message(&container.image, message);
                    }
                }
                _ => drop(self.pull_failed.remove(&container.name)),
            }
        }
    }

    /// Starts the probes that should run now and ends the others.
    pub(super) fn update_probes(&mut self) {
        let (Some(state), Some(link), Some(pod_ip)) = (self.state.clone(), self.link.clone(), self.memory.address)
        else {
            self.probing.clear();
            return;
        };
        let ending = self.pod.metadata.deletion_timestamp.is_some();
        let mut wanted = BTreeSet::new();
        for (container, id, started_at, started) in running_containers(&state) {
            let Some(spec) = self.container(&container.name).cloned() else { continue };
            for (purpose, probe) in due(&spec, started, ending) {
                let key = (container.name.clone(), purpose);
                wanted.insert(key.clone());
                if self.probing.get(&key).is_none_or(|(probed, _)| probed != id) {
                    let subject = Subject { container: &spec, id, started_at, pod_ip, link: &link };
                    let probing = probes::start(purpose, probe, &subject, self.findings.0.clone());
                    self.probing.insert(key, (id.to_owned(), probing));
                }
            }
        }
        self.probing.retain(|key, _| wanted.contains(key));
    }

    /// Acts on what a probe found.
    pub(super) async fn take(&mut self, finding: Finding) {
        let running = self.state.as_ref().and_then(|state| state.container(&finding.container)?.running());
        let Some((id, started_at)) = running.filter(|(id, _)| *id == finding.id) else { return };
        let id = id.to_owned();
        match (finding.news, finding.purpose) {
            (News::Failed(why), purpose) => {
                let message = format!("{} probe failed: {why}", purpose.title());
                self.context.warning(&self.pod, Some(&finding.container), "Unhealthy", &message);
            }
            (News::Odd(why), purpose) => {
                let message = format!("{} probe warning: {why}", purpose.title());
                self.context.warning(&self.pod, Some(&finding.container), "ProbeWarning", &message);
            }
            (News::Verdict(ready), Purpose::Readiness) => {
                let readiness = Readiness { id, started_at, ready };
                self.memory.readiness.insert(finding.container, readiness);
                if let Err(error) = self.remember() {
                    warn!(%error, "Readiness not remembered");
                }
            }
            (News::Verdict(true), Purpose::Startup) => {
                self.ask(Request::Started { container: finding.container, id }).await;
            }
            (News::Verdict(true), Purpose::Liveness) => {}
            (News::Verdict(false), purpose) => self.end_unhealthy(finding.container, id, purpose).await,
        }
    }

    async fn end_unhealthy(&mut self, container: String, id: String, purpose: Purpose) {
        let (Some(spec), Some(pod)) = (self.container(&container), &self.pod.spec) else { return };
        let grace_seconds = probes::grace_seconds(purpose, spec, pod);
        let kind = purpose.title().to_lowercase();
        let message = format!("Container {container} failed {kind} probe, will be restarted");
        self.ask(Request::End { container, id, grace_seconds, message }).await;
    }

    async fn ask(&self, request: Request) {
        let Some(link) = &self.link else { return };
        if let Err(error) = link.call(request).await {
            // The supervisor is gone or slow; the next look starts from what it says then.
            warn!(%error, "Supervisor not reached");
        }
    }

    /// Containers that run, are started, and whose readiness probe succeeds, or that have none.
    pub(super) fn ready(&self) -> BTreeSet<String> {
        let Some(state) = &self.state else { return BTreeSet::new() };
        let ready = running_containers(state).filter(|(container, id, started_at, started)| {
            let probed = self.container(&container.name).is_some_and(|spec| spec.readiness_probe.is_some());
            let remembered = self.memory.readiness.get(&container.name);
            let passed = remembered.is_some_and(|it| it.ready && it.id == *id && it.started_at == *started_at);
            *started && (!probed || passed)
        });
        ready.map(|(container, ..)| container.name.clone()).collect()
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.pod.spec.as_ref()?;
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
    }
}

/// The probes that a running container gets in its present state.
fn due(spec: &Container, started: bool, ending: bool) -> Vec<(Purpose, &Probe)> {
    let liveness = spec.liveness_probe.iter().map(|probe| (Purpose::Liveness, probe));
    let readiness = spec.readiness_probe.iter().map(|probe| (Purpose::Readiness, probe));
    let startup = spec.startup_probe.iter().map(|probe| (Purpose::Startup, probe));
    match (started, ending) {
        (true, true) => readiness.collect(),
        (true, false) => readiness.chain(liveness).collect(),
        (false, true) => Vec::new(),
        (false, false) => startup.collect(),
    }
}
