//! Pods made and ended for an owner, with the events that say so.

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::error::{has_cause, message, status_code};
use super::events::Events;
use super::informer::Key;
use super::world::World;
use super::{Error, apply};

/// Why pods could not be created or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The pods of one owner.
pub(super) struct Pods<'a, K> {
    pub(super) world: &'a World,
    pub(super) events: &'a Events,
    pub(super) owner: &'a K,
}

impl<K> Pods<'_, K>
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
{
    /// One, then twice as many each time: a template that is refused is refused once, not five hundred times.
    pub(super) async fn create(&self, pods: &[Pod]) -> Result<Option<Failure>, Error> {
        let (mut rest, mut group) = (pods, 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(group.min(rest.len()));
            for result in futures::future::join_all(now.iter().map(|pod| self.create_one(pod))).await {
                if let Some(failure) = result? {
                    return Ok(Some(failure));
                }
            }
            (rest, group) = (later, group * 2);
        }
        Ok(None)
    }

    async fn create_one(&self, pod: &Pod) -> Result<Option<Failure>, Error> {
        match self.api().create(&PostParams::default(), pod).await {
            Ok(created) => {
                self.events.normal(self.owner, "SuccessfulCreate", format!("Created pod: {}", created.name_any()));
                self.world.pods.has_seen(&created).await?;
                Ok(None)
            }
            // The owner is about to go, too.
            Err(error) if has_cause(&error, "NamespaceTerminating") => Ok(None),
            Err(error) => {
                let message = message(&error);
                self.events.warning(self.owner, "FailedCreate", format!("Error creating: {message}"));
                Ok(Some(Failure { reason: "FailedCreate", message }))
            }
        }
    }

    pub(super) async fn delete(&self, doomed: &[Arc<Pod>]) -> Result<Option<Failure>, Error> {
        let results = futures::future::join_all(doomed.iter().map(|pod| self.delete_one(pod))).await;
        results.into_iter().find_map(Result::transpose).transpose()
    }

    async fn delete_one(&self, doomed: &Pod) -> Result<Option<Failure>, Error> {
        let (name, uid) = (doomed.name_any(), doomed.uid().unwrap_or_default());
        match self.api().delete(&name, &apply::only(doomed)).await {
            Ok(_) => self.events.normal(self.owner, "SuccessfulDelete", format!("Deleted pod: {name}")),
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => {}
            Err(error) => {
                let message = message(&error);
                self.events.warning(self.owner, "FailedDelete", format!("Error deleting: {message}"));
                return Ok(Some(Failure { reason: "FailedDelete", message }));
            }
        }
        self.world.pods.has_lost(&Key::of(doomed), &uid).await.map(|()| None)
    }

    fn api(&self) -> Api<Pod> {
        let namespace = self.owner.metadata().namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.world.client.clone(), namespace)
    }
}
