//! Keeps the status of disruption budgets: how many of their pods may be evicted now.

mod decide;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, ResourceExt};

use self::decide::{Scale, decide, needs_scale, refuse, unmanaged};
use super::apply::{self, Part};
use super::events::Events;
use super::informer::{Change, Key, is_deleted};
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, claim, owner};

const COMPONENT: &str = "controllermanager";

pub(super) struct Budgets {
    world: Arc<World>,
    events: Events,
}

/// Queues the budgets that a change concerns.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.budgets.listen(move |change| change.new.iter().for_each(|budget| to.add(Key::of(&***budget))));
    let (to, budgets) = (Arc::clone(queue), Arc::clone(&world.budgets));
    world.pods.listen(move |change: Change<'_, Pod>| {
        for pod in change.states() {
            for budget in budgets.in_namespace(&pod.namespace().unwrap_or_default()) {
                if covers(&budget, pod) {
                    to.add(Key::of(&*budget));
                }
            }
        }
    });
    // How many there should be changes with the owners.
    let (to, budgets) = (Arc::clone(queue), Arc::clone(&world.budgets));
    let add_all = Arc::new(move |namespace: Option<String>| {
        budgets.in_namespace(&namespace.unwrap_or_default()).iter().for_each(|budget| to.add(Key::of(&**budget)));
    });
    let add = Arc::clone(&add_all);
    world.deployments.listen(move |change| change.states().for_each(|it| add(it.namespace())));
    let add = Arc::clone(&add_all);
    world.replica_sets.listen(move |change| change.states().for_each(|it| add(it.namespace())));
    let add = Arc::clone(&add_all);
    world.replication_controllers.listen(move |change| change.states().for_each(|it| add(it.namespace())));
    world.stateful_sets.listen(move |change| change.states().for_each(|it| add_all(it.namespace())));
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| claim::matches(&claim::selector(selector), pod.metadata.labels.as_ref()))
}

impl Budgets {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(COMPONENT);
        Self { world, events }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(budget) = self.world.budgets.get(&key).filter(|budget| !is_deleted(&**budget)) else {
            return Ok(None);
        };
        let mut pods = self.world.pods.in_namespace(&key.namespace);
        pods.retain(|pod| covers(&budget, pod));
        if pods.is_empty() {
            self.events.normal(&*budget, "NoPods", "No matching pods found");
        }
        let spec = budget.spec.clone().unwrap_or_default();
        let now = Timestamp::now();
        let scale = if needs_scale(&spec) { self.scale(&pods) } else { Ok(Scale::default()) };
        let scale = match scale {
            Ok(scale) => scale,
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.events.warning(&*budget, "CalculateExpectedPodCountFailed", message);
                self.report(&budget, refuse(&budget, &why, now)).await?;
                return Ok(None);
            }
        };
        if scale.unmanaged > 0 {
            self.events.warning(&*budget, "UnmanagedPods", unmanaged(&spec.selector.unwrap_or_default()));
        }
        let decision = decide(&budget, &pods, &scale, now);
        for pod in &decision.undead {
            let message = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            self.events.warning(&**pod, "NotDeleted", message);
        }
        self.report(&budget, decision.status).await?;
        Ok(decision.wake)
    }

    /// The sizes of all who control these pods.
    fn scale(&self, pods: &[Arc<Pod>]) -> Result<Scale, String> {
        let mut scale = Scale::default();
        let mut counted = HashSet::new();
        for pod in pods {
            let Some(controller) = owner::controller(&pod.metadata) else {
                scale.unmanaged += 1;
                continue;
            };
            let (uid, size) = self.size_of(&pod.namespace().unwrap_or_default(), controller)?;
            if counted.insert(uid) {
                scale.wanted += size;
            }
        }
        Ok(scale)
    }

    /// The size that an owner wants, with the uid of the one who says so: the Deployment above its ReplicaSets.
    fn size_of(&self, namespace: &str, reference: &OwnerReference) -> Result<(String, i32), String> {
        let key = Key::new(namespace, &reference.name);
        let world = &self.world;
        let size = match reference.kind.as_str() {
            "ReplicaSet" => world.replica_sets.get(&key).map(|set| {
                let above = owner::controller(&set.metadata).filter(|above| above.kind == "Deployment");
                let deployment = above.and_then(|above| world.deployments.get(&Key::new(namespace, &above.name)));
                match deployment {
                    Some(it) => (it.uid(), it.spec.as_ref().and_then(|spec| spec.replicas)),
                    None => (set.uid(), set.spec.as_ref().and_then(|spec| spec.replicas)),
                }
            }),
            "ReplicationController" => {
                let found = world.replication_controllers.get(&key);
                found.map(|it| (it.uid(), it.spec.as_ref().and_then(|spec| spec.replicas)))
            }
            "StatefulSet" => {
                world.stateful_sets.get(&key).map(|it| (it.uid(), it.spec.as_ref().and_then(|spec| spec.replicas)))
            }
            kind => {
                let group =
                    reference.api_version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
                return Err(format!("{}s{group} does not implement the scale subresource", kind.to_lowercase()));
            }
        };
        // An owner that is gone wants nothing.
        Ok(size.map_or((reference.uid.clone(), 0), |(uid, size)| (uid.unwrap_or_default(), size.unwrap_or(1))))
    }

    async fn report(&self, budget: &Arc<PodDisruptionBudget>, status: PodDisruptionBudgetStatus) -> Result<(), Error> {
        let reported = PodDisruptionBudget { status: Some(status), ..(**budget).clone() };
        let namespace = budget.namespace().unwrap_or_default();
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.world.client.clone(), &namespace);
        apply::update(&api, &self.world.budgets, Part::Status, &**budget, &reported).await.map(drop)
    }
}
