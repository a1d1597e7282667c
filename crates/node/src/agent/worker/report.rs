//! Writes down what became of a pod: its status, whenever it is another one, and its events.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use tracing::debug;

use super::{SyncError, Worker};
use crate::agent::{
    admission::Refusal,
    status::{Observed, Runtime, status},
};

impl Worker {
    pub(super) async fn report(&mut self) -> Result<(), SyncError> {
        let facts = self.facts();
        let ready = self.ready();
        let mut status = status(&Observed {
            pod: &self.pod,
            reported: self.reported.as_ref(),
            facts: facts.as_ref(),
            state: self.state.as_deref(),
            runtime: Runtime {
                confined: self.memory.confined,
                plan: self.plan.as_ref(),
                own_ids: (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
            },
            ready: &ready,
            deadline_exceeded: self.memory.deadline_exceeded,
            now: Timestamp::now(),
        });
        self.name_images(&mut status);
        self.publish_notices()?;
        if self.is_known(&status) {
            return Ok(());
        }
        // The uid makes sure that a later pod of the same name does not get this status.
        let patch = serde_json::json!({"metadata": {"uid": self.pod.uid()}, "status": status});
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &self.pod.namespace().unwrap_or_default());
        match api.patch_status(&self.pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(kube::Error::Api(refusal)) if matches!(refusal.code, 404 | 409) => {
                debug!(pod = self.pod.name_any(), %refusal, "The pod is another one by now");
            }
            other => drop(other?),
        }
        self.reported = Some(status);
        Ok(())
    }

    /// The pod never runs here: it has failed, and its status says why.
    pub(super) async fn reject(&mut self, refusal: &Refusal) -> Result<(), SyncError> {
        let Refusal { reason, message } = refusal;
        self.context.warning(&self.pod, None, reason, message);
        let status =
            serde_json::json!({"phase": "Failed", "reason": reason, "message": format!("Pod was rejected: {message}")});
        let patch = serde_json::json!({"metadata": {"uid": self.pod.uid()}, "status": status});
        let api = Api::<Pod>::namespaced(self.context.client.clone(), &self.pod.namespace().unwrap_or_default());
        api.patch_status(&self.pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await?;
        Err(SyncError::Rejected)
    }

    /// Containers of pulled images tell the image's full name, and which content they really run.
    fn name_images(&self, status: &mut PodStatus) {
        if !self.memory.confined {
            return;
        }
        let inits = status.init_container_statuses.iter_mut().flatten();
        for container in inits.chain(status.container_statuses.iter_mut().flatten()) {
            if container.image_id.is_empty() {
                continue;
            }
            if let Some((image, id)) = self.context.pulls.status_names(&container.image) {
                container.image = image;
                container.image_id = id;
            }
        }
    }

    /// The API has this status already. Conditions that are not ours may stand beside ours.
    fn is_known(&self, status: &PodStatus) -> bool {
        if let Some(reported) = &self.reported {
            return reported == status;
        }
        let Some(known) = &self.pod.status else { return false };
        let (ours, theirs) =
            (status.conditions.as_deref().unwrap_or_default(), known.conditions.as_deref().unwrap_or_default());
        let rest = |status: &PodStatus| PodStatus { conditions: None, ..status.clone() };
        rest(status) == rest(known) && ours.iter().all(|condition| theirs.contains(condition))
    }

    /// What the supervisor found worth an event since the last time.
    fn publish_notices(&mut self) -> Result<(), SyncError> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let published = self.memory.published;
        for notice in state.notices.iter().filter(|notice| notice.number > published) {
            let container = Some(notice.container.as_str());
            self.context.happened(&self.pod, container, &notice.reason, &notice.message, notice.warning, notice.at);
            self.memory.published = notice.number;
        }
        if self.memory.published != published {
            self.remember()?;
        }
        Ok(())
    }
}
