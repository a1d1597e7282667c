//! Runs pods until enough of them have succeeded, and counts each end exactly once.

mod backoff;
mod decide;
mod indexes;
mod policy;
mod status;
mod tally;
mod template;
#[cfg(test)]
mod tests;
mod tracking;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PropagationPolicy};
use kube::{Api, ResourceExt};
use sluice_model::selector::Selector;

use self::backoff::Record;
use self::decide::{Act, Decision, Outcome, Verdict, decide, finished};
use self::status::{Remaining, Turn};
use self::tally::{TRACKING, Tally, count, is_tracked};
use super::apply::{self, Part};
use super::claim::{self, Claimant};
use super::error::status_code;
use super::events::Events;
use super::informer::{Key, is_deleted};
use super::pods::{Failure, Pods};
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, owner, pod};

pub(super) use tracking::Untracked;

const COMPONENT: &str = "job-controller";
/// The one in `spec.managedBy` that means us.
const OURSELVES: &str = "kubernetes.io/job-controller";

pub(super) struct Jobs {
    world: Arc<World>,
    events: Events,
    /// Of Jobs that run, with their uid; what is not in here is worked out from the pods that are there.
    records: Mutex<HashMap<Key, (Option<String>, Record)>>,
}

/// Queues the Jobs that a change concerns, and pods that no Job counts any more.
pub(super) fn listen(world: &World, queue: &Arc<Queue>, untracked: &Arc<Queue>) {
    tracking::listen(world, untracked);
    let to = Arc::clone(queue);
    world.jobs.listen(move |change| change.states().for_each(|job| to.add(Key::of(&**job))));
    claim::listen_pods(world, queue, &world.jobs, selector);
}

fn selector(job: &Job) -> Selector {
    claim::selector(&job.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default())
}

impl Jobs {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(COMPONENT);
        Self { world, events, records: Mutex::default() }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(job) = self.world.jobs.get(&key) else {
            self.records().remove(&key);
            return Ok(None);
        };
        let spec = job.spec.clone().unwrap_or_default();
        if spec.managed_by.is_some_and(|manager| manager != OURSELVES) {
            return Ok(None);
        }
        if finished(&job).is_some() {
            self.records().remove(&key);
            return self.expire(&job).await;
        }
        let pods = self.gather(&job).await?;
        let now = Timestamp::now();
        let known = self.records().get(&key).filter(|(uid, _)| *uid == job.uid()).map(|(_, record)| *record);
        let tally = Tally::of(&job, &pods, known);
        let decision = decide(&job, &tally, now);
        tracing::debug!(%key, %decision, "Job decided");
        let (remaining, failure) = self.apply(&job, &decision, &tally).await?;
        let is_full = self.report(&job, &pods, &tally, &decision, remaining, failure.is_some()).await?;
        match failure {
            Some(failure) => Err(Error::Partial { message: failure.message }),
            None if is_full => Ok(Some(Duration::ZERO)),
            None => Ok(decision.wake),
        }
    }

    /// Deletes a Job that has been over for long enough.
    async fn expire(&self, job: &Job) -> Result<Wake, Error> {
        let lifetime = job.spec.as_ref().and_then(|spec| spec.ttl_seconds_after_finished);
        let ended = finished(job).and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
        let (Some(lifetime), Some(ended)) = (lifetime, ended) else { return Ok(None) };
        if is_deleted(job) {
            return Ok(None);
        }
        let lifetime = Duration::from_secs(lifetime.unsigned_abs().into());
        let passed = Duration::try_from(Timestamp::now().duration_since(ended)).unwrap_or_default();
        if passed < lifetime {
            return Ok(Some(lifetime - passed));
        }
        let api: Api<Job> = Api::namespaced(self.world.client.clone(), &job.namespace().unwrap_or_default());
        let delete = DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..apply::only(job) };
        match api.delete(&job.name_any(), &delete).await {
            Ok(_) => Ok(None),
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The pods of the Job, after adopting and releasing.
    async fn gather(&self, job: &Arc<Job>) -> Result<Vec<Arc<Pod>>, Error> {
        let namespace = job.namespace().unwrap_or_default();
        let pods = &self.world.pods;
        let mut candidates = pods.controlled_by(job.metadata.uid.as_deref().unwrap_or_default());
        candidates.extend(pods.orphans(&namespace));
        let selector = selector(job);
        let claimant =
            Claimant { reference: owner::controlled_by(&**job), selector: &selector, is_deleted: is_deleted(&**job) };
        let jobs: Api<Job> = Api::namespaced(self.world.client.clone(), &namespace);
        let pod_api = Api::namespaced(self.world.client.clone(), &namespace);
        claimant.claim_with(Some(TRACKING), &pod_api, pods, candidates, claim::is_there(&jobs, &**job)).await
    }

    async fn apply(
        &self,
        job: &Arc<Job>,
        decision: &Decision,
        tally: &Tally,
    ) -> Result<(Remaining, Option<Failure>), Error> {
        let hands = Pods { world: &self.world, events: &self.events, owner: &**job };
        let before = Remaining { active: count(&tally.active), ready: tally.ready, terminating: tally.terminating };
        match &decision.act {
            Act::Nothing => Ok((before, None)),
            Act::Create(seats) => {
                let pods: Vec<_> = seats.iter().map(|seat| template::pod(job, seat)).collect();
                let failure = hands.create(&pods).await?;
                let now = self.world.pods.controlled_by(&job.uid().unwrap_or_default());
                let active = count(now.iter().filter(|pod| pod::is_active(pod)));
                Ok((Remaining { active, ..before }, failure))
            }
            Act::End(pods) => {
                let failure = hands.delete(pods).await?;
                Ok((without(before, pods, failure.as_ref()), failure))
            }
            Act::Shrink(pods) => {
                // Forgotten first, so that their ends count for nothing.
                tracking::untrack(&self.world, pods).await?;
                let failure = hands.delete(pods).await?;
                Ok((without(before, pods, failure.as_ref()), failure))
            }
        }
    }

    /// Writes what has come of it. Returns whether there is more to count than one status holds.
    async fn report(
        &self,
        job: &Arc<Job>,
        pods: &[Arc<Pod>],
        tally: &Tally,
        decision: &Decision,
        remaining: Remaining,
        has_failed: bool,
    ) -> Result<bool, Error> {
        let now = Timestamp::now();
        let spec = job.spec.clone().unwrap_or_default();
        let mut status = job.status.clone().unwrap_or_default();
        status::start(&mut status, &spec, now);
        // What could not be ended may still do something.
        let verdict = decision.verdict.as_ref().filter(|_| !has_failed);
        let is_over = decision.verdict.is_some() || is_deleted(&**job);
        let turn = if is_over { None } else { status::turn(&mut status, &spec, now) };
        match turn {
            Some(Turn::Suspended) => self.events.normal(&**job, "Suspended", "Job suspended"),
            Some(Turn::Resumed) => self.events.normal(&**job, "Resumed", "Job resumed"),
            None => {}
        }
        let booking = status::book(job, status, pods, tally, verdict, remaining, now);
        let mut current = Arc::clone(job);
        if !booking.untracked.is_empty() {
            current = self.write(&current, booking.noted.clone()).await?;
        }
        self.records().insert(Key::of(&**job), (job.uid(), tally.record));
        let gone = tracking::untrack(&self.world, &booking.untracked).await?;
        let uid = |pod: &Arc<Pod>| pod.uid().unwrap_or_default();
        let still_tracked: HashSet<String> =
            pods.iter().filter(|pod| is_tracked(pod)).map(uid).filter(|uid| !gone.contains(uid)).collect();
        let (settled, is_finished) = status::settle(booking.noted, &still_tracked, verdict, booking.is_full, now);
        let written = self.write(&current, settled).await?;
        if let Some(verdict) = verdict.filter(|_| is_finished) {
            self.announce(&written, verdict);
        }
        Ok(booking.is_full)
    }

    fn announce(&self, job: &Job, verdict: &Verdict) {
        if verdict.outcome == Outcome::Failure {
            self.events.warning(job, verdict.reason, verdict.message.clone());
            return;
        }
        let succeeded = job.status.as_ref().and_then(|status| status.succeeded).unwrap_or(0);
        let completions = job.spec.as_ref().and_then(|spec| spec.completions);
        if completions.is_some_and(|completions| completions < succeeded) {
            let message = "Too many succeeded pods running after completion count reached";
            self.events.warning(job, "TooManySucceededPods", message);
        }
        self.events.normal(job, "Completed", "Job completed");
    }

    async fn write(&self, job: &Arc<Job>, status: JobStatus) -> Result<Arc<Job>, Error> {
        let reported = Job { status: Some(status), ..(**job).clone() };
        let jobs: Api<Job> = Api::namespaced(self.world.client.clone(), &job.namespace().unwrap_or_default());
        let written = apply::update(&jobs, &self.world.jobs, Part::Status, &**job, &reported).await?;
        Ok(written.map_or_else(|| Arc::clone(job), Arc::new))
    }

    fn records(&self) -> MutexGuard<'_, HashMap<Key, (Option<String>, Record)>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The condition that says that the Job is over.
pub(super) fn ended(job: &Job) -> Option<&JobCondition> {
    finished(job)
}

/// After the deletion of these pods, where it went well.
fn without(before: Remaining, pods: &[Arc<Pod>], failure: Option<&Failure>) -> Remaining {
    if failure.is_some() {
        return before;
    }
    Remaining {
        active: before.active - count(pods),
        ready: before.ready - count(pods.iter().filter(|pod| pod::is_ready(pod))),
        terminating: before.terminating + count(pods),
    }
}
