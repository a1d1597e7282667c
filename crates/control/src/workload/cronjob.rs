//! Starts Jobs by the clock, and forgets the old ones.

mod decide;
mod starts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::{Api, ResourceExt};

use self::decide::{Start, decide, reference};
use super::apply::{self, Part};
use super::error::{has_cause, message, status_code};
use super::events::Events;
use super::informer::Key;
use super::queue::{Queue, Wake};
use super::world::World;
use super::{Error, owner};

const COMPONENT: &str = "cronjob-controller";

pub(super) struct CronJobs {
    world: Arc<World>,
    events: Events,
    /// The zone of schedules that name none.
    local: TimeZone,
}

/// Queues the CronJobs that a change concerns.
pub(super) fn listen(world: &World, queue: &Arc<Queue>) {
    let to = Arc::clone(queue);
    world.cron_jobs.listen(move |change| change.states().for_each(|cron| to.add(Key::of(&**cron))));
    let to = Arc::clone(queue);
    world.jobs.listen(move |change| {
        for job in change.states() {
            if let Some(owner) = owner::controller(&job.metadata).filter(|owner| owner.kind == "CronJob") {
                to.add(Key::new(job.namespace().unwrap_or_default(), &owner.name));
            }
        }
    });
}

impl CronJobs {
    pub(super) fn new(world: Arc<World>) -> Self {
        let events = world.events.of(COMPONENT);
        Self { world, events, local: TimeZone::system() }
    }

    pub(super) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(cron) = self.world.cron_jobs.get(&key) else { return Ok(None) };
        let children = self.world.jobs.controlled_by(&cron.uid().unwrap_or_default());
        let decision = decide(&cron, &children, &self.local, Timestamp::now());
        for note in decision.notes {
            self.events.about(&*cron, note.severity, note.reason, note.message);
        }
        let mut status = decision.status;
        let started = match &decision.start {
            Some(start) => self.start(&cron, start, &mut status).await,
            None => Ok(()),
        };
        for job in &decision.forgotten {
            self.delete(&cron, job).await?;
        }
        self.report(&cron, status).await?;
        started.map(|()| decision.wake)
    }

    async fn start(&self, cron: &CronJob, start: &Start, status: &mut CronJobStatus) -> Result<(), Error> {
        for job in &start.replaced {
            self.delete(cron, job).await?;
            status.active.iter_mut().for_each(|active| active.retain(|reference| reference.uid != job.uid()));
        }
        let jobs = self.jobs(cron);
        let started = match jobs.create(&PostParams::default(), &start.job).await {
            Ok(created) => {
                self.events.normal(cron, "SuccessfulCreate", format!("Created job {}", created.name_any()));
                self.world.jobs.has_seen(&created).await?;
                created
            }
            Err(error) if has_cause(&error, "NamespaceTerminating") => return Ok(()),
            // A former pass made it and could not say so any more.
            Err(error) if status_code(&error) == Some(409) => {
                let standing = jobs.get(&start.job.name_any()).await?;
                if owner::controller(&standing.metadata)
                    .is_none_or(|owner| Some(&owner.uid) != cron.metadata.uid.as_ref())
                {
                    return self.fail(cron, &error);
                }
                standing
            }
            Err(error) => return self.fail(cron, &error),
        };
        status.active.get_or_insert_default().push(reference(&started));
        status.last_schedule_time = Some(Time(start.at));
        Ok(())
    }

    fn fail(&self, cron: &CronJob, error: &kube::Error) -> Result<(), Error> {
        let message = message(error);
        self.events.warning(cron, "FailedCreate", format!("Error creating job: {message}"));
        Err(Error::Partial { message })
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> Result<(), Error> {
        let background = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..apply::only(job) };
        match self.jobs(cron).delete(&job.name_any(), &background).await {
            Ok(_) => self.events.normal(cron, "SuccessfulDelete", format!("Deleted job {}", job.name_any())),
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => {}
            Err(error) => {
                let message = message(&error);
                self.events.warning(cron, "FailedDelete", format!("Deleted job: {message}"));
                return Err(Error::Partial { message });
            }
        }
        self.world.jobs.has_lost(&Key::of(job), &job.uid().unwrap_or_default()).await
    }

    async fn report(&self, cron: &Arc<CronJob>, mut status: CronJobStatus) -> Result<(), Error> {
        status.active = status.active.filter(|active| !active.is_empty());
        let reported = CronJob { status: Some(status), ..(**cron).clone() };
        let crons: Api<CronJob> = Api::namespaced(self.world.client.clone(), &cron.namespace().unwrap_or_default());
        apply::update(&crons, &self.world.cron_jobs, Part::Status, &**cron, &reported).await.map(drop)
    }

    fn jobs(&self, cron: &CronJob) -> Api<Job> {
        Api::namespaced(self.world.client.clone(), &cron.namespace().unwrap_or_default())
    }
}
