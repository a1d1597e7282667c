//! Pods with names of their own that outlive them: places in an order, each with its claims.

mod claims;
mod decide;
mod identity;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use kube::api::PostParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use sluice_model::selector::Selector;

use self::decide::{Act, Observed, decide};
use self::identity::{Revision, ordinal, ordinals, revision_of};
use super::apply::{self, Part};
use super::claim::{self, Claimant};
use super::error::{has_cause, message, status_code};
use super::events::Events;
use super::history::{self, Historian};
use super::informer::{Change, Key, is_deleted};
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, owner, pod};

const COMPONENT: &str = "statefulset-controller";

pub(super) struct StatefulSets {
    world: Arc<World>,
    events: Events,
}

/// Queues the StatefulSets that a change concerns.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.stateful_sets.listen(move |change| change.states().for_each(|set| to.add(Key::of(&**set))));
    claim::listen_pods(world, queue, &world.stateful_sets, StatefulSet::selector);
    let (to, sets) = (Arc::clone(queue), Arc::clone(&world.stateful_sets));
    world.claims.listen(move |change: Change<'_, PersistentVolumeClaim>| {
        // A place may wait for its former claims to go.
        let Some(claim) = change.old.filter(|_| change.new.is_none()) else { return };
        for set in sets.in_namespace(&claim.namespace().unwrap_or_default()) {
            let mut templates = identity::claim_templates(&set).iter();
            let name = claim.name_any();
            if templates.any(|it| name.starts_with(&format!("{}-{}-", it.name_any(), set.name_any()))) {
                to.add(Key::of(&*set));
            }
        }
    });
}

impl Historian for StatefulSet {
    const LABELS_FOR_PODS: bool = false;

    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default()
    }

    fn selector(&self) -> Selector {
        claim::selector(&self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default())
    }

    fn collisions(&self) -> i32 {
        self.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0)
    }

    fn history_limit(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10)
    }
}

/// What came of an act that users should know of.
type Outcome = Result<Option<String>, Error>;

impl StatefulSets {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(COMPONENT);
        Self { world, events }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(set) = self.world.stateful_sets.get(&key) else { return Ok(None) };
        let revisions = history::gather(&self.world, &*set).await?;
        let observed = self.gather(set, &revisions).await?;
        let decision = decide(&observed);
        tracing::debug!(%key, %decision, "StatefulSet decided");
        let failure = self.apply(&observed.set, &decision.acts).await;
        self.report(&observed, &decision).await?;
        if let Some(message) = failure? {
            return Err(Error::Partial { message });
        }
        if !is_deleted(&*observed.set) {
            let mut live: BTreeSet<_> = observed.pods.iter().map(|pod| revision_of(pod).to_owned()).collect();
            live.extend([observed.current.name.clone(), observed.update.name.clone()]);
            let surplus = history::surplus(&revisions, &live, observed.set.history_limit());
            history::forget(&self.world, &surplus).await?;
        }
        Ok(decision.wake)
    }

    async fn gather(&self, set: Arc<StatefulSet>, revisions: &[Arc<ControllerRevision>]) -> Result<Observed, Error> {
        let status = set.status.clone().unwrap_or_default();
        let former = status.current_revision.unwrap_or_default();
        let (update, collisions) = if is_deleted(&*set) {
            // It makes no pods any more, so no revision either.
            let name = status.update_revision.unwrap_or_default();
            (Revision { name, template: set.template() }, set.collisions())
        } else {
            let (revision, collisions) = history::present(&self.world, &*set, revisions).await?;
            (Revision { name: revision.name_any(), template: set.template() }, collisions)
        };
        let current = revisions
            .iter()
            .find(|it| it.name_any() == former)
            .and_then(|revision| history::template_of(revision).map(|template| Revision { name: former, template }));
        let current = current.unwrap_or_else(|| update.clone());
        let pods = self.pods(&set).await?;
        let claims = self.claims(&set, &pods);
        Ok(Observed { set, pods, claims, current, update, collisions, now: Timestamp::now() })
    }

    /// The pods of the set, after adopting and releasing. Those with other names are not of it.
    async fn pods(&self, set: &Arc<StatefulSet>) -> Result<Vec<Arc<Pod>>, Error> {
        let namespace = set.namespace().unwrap_or_default();
        let pods = &self.world.pods;
        let mut candidates = pods.controlled_by(&set.uid().unwrap_or_default());
        candidates.extend(pods.orphans(&namespace));
        candidates.retain(|pod| ordinal(set, pod).is_some());
        let (reference, selector) = (owner::controlled_by(&**set), set.selector());
        let claimant = Claimant { reference, selector: &selector, is_deleted: is_deleted(&**set) };
        let sets: Api<StatefulSet> = self.api(set);
        claimant.claim(&self.api(set), pods, candidates, claim::is_there(&sets, &**set)).await
    }

    /// What there is of the claims of all places, taken and free.
    fn claims(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> BTreeMap<String, Arc<PersistentVolumeClaim>> {
        let namespace = set.namespace().unwrap_or_default();
        let places = ordinals(set).chain(pods.iter().filter_map(|pod| ordinal(set, pod)));
        let names = places.flat_map(|ordinal| claims::names(set, ordinal));
        let found = names.filter_map(|name| Some((name.clone(), self.world.claims.get(&Key::new(&*namespace, name))?)));
        found.collect()
    }

    /// Returns what went wrong in a way that users should know of. One act, then twice as many at once each time: what is
    /// refused is refused once.
    async fn apply(&self, set: &StatefulSet, acts: &[Act]) -> Outcome {
        let (mut rest, mut group) = (acts, 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(group.min(rest.len()));
            for outcome in futures::future::join_all(now.iter().map(|act| self.carry_out(set, act))).await {
                if let Some(failure) = outcome? {
                    return Ok(Some(failure));
                }
            }
            (rest, group) = (later, group * 2);
        }
        Ok(None)
    }

    async fn carry_out(&self, set: &StatefulSet, act: &Act) -> Outcome {
        match act {
            Act::Create { claims, pod } => match self.create_claims(set, &pod.name_any(), claims).await? {
                Some(failure) => Ok(Some(self.failed(set, "Create", &pod.name_any(), failure))),
                None => self.create(set, pod).await,
            },
            Act::Restore { claims, pod } => self.create_claims(set, &pod.name_any(), claims).await,
            Act::Refuse { pod, message } => Ok(Some(self.failed(set, "Create", pod, message.clone()))),
            Act::Relabel { before, after } => {
                apply::update(&self.api(set), &self.world.pods, Part::Main, &**before, after).await?;
                self.succeeded(set, "Update", &after.name_any());
                Ok(None)
            }
            Act::Settle { before, after } => {
                apply::update(&self.api(set), &self.world.claims, Part::Main, &**before, after).await?;
                Ok(None)
            }
            Act::Delete(pod) => self.delete(set, pod).await,
        }
    }

    async fn create(&self, set: &StatefulSet, pod: &Pod) -> Outcome {
        match self.api(set).create(&PostParams::default(), pod).await {
            Ok(created) => {
                self.succeeded(set, "Create", &created.name_any());
                self.world.pods.has_seen(&created).await?;
                Ok(None)
            }
            // A pod that is not ours holds the name; perhaps not for long.
            Err(error) if status_code(&error) == Some(409) => Err(error.into()),
            Err(error) if has_cause(&error, "NamespaceTerminating") => Ok(None),
            Err(error) => Ok(Some(self.failed(set, "Create", &pod.name_any(), message(&error)))),
        }
    }

    async fn create_claims(&self, set: &StatefulSet, pod: &str, claims: &[PersistentVolumeClaim]) -> Outcome {
        for claim in claims {
            let name = claim.name_any();
            match self.api(set).create(&PostParams::default(), claim).await {
                Ok(created) => {
                    let message = format!("Create Claim {name} Pod {pod} in StatefulSet {} success", set.name_any());
                    self.events.normal(set, "SuccessfulCreate", message);
                    self.world.claims.has_seen(&created).await?;
                }
                Err(error) if status_code(&error) == Some(409) => return Err(error.into()),
                Err(error) => {
                    let why = message(&error);
                    let about = format!("Create Claim {name} for Pod {pod} in StatefulSet {}", set.name_any());
                    self.events.warning(set, "FailedCreate", format!("{about} failed error: {why}"));
                    return Ok(Some(format!("failed to create PVC {name}: {why}")));
                }
            }
        }
        Ok(None)
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Outcome {
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        match self.api::<Pod>(set).delete(&name, &apply::only(pod)).await {
            Ok(_) => self.succeeded(set, "Delete", &name),
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => {}
            Err(error) => return Ok(Some(self.failed(set, "Delete", &name, message(&error)))),
        }
        self.world.pods.has_lost(&Key::of(pod), &uid).await?;
        Ok(None)
    }

    fn succeeded(&self, set: &StatefulSet, verb: &str, pod: &str) {
        let reason = match verb {
            "Create" => "SuccessfulCreate",
            "Delete" => "SuccessfulDelete",
            _ => "SuccessfulUpdate",
        };
        self.events.normal(set, reason, format!("{verb} Pod {pod} in StatefulSet {} successful", set.name_any()));
    }

    fn failed(&self, set: &StatefulSet, verb: &str, pod: &str, why: String) -> String {
        let reason = if verb == "Create" { "FailedCreate" } else { "FailedDelete" };
        let message = format!("{verb} Pod {pod} in StatefulSet {} failed error: {why}", set.name_any());
        self.events.warning(set, reason, message);
        why
    }

    async fn report(&self, observed: &Observed, decision: &decide::Decision) -> Result<(), Error> {
        let mut reported = (*observed.set).clone();
        reported.status = Some(decision.status.clone());
        let sets = self.api(&observed.set);
        apply::update(&sets, &self.world.stateful_sets, Part::Status, &*observed.set, &reported).await.map(drop)
    }

    fn api<K>(&self, set: &StatefulSet) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.world.client.clone(), &set.namespace().unwrap_or_default())
    }
}
