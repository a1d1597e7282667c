//! One pod: a loop that compares what the API wants, what the supervisor says and what the probes found, and acts.
//!
//! Level-triggered: whatever wakes it, [`Worker::sync`] looks at everything again. `start` brings a pod up or adopts one that
//! runs, `stop` takes it down, `watch` keeps its probes and its volumes current, `report` writes status and events.

mod report;
mod start;
mod stop;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::ResourceExt as _;
use sluice_pod::{
    plan::PodPlan,
    pod_dir::{PodDir, read_json, write_json},
    wire::{PodState, Request},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};
use tracing::{debug, warn};

use super::{
    context::Context,
    downward::Facts,
    link::{Link, LinkError},
    memory::Memory,
    probes::{Finding, Probing, Purpose},
    pulse::{self, Sign},
    remains::{self, Holds},
    sources::{Reference, references},
    tokens::Tokens,
};

/// Findings that wait for their pod; probes wait beyond it.
const MAX_FINDINGS: usize = 32;
/// After something went wrong, the next look is this far away.
const RETRY: Duration = Duration::from_secs(2);
/// Without any reason, a pod is looked at this often.
const IDLE: Duration = Duration::from_secs(60);

/// What the API says of a pod.
#[derive(Debug, Clone)]
pub(super) enum Desired {
    Pod(Arc<Pod>),
    /// The object is gone, without waiting for us.
    Gone,
}

/// Why a look at a pod ended early; it is taken again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error("the API refused")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("cannot write the pod's directory")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Address(#[from] super::addresses::Exhausted),
    #[error(transparent)]
    Network(#[from] super::network::NetworkError),
    #[error("{0}")]
    Driver(String),
    #[error(transparent)]
    Mount(#[from] super::volumes::MountError),
    #[error("the pod has no spec")]
    NoSpec,
    #[error("the pod was rejected")]
    Rejected,
}

/// What to do after a look.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Wait for news, and this long at most.
    Wait(Duration),
    /// The pod is no more.
    Done,
}

pub(super) struct Worker {
    context: Arc<Context>,
    pod: Arc<Pod>,
    dir: PodDir,
    memory: Memory,
    /// Made ahead, until the supervisor gets it.
    network: Option<std::fs::File>,
    plan: Option<PodPlan>,
    link: Option<Link>,
    /// The newest word of the supervisor, which may be its last.
    state: Option<Arc<PodState>>,
    holds: Holds,
    probing: BTreeMap<(String, Purpose), (String, Probing)>,
    findings: (mpsc::Sender<Finding>, mpsc::Receiver<Finding>),
    /// What the pod refers to may have changed since it was written down.
    stale: bool,
    tokens: Tokens,
    /// When withheld containers are looked at again, or a token is renewed.
    recheck_at: Option<Instant>,
    /// When a container that was withheld for its image was first seen so.
    pull_failed: BTreeMap<String, Timestamp>,
    reported: Option<PodStatus>,
    /// The supervisor was not asked for a while.
    pulse_due: bool,
}

impl Worker {
    pub(super) fn new(context: Arc<Context>, pod: Arc<Pod>) -> Self {
        let dir = context.pod_dir(&pod.uid().unwrap_or_default());
        let memory: Memory = read_json(&dir.memory()).ok().flatten().unwrap_or_default();
        Self {
            context,
            pod,
            dir,
            memory,
            network: None,
            plan: None,
            link: None,
            state: None,
            holds: Holds::default(),
            probing: BTreeMap::new(),
            findings: mpsc::channel(MAX_FINDINGS),
            stale: true,
            tokens: Tokens::default(),
            recheck_at: None,
            pull_failed: BTreeMap::new(),
            reported: None,
            pulse_due: false,
        }
    }

    /// Runs until the pod is gone or the agent stops.
    pub(super) async fn run(
        mut self,
        mut desired: tokio::sync::watch::Receiver<Desired>,
        mut stop: tokio::sync::watch::Receiver<bool>,
    ) {
        let mut changes = self.context.changes.subscribe();
        let mut gateways = self.context.gateways.clone();
        let mut pulse = Box::pin(pulse::watch(self.dir.clone()));
        loop {
            let now_desired = desired.borrow_and_update().clone();
            let wait = match self.sync(now_desired).await {
                Ok(Next::Done) => return,
                Ok(Next::Wait(wait)) => wait,
                Err(error) => {
                    self.complain(&error);
                    if matches!(error, SyncError::Link(LinkError::Silent)) {
                        self.unseat();
                    }
                    RETRY
                }
            };
            let draining = self.memory.drain.is_some() && self.memory.stop_grace_seconds.is_none();
            tokio::select! {
                biased;
                () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
                news = async { self.link.as_mut().expect("checked").changed().await }, if self.link.is_some() => {
                    self.hear(news.is_err());
                }
                Some(finding) = self.findings.1.recv() => self.take(finding).await,
                changed = desired.changed() => if changed.is_err() { return },
                change = changes.recv() => self.stale |= self.concerns(change),
                _ = gateways.changed(), if draining => {}
                sign = &mut pulse, if self.link.is_some() => {
                    self.heed(sign).await;
                    pulse.set(pulse::watch(self.dir.clone()));
                }
                () = tokio::time::sleep(wait) => {}
            }
            if self.recheck_at.is_some_and(|at| at <= Instant::now()) {
                self.recheck_at = None;
                self.stale = true;
            }
        }
    }

    async fn sync(&mut self, desired: Desired) -> Result<Next, SyncError> {
        match desired {
            Desired::Gone => {
                self.vanish().await;
                return Ok(Next::Done);
            }
            Desired::Pod(pod) => {
                self.stale |= pod.metadata.labels != self.pod.metadata.labels;
                self.stale |= pod.metadata.annotations != self.pod.metadata.annotations;
                self.stale |= pod.spec != self.pod.spec;
                self.pod = pod;
            }
        }
        if self.pod.metadata.deletion_timestamp.is_some() { self.wind_down().await } else { self.keep_up().await }
    }

    async fn keep_up(&mut self) -> Result<Next, SyncError> {
        let over = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(over, Some("Succeeded" | "Failed")) {
            self.probing.clear();
            return Ok(Next::Wait(IDLE));
        }
        if let Err(error) = self.ensure_running().await {
            // Events tell what keeps it from starting; the status tells that it waits, or has waited too long. That of a
            // rejected pod says so already.
            if !matches!(error, SyncError::Rejected) {
                self.give_up_if_overdue()?;
                self.report().await?;
            }
            return Err(error);
        }
        self.feel_pulse().await?;
        let wait = self.refresh().await?;
        let wait = self.end_if_overdue().await?.map_or(wait, |left| left.min(wait));
        self.update_probes();
        self.report().await?;
        Ok(Next::Wait(wait))
    }

    /// A supervisor that looks well may be one that cannot speak.
    async fn feel_pulse(&mut self) -> Result<(), SyncError> {
        if let Some(link) = self.link.clone().filter(|_| std::mem::take(&mut self.pulse_due)) {
            link.call(Request::Status).await?;
        }
        Ok(())
    }

    /// Acts on what the kernel shows of the supervisor.
    async fn heed(&mut self, sign: Sign) {
        match sign {
            Sign::DueToBeAsked => self.pulse_due = true,
            Sign::Stopped => {
                self.complain(&SyncError::Link(LinkError::Silent));
                self.unseat();
            }
            Sign::Homeless => self.lose_home().await,
        }
    }

    /// Ends a supervisor that does not answer, so that another one takes its place.
    fn unseat(&mut self) {
        remains::unseat(&self.dir);
        self.link = None;
    }

    /// The supervisor has said something, or has gone.
    fn hear(&mut self, gone: bool) {
        if let Some(link) = &self.link {
            let state = link.state();
            self.holds.follow(&self.dir, &state);
            self.state = Some(state);
        }
        if gone {
            self.link = None;
            if let Ok(Some(last)) = read_json::<PodState>(&self.dir.state()) {
                self.state = Some(Arc::new(last));
            }
        }
    }

    fn concerns(&self, change: Result<Reference, broadcast::error::RecvError>) -> bool {
        match change {
            Ok(Reference::Image) => self.is_withheld(),
            Ok(reference) => references(&self.pod).contains(&reference),
            Err(broadcast::error::RecvError::Lagged(_)) => true,
            Err(broadcast::error::RecvError::Closed) => false,
        }
    }

    fn finished(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.finished)
    }

    fn facts(&self) -> Option<Facts> {
        Some(Facts {
            pod_ip: self.memory.address?,
            pod_ip_v6: self.memory.address_v6,
            host_ip: self.context.host_ip,
            allocatable: self.context.allocatable.clone(),
        })
    }

    fn remember(&self) -> Result<(), SyncError> {
        Ok(write_json(&self.dir.memory(), &self.memory)?)
    }

    fn complain(&self, error: &SyncError) {
        let pod = self.pod.name_any();
        match error {
            SyncError::Mount(error) => {
                debug!(pod, %error, "Volumes not ready");
                self.context.warning(&self.pod, None, "FailedMount", &error.to_string());
            }
            SyncError::Driver(error) => self.context.warning(&self.pod, None, "FailedCreatePodSandBox", error),
            SyncError::Network(error) => {
                let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                let message = format!("{error}: {cause}");
                self.context.warning(&self.pod, None, "FailedCreatePodSandBox", &message);
            }
            SyncError::Address(error) => {
                self.context.warning(&self.pod, None, "FailedCreatePodSandBox", &error.to_string());
            }
            SyncError::Link(error @ LinkError::Foreign { .. }) => {
                self.context.warning(&self.pod, None, "SupervisorIncompatible", &error.to_string());
            }
            SyncError::Link(LinkError::Silent) => {
                let message =
                    "the pod's supervisor does not answer: another one takes its place, and containers run on";
                self.context.warning(&self.pod, None, "SupervisorHung", message);
            }
            SyncError::Link(error @ LinkError::Start(_)) => {
                self.context.warning(&self.pod, None, "FailedCreatePodSandBox", &error.to_string());
            }
            SyncError::Io(cause) => {
                let full = if cause.kind() == std::io::ErrorKind::StorageFull { ": free some space there" } else { "" };
                let message = format!("{error} `{}`: {cause}{full}", self.dir.path().display());
                self.context.warning(&self.pod, None, "FailedCreatePodSandBox", &message);
            }
            // Its status says so.
            SyncError::Rejected => {}
            error => {
                let cause = std::error::Error::source(error).map(ToString::to_string);
                warn!(pod, %error, cause, "Pod not in sync");
            }
        }
    }
}
