//! A Deployment keeps one ReplicaSet per revision of its template and moves the pods from the old to the new ones.
//! Where a Rollout targets it, the Rollout says how far.

mod decide;
mod revision;
mod sizes;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};

use self::decide::{Decision, Observed, decide};
use super::apply::{self, Part};
use super::claim::{self, Claimant};
use super::error::{has_cause, message, status_code};
use super::events::Events;
use super::informer::{Change, Key, is_deleted};
use super::queue::{Queue, Wake};
use super::rollout::Rollout;
use super::world::World;
use super::{Error, owner, pod};
use crate::template;

const COMPONENT: &str = "deployment-controller";

pub(super) struct Deployments {
    world: Arc<World>,
    events: Events,
}

/// Queues the Deployments that a change concerns.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.deployments.listen(move |change| change.states().for_each(|it| to.add(Key::of(&**it))));
    let (to, deployments) = (Arc::clone(queue), Arc::clone(&world.deployments));
    world.replica_sets.listen(move |change: Change<'_, ReplicaSet>| {
        for set in change.states() {
            let namespace = set.namespace().unwrap_or_default();
            match owner::controller(&set.metadata) {
                Some(owner) if owner.kind == "Deployment" => to.add(Key::new(namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let matching = deployments
                        .in_namespace(&namespace)
                        .into_iter()
                        .filter(|deployment| claim::matches(&selector(deployment), set.metadata.labels.as_ref()));
                    matching.for_each(|deployment| to.add(Key::of(&*deployment)));
                }
            }
        }
    });
    let (to, sets) = (Arc::clone(queue), Arc::clone(&world.replica_sets));
    world.pods.listen(move |change: Change<'_, Pod>| {
        // Only Recreate waits for pods themselves, for the last one to end.
        let Some(pod) = change.old.filter(|_| change.new.is_none_or(|pod| pod::is_finished(pod))) else { return };
        let Some(owner) = owner::controller(&pod.metadata) else { return };
        let namespace = pod.namespace().unwrap_or_default();
        let set = sets.get(&Key::new(namespace.clone(), &owner.name));
        if let Some(deployment) = set.as_ref().and_then(|set| owner::controller(&set.metadata)) {
            to.add(Key::new(namespace, &deployment.name));
        }
    });
    let to = Arc::clone(queue);
    world.rollouts.listen(move |change: Change<'_, Rollout>| {
        for rollout in change.states() {
            to.add(Key::new(rollout.namespace().unwrap_or_default(), &rollout.spec.target.name));
        }
    });
}

fn selector(deployment: &Deployment) -> sluice_model::selector::Selector {
    claim::selector(&deployment.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default())
}

impl Deployments {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(COMPONENT);
        Self { world, events }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(deployment) = self.world.deployments.get(&key) else { return Ok(None) };
        let observed = self.gather(deployment, &key.namespace).await?;
        let decision = decide(&observed);
        tracing::debug!(%key, %decision, "Deployment decided");
        let created = self.apply(&observed.deployment, &decision, &key.namespace).await?;
        self.report(&observed.deployment, &decision, created, &key.namespace).await?;
        Ok(decision.wake)
    }

    async fn gather(&self, deployment: Arc<Deployment>, namespace: &str) -> Result<Observed, Error> {
        let cache = &self.world.replica_sets;
        let mut candidates = cache.controlled_by(&deployment.uid().unwrap_or_default());
        candidates.extend(cache.orphans(namespace));
        let selector = selector(&deployment);
        let reference = owner::controlled_by(&*deployment);
        let claimant = Claimant { reference, selector: &selector, is_deleted: is_deleted(&*deployment) };
        let (deployments, sets) = (self.api::<Deployment>(namespace), self.api(namespace));
        let mut sets = claimant.claim(&sets, cache, candidates, claim::is_there(&deployments, &*deployment)).await?;
        sets.sort_by_key(|set| (set.creation_timestamp().map(|time| time.0), set.name_any()));
        let living_pods = sets.iter().map(|set| {
            let uid = set.uid().unwrap_or_default();
            let living = self.world.pods.controlled_by(&uid).iter().filter(|pod| !pod::is_finished(pod)).count();
            (uid, living)
        });
        let living_pods: BTreeMap<_, _> = living_pods.collect();
        let mut rollouts = self.world.rollouts.in_namespace(namespace);
        rollouts.retain(|rollout| {
            let target = &rollout.spec.target;
            target.kind == "Deployment" && target.name == deployment.name_any() && !is_deleted(&**rollout)
        });
        // Of several the oldest counts; the release controller tells the others.
        let oldest = rollouts.iter().min_by_key(|it| (it.creation_timestamp().map(|time| time.0), it.name_any()));
        let sizes = |rollout: &Rollout| rollout.status.as_ref().map(|status| status.sizes.clone()).unwrap_or_default();
        let directed = oldest.map(|rollout| sizes(rollout));
        Ok(Observed { deployment, sets, living_pods, directed, now: Timestamp::now() })
    }

    /// Why the new ReplicaSet could not be made is part of the report.
    async fn apply(&self, deployment: &Deployment, decision: &Decision, namespace: &str) -> Result<Created, Error> {
        let sets: Api<ReplicaSet> = self.api(namespace);
        let created = match &decision.create {
            Some(set) => self.create(&sets, deployment, set).await?,
            None => Created::AsDecided,
        };
        if !matches!(created, Created::AsDecided) {
            return Ok(created);
        }
        for (before, after) in &decision.update {
            apply::update(&sets, &self.world.replica_sets, Part::Main, &**before, after).await?;
        }
        for scaling in &decision.scalings {
            self.events.normal(deployment, "ScalingReplicaSet", scaling);
        }
        for set in &decision.delete {
            self.forget(&sets, set).await?;
        }
        Ok(created)
    }

    async fn create(
        &self,
        sets: &Api<ReplicaSet>,
        deployment: &Deployment,
        set: &ReplicaSet,
    ) -> Result<Created, Error> {
        match sets.create(&PostParams::default(), set).await {
            Ok(created) => {
                self.world.replica_sets.has_seen(&created).await?;
                Ok(Created::AsDecided)
            }
            Err(error) if status_code(&error) == Some(409) => {
                let taken = sets.get(&set.name_any()).await?;
                let is_ours = owner::controller(&taken.metadata)
                    .is_some_and(|it| Some(&it.uid) == deployment.metadata.uid.as_ref());
                let same = revision::find_new(deployment, &[taken]).is_some();
                if is_ours && same { Err(Error::Stale { what: "the ReplicaSets" }) } else { Ok(Created::NameTaken) }
            }
            Err(error) if has_cause(&error, "NamespaceTerminating") => Ok(Created::AsDecided),
            Err(error) => {
                let message = format!("Failed to create new replica set \"{}\": {}", set.name_any(), message(&error));
                self.events.warning(deployment, "ReplicaSetCreateError", &message);
                Ok(Created::Refused(message))
            }
        }
    }

    async fn forget(&self, sets: &Api<ReplicaSet>, set: &ReplicaSet) -> Result<(), Error> {
        let uid = set.uid().unwrap_or_default();
        let same = Preconditions { uid: Some(uid.clone()), resource_version: set.resource_version() };
        match sets.delete(&set.name_any(), &DeleteParams { preconditions: Some(same), ..DeleteParams::default() }).await
        {
            Ok(_) => self.world.replica_sets.has_lost(&Key::of(set), &uid).await,
            Err(error) if status_code(&error) == Some(404) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn report(
        &self,
        deployment: &Arc<Deployment>,
        decision: &Decision,
        created: Created,
        namespace: &str,
    ) -> Result<(), Error> {
        let mut reported = (**deployment).clone();
        if let Some(revision) = decision.revision.clone().filter(|_| matches!(created, Created::AsDecided)) {
            // Goes with the status, because a changed annotation would count as a new generation of the Deployment.
            reported.metadata.annotations.get_or_insert_default().insert(template::REVISION.to_owned(), revision);
        }
        reported.status = Some(created.status(deployment, &decision.status, Timestamp::now()));
        let api = self.api::<Deployment>(namespace);
        apply::update(&api, &self.world.deployments, Part::Status, &**deployment, &reported).await?;
        match created {
            Created::AsDecided => Ok(()),
            Created::NameTaken => Err(Error::Stale { what: "the name of the new ReplicaSet" }),
            Created::Refused(message) => Err(Error::Partial { message }),
        }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.world.client.clone(), namespace)
    }
}

/// What became of the new ReplicaSet.
enum Created {
    /// It was made, or none was needed.
    AsDecided,
    /// Somebody else's object has its name: the next one is made with another collision count.
    NameTaken,
    Refused(String),
}

impl Created {
    fn status(
        &self,
        deployment: &Deployment,
        decided: &k8s_openapi::api::apps::v1::DeploymentStatus,
        now: Timestamp,
    ) -> k8s_openapi::api::apps::v1::DeploymentStatus {
        let mut status = deployment.status.clone().unwrap_or_default();
        match self {
            Self::AsDecided => return decided.clone(),
            Self::NameTaken => status.collision_count = Some(status.collision_count.unwrap_or(0) + 1),
            Self::Refused(message) if status::progress_deadline(deployment).is_some() => {
                let reason = "ReplicaSetCreateError";
                status::set(&mut status, status::make(status::PROGRESSING, "False", reason, message.clone(), now));
            }
            Self::Refused(_) => {}
        }
        status
    }
}
