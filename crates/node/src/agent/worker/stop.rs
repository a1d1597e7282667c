//! Takes a pod down: the gateways let go of it first, then hooks and signals, then the object goes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Preconditions},
};
use sluice_pod::{
    pod_dir::{PASSAGE_DIR, make_dir, read_json, write_json},
    wire::Request,
};
use tracing::{debug, info, warn};

use super::{IDLE, Next, SyncError, Worker};
use crate::agent::{
    drain::waits_for,
    memory::Drain,
    remains,
    status::{DEADLINE_EXCEEDED, DEADLINE_MESSAGE},
    teardown::{self, Grace},
};

impl Worker {
    pub(super) async fn wind_down(&mut self) -> Result<Next, SyncError> {
        if self.plan.is_none() {
            self.plan = read_json(&self.dir.plan())?;
        }
        if self.plan.is_none() {
            return self.finalise().await;
        }
        if self.link.is_none() && !self.finished() {
            self.adopt_or_resume().await?;
        }
        self.update_probes();
        self.report().await?;
        if self.finished() {
            return self.finalise().await;
        }
        match self.wait_for_gateways()? {
            Some(wait) => Ok(Next::Wait(wait)),
            None => {
                self.tell_to_stop().await?;
                Ok(Next::Wait(IDLE))
            }
        }
    }

    /// How long to wait for gateways that still send requests; `None` when none does or the time is up.
    fn wait_for_gateways(&mut self) -> Result<Option<Duration>, SyncError> {
        if self.is_stopping() || self.memory.stop_grace_seconds.is_some() || self.grace_seconds() == 0 {
            return Ok(None);
        }
        let now = Timestamp::now();
        let drain = match self.memory.drain {
            Some(drain) => drain,
            None => {
                // A revision that is no number cannot be compared; then only the time decides.
                let revision =
                    self.pod.resource_version().and_then(|revision| revision.parse().ok()).unwrap_or(u64::MAX);
                let drain = Drain { since: now, revision };
                self.memory.drain = Some(drain);
                self.remember()?;
                drain
            }
        };
        let left = self.context.options.drain_timeout.saturating_sub(now.duration_since(drain.since).unsigned_abs());
        let uid = self.pod.uid().unwrap_or_default();
        let gateways = self.context.gateways.borrow();
        let Some(gateway) = waits_for(&gateways, drain.revision, &uid, now) else { return Ok(None) };
        if left.is_zero() {
            info!(pod = self.pod.name_any(), gateway, "Gateway did not let go in time");
            let message = format!(
                "{gateway} did not let go of the pod within {:?}: it is stopped all the same",
                self.context.options.drain_timeout
            );
            self.context.warning(&self.pod, None, "DrainTimeout", &message);
            return Ok(None);
        }
        debug!(pod = self.pod.name_any(), gateway, "Waiting for gateway");
        Ok(Some(left))
    }

    /// Ends a pod whose `activeDeadlineSeconds` are over; how long they last otherwise.
    pub(super) async fn end_if_overdue(&mut self) -> Result<Option<Duration>, SyncError> {
        let Some(left) = self.active_left() else { return Ok(None) };
        if !left.is_zero() || self.finished() || self.is_stopping() {
            return Ok(Some(left).filter(|left| !left.is_zero()));
        }
        let Some(link) = &self.link else { return Ok(None) };
        let grace_seconds = self.plan.as_ref().map_or(0, |plan| plan.grace_seconds);
        link.call(Request::Stop { grace_seconds }).await?;
        self.fail_for_its_deadline()?;
        Ok(None)
    }

    /// The same for a pod that nothing of has ever run.
    pub(super) fn give_up_if_overdue(&mut self) -> Result<(), SyncError> {
        let overdue = self.active_left().is_some_and(|left| left.is_zero());
        if overdue && self.plan.is_none() && !self.memory.deadline_exceeded {
            self.fail_for_its_deadline()?;
        }
        Ok(())
    }

    /// How much of `activeDeadlineSeconds` is left.
    fn active_left(&self) -> Option<Duration> {
        let limit = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let status = self.reported.as_ref().or(self.pod.status.as_ref())?;
        let active = Timestamp::now().duration_since(status.start_time.as_ref()?.0).unsigned_abs();
        Some(Duration::from_secs(limit.max(0).unsigned_abs()).saturating_sub(active))
    }

    fn fail_for_its_deadline(&mut self) -> Result<(), SyncError> {
        self.context.event(&self.pod, DEADLINE_EXCEEDED, DEADLINE_MESSAGE);
        self.memory.deadline_exceeded = true;
        self.remember()
    }

    async fn tell_to_stop(&mut self) -> Result<(), SyncError> {
        let grace_seconds = self.grace_seconds();
        // A supervisor that was lost together with its machine has forgotten that it was told.
        let told = self.memory.stop_grace_seconds.filter(|_| self.is_stopping());
        let Some(link) = &self.link else { return Ok(()) };
        if told.is_some_and(|told| told <= grace_seconds) {
            return Ok(());
        }
        link.call(Request::Stop { grace_seconds }).await?;
        self.memory.stop_grace_seconds = Some(grace_seconds);
        self.remember()
    }

    fn is_stopping(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.stop.as_ref().is_some_and(|stop| stop.requested))
    }

    fn grace_seconds(&self) -> u64 {
        self.pod.metadata.deletion_grace_period_seconds.unwrap_or(0).max(0).unsigned_abs()
    }

    /// Nothing runs any more: takes the object and everything else away.
    async fn finalise(&mut self) -> Result<Next, SyncError> {
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &self.pod.namespace().unwrap_or_default());
        let parameters = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions { uid: self.pod.uid(), resource_version: None });
        match api.delete(&self.pod.name_any(), &parameters).await {
            // Gone already, or another pod of that name by now.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            other => drop(other?),
        }
        info!(pod = self.pod.name_any(), "Ended");
        self.clean_up().await;
        Ok(Next::Done)
    }

    async fn clean_up(&mut self) {
        self.probing.clear();
        teardown::remove(&self.dir, &self.context.options, self.plan.as_ref());
        let address = self.memory.address.take();
        self.context.release(&self.pod.uid().unwrap_or_default(), address).await;
    }

    /// The pod's directory was removed under it. Nobody else can reach what runs of it, and what its containers had in files
    /// is lost: it is ended, and starts again as after a loss of its machine.
    pub(super) async fn lose_home(&mut self) {
        let message =
            format!("`{}` was removed while the pod ran: it is ended and started again", self.dir.path().display());
        self.context.warning(&self.pod, None, "SandboxChanged", &message);
        self.probing.clear();
        (self.link, self.plan, self.stale) = (None, None, true);
        let dir = self.dir.clone();
        let ended = tokio::task::spawn_blocking(move || remains::end_without_records(&dir));
        if let Err(error) = ended.await.map_err(std::io::Error::other).and_then(|()| self.settle_again()) {
            warn!(pod = self.pod.name_any(), %error, "Not settled again");
        }
    }

    /// Writes down again what is known of the pod, unless all pods have lost their place.
    fn settle_again(&self) -> std::io::Result<()> {
        if self.pod.metadata.deletion_timestamp.is_some() || !self.context.options.pods_dir().is_dir() {
            return Ok(());
        }
        make_dir(self.dir.path(), PASSAGE_DIR)?;
        write_json(&self.dir.memory(), &self.memory)?;
        self.state.as_ref().map_or(Ok(()), |state| write_json(&self.dir.state(), state.as_ref()))
    }

    /// The object is gone without us, as after a forced delete.
    pub(super) async fn vanish(&mut self) {
        self.probing.clear();
        self.link = None;
        let address = teardown::tear_down(&self.dir, &self.context.options, Grace::None).await;
        let address = address.or(self.memory.address.take());
        self.context.release(&self.pod.uid().unwrap_or_default(), address).await;
    }
}
