//! The finalizer that holds a Job's pods until their ends are counted: taken off counted pods, and off pods that no Job will
//! ever count.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};

use super::super::apply::{self, Part};
use super::super::informer::{Change, Key};
use super::super::queue::{Queue, Wake};
use super::super::world::World;
use super::super::{Error, owner};
use super::finished;
use super::tally::{TRACKING, is_tracked};

/// Frees pods whose Job is gone, over, or no longer theirs.
pub(in super::super) struct Untracked {
    world: Arc<World>,
}

pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.pods.listen(move |change: Change<'_, Pod>| {
        if let Some(pod) = change.new.filter(|pod| is_tracked(pod)) {
            to.add(Key::of(&**pod));
        }
    });
    let (to, pods) = (Arc::clone(queue), Arc::clone(&world.pods));
    world.jobs.listen(move |change: Change<'_, Job>| {
        if let (Some(job), None) = (change.old, change.new) {
            let left = pods.controlled_by(job.metadata.uid.as_deref().unwrap_or_default());
            left.iter().filter(|pod| is_tracked(pod)).for_each(|pod| to.add(Key::of(&**pod)));
        }
    });
}

impl Untracked {
    pub(in super::super) fn new(world: Arc<World>) -> Self {
        Self { world }
    }

    pub(in super::super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(pod) = self.world.pods.get(&key).filter(|pod| is_tracked(pod)) else { return Ok(None) };
        let is_counted = owner::controller(&pod.metadata).is_some_and(|owner| {
            let job = self.world.jobs.get(&Key::new(key.namespace.clone(), &owner.name));
            let is_ours = owner.kind == "Job" && owner.api_version.starts_with("batch/");
            !is_ours || job.is_some_and(|job| job.uid().as_ref() == Some(&owner.uid) && finished(&job).is_none())
        });
        if !is_counted {
            untrack(&self.world, &[pod]).await?;
        }
        Ok(None)
    }
}

/// Returns the uids of those that carry it no more.
pub(super) async fn untrack(world: &World, pods: &[Arc<Pod>]) -> Result<HashSet<String>, Error> {
    let results = join_all(pods.iter().filter(|pod| is_tracked(pod)).map(|pod| untrack_one(world, pod))).await;
    results.into_iter().collect()
}

async fn untrack_one(world: &World, pod: &Arc<Pod>) -> Result<String, Error> {
    let uid = pod.uid().unwrap_or_default();
    // It may have been told to end since it was looked at.
    let newest = world.pods.get(&Key::of(&**pod)).filter(|newest| newest.uid() == pod.uid());
    let pod = newest.as_ref().unwrap_or(pod);
    let mut freed = (**pod).clone();
    freed.finalizers_mut().retain(|finalizer| finalizer != TRACKING);
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &pod.namespace().unwrap_or_default());
    match apply::update(&api, &world.pods, Part::Main, &**pod, &freed).await {
        Ok(_) => {}
        // Somebody else's change: the next pass has it in sight.
        Err(error) => match api.get_opt(&pod.name_any()).await? {
            Some(live) if live.uid().as_ref() == Some(&uid) && is_tracked(&live) => return Err(error),
            _ => world.pods.has_lost(&Key::of(&**pod), &uid).await?,
        },
    }
    Ok(uid)
}
