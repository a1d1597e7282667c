//! What keeps so many pods of one template: a ReplicaSet, or its elder, the ReplicationController.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_model::selector::Selector;

use super::super::claim;
use super::super::informer::Cache;
use super::World;

/// What it is told to keep.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Wanted {
    pub(super) replicas: usize,
    pub(super) min_ready: Duration,
    pub(super) template: PodTemplateSpec,
}

pub(in super::super) trait Keeper:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + k8s_openapi::Resource
    + k8s_openapi::Metadata<Ty = ObjectMeta>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Where its events come from.
    const COMPONENT: &'static str;

    fn cache(world: &World) -> &Arc<Cache<Self>>;
    fn selector(&self) -> Selector;
    fn wanted(&self) -> Wanted;
    fn conditions(&self) -> Vec<ReplicaSetCondition>;
    fn report(&mut self, status: ReplicaSetStatus);
}

fn wanted(replicas: Option<i32>, min_ready_seconds: Option<i32>, template: Option<PodTemplateSpec>) -> Wanted {
    Wanted {
        // The API refuses negative ones.
        replicas: usize::try_from(replicas.unwrap_or(1)).unwrap_or(0),
        min_ready: Duration::from_secs(u64::try_from(min_ready_seconds.unwrap_or(0)).unwrap_or(0)),
        template: template.unwrap_or_default(),
    }
}

impl Keeper for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";

    fn cache(world: &World) -> &Arc<Cache<Self>> {
        &world.replica_sets
    }

    fn selector(&self) -> Selector {
        claim::selector(&self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default())
    }

    fn wanted(&self) -> Wanted {
        let spec = self.spec.clone().unwrap_or_default();
        wanted(spec.replicas, spec.min_ready_seconds, spec.template)
    }

    fn conditions(&self) -> Vec<ReplicaSetCondition> {
        self.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default()
    }

    fn report(&mut self, status: ReplicaSetStatus) {
        self.status = Some(status);
    }
}

impl Keeper for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";

    fn cache(world: &World) -> &Arc<Cache<Self>> {
        &world.replication_controllers
    }

    fn selector(&self) -> Selector {
        let labels: Option<BTreeMap<_, _>> = self.spec.as_ref().and_then(|spec| spec.selector.clone());
        claim::selector(&LabelSelector { match_labels: labels, match_expressions: None })
    }

    fn wanted(&self) -> Wanted {
        let spec = self.spec.clone().unwrap_or_default();
        wanted(spec.replicas, spec.min_ready_seconds, spec.template)
    }

    fn conditions(&self) -> Vec<ReplicaSetCondition> {
        let conditions = self.status.iter().flat_map(|status| status.conditions.iter().flatten()).cloned();
        let as_set = conditions.map(|it| ReplicaSetCondition {
            type_: it.type_,
            status: it.status,
            last_transition_time: it.last_transition_time,
            reason: it.reason,
            message: it.message,
        });
        as_set.collect()
    }

    /// It says nothing of pods that end.
    fn report(&mut self, status: ReplicaSetStatus) {
        let conditions = status.conditions.map(|conditions| {
            let own = conditions.into_iter().map(|it| ReplicationControllerCondition {
                type_: it.type_,
                status: it.status,
                last_transition_time: it.last_transition_time,
                reason: it.reason,
                message: it.message,
            });
            own.collect()
        });
        self.status = Some(ReplicationControllerStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            observed_generation: status.observed_generation,
            conditions,
        });
    }
}
