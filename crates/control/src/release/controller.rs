//! One pass over one Rollout: gather, validate, decide, apply, report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use sluice_model::rollout::{RolloutSpec, RolloutStatus};
use sluice_release::{Decision, Desired, Event, Measured, Probe, decide};

use super::gather::{Gathered, Gathering, target_key};
use super::memory::{Memories, Memory};
use super::probe::{self, Asked};
use super::world::{World, resource};
use super::{MANAGER, Measure, report};
use crate::Error;
use crate::attach::{Attach, Workload};
use crate::informer::{Key, is_deleted, revision};
use crate::pod;
use crate::queue::{Queue, Wake};

pub(crate) struct Releases {
    pub(crate) world: Arc<World>,
    pub(crate) attach: Box<dyn Attach>,
    pub(crate) measure: Arc<dyn Measure>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) memories: Memories,
}

/// What stands in the way of a decision; the user's to mend.
enum Obstacle {
    Invalid(String),
    Waiting(String),
}

impl Releases {
    pub(crate) async fn reconcile(&self, key: Key) -> Result<Wake, Error> {
        let Some(rollout) = self.world.rollouts.get(&key).filter(|rollout| !is_deleted(&**rollout)) else {
            self.memories.forget(&key);
            self.world.waits_for_gateways(&key, false);
            return Ok(None);
        };
        let memory = self.memories.of(&key, &rollout.uid().unwrap_or_default());
        let status = status(&rollout);
        match self.validate(&key, &rollout) {
            Ok((spec, desired, workload)) => {
                let pass =
                    Pass { rollout: &rollout, spec: &spec, desired: &desired, workload: &workload, memory: &memory };
                self.release(&key, &pass, status).await
            }
            Err(obstacle) => self.explain(&rollout, status, obstacle, &memory).await,
        }
    }

    fn validate(&self, key: &Key, rollout: &DynamicObject) -> Result<(RolloutSpec, Desired, Workload), Obstacle> {
        let spec = RolloutSpec::deserialize(&rollout.data["spec"]);
        let spec = spec.map_err(|error| Obstacle::Invalid(format!("spec: {error}")))?;
        let desired = Desired::read(&spec).map_err(|errors| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Obstacle::Invalid(texts.join("; "))
        })?;
        if let Some(other) = self.first_of_target(rollout, &spec.target.name).filter(|first| first != key) {
            let (name, other) = (&spec.target.name, other.name);
            return Err(Obstacle::Invalid(format!(
                "spec.target: Deployment `{name}` is released by Rollout `{other}` already"
            )));
        }
        let workload = self.attach.observe(&key.namespace, &spec.target);
        let workload = workload
            .ok_or_else(|| Obstacle::Waiting(format!("waiting: there is no Deployment `{}`", spec.target.name)))?;
        Ok((spec, desired, workload))
    }

    /// Of several Rollouts with one target the oldest counts.
    fn first_of_target(&self, rollout: &DynamicObject, target: &str) -> Option<Key> {
        let keys = self.world.targeting(&target_key(rollout, target));
        let known = keys.into_iter().filter_map(|key| Some((self.world.rollouts.get(&key)?, key)));
        let oldest = known.min_by_key(|(rollout, key)| (rollout.creation_timestamp().map(|time| time.0), key.clone()));
        oldest.map(|(_, key)| key)
    }

    async fn release(&self, key: &Key, pass: &Pass<'_>, status: RolloutStatus) -> Result<Wake, Error> {
        let now = Timestamp::now();
        let gathering = Gathering {
            world: &self.world,
            measure: &*self.measure,
            rollout: pass.rollout,
            desired: pass.desired,
            status: &status,
            workload: pass.workload,
            now,
        };
        let Gathered { observed, wake, waits_for_gateways } = gathering.gather(&mut pass.memory());
        let Decision { status: mut next, outcomes, events, measure, wake: own } =
            decide(pass.desired, &observed, &status, now);
        pass.memory().complained.clear();
        next.observed_generation = pass.rollout.metadata.generation;
        if pass.workload.current.is_some() {
            next.target_generation = pass.workload.generation;
        }
        let current = pass.workload.current.as_ref().map(|current| current.hash.as_str());
        report::conditions(&mut next, pass.rollout.metadata.generation, current, None, now);
        let exposes = next.exposure != status.exposure;
        self.world.waits_for_gateways(key, waits_for_gateways || exposes);
        if next != status {
            tracing::debug!(rollout = %key, "{}", next.message);
            let written = self.write(pass.rollout, &next).await?;
            pass.memory().exposed_by(next.exposure.as_ref(), revision(&written));
            self.attach.resize(&key.namespace, &pass.spec.target, &next.sizes).await?;
            self.world.rollouts.has_seen(&written).await?;
        }
        report::events(&self.world, pass.rollout, events);
        report::answers(&self.world, &key.namespace, outcomes).await?;
        self.probe(key, pass, &next, &measure);
        let wake = own.into_iter().chain(wake).min();
        Ok(wake.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default()))
    }

    /// Traffic and pods stay as they are; the status says why.
    async fn explain(
        &self,
        rollout: &DynamicObject,
        status: RolloutStatus,
        obstacle: Obstacle,
        memory: &Arc<Mutex<Memory>>,
    ) -> Result<Wake, Error> {
        let mut next = status.clone();
        let (Obstacle::Invalid(why) | Obstacle::Waiting(why)) = &obstacle;
        next.message.clone_from(why);
        next.observed_generation = rollout.metadata.generation;
        let invalid = matches!(obstacle, Obstacle::Invalid(_)).then_some(why.as_str());
        report::conditions(&mut next, rollout.metadata.generation, None, invalid, Timestamp::now());
        if next != status {
            let written = self.write(rollout, &next).await?;
            self.world.rollouts.has_seen(&written).await?;
        }
        let said = {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut memory.complained, why.clone()) == *why
        };
        if invalid.is_some() && !said {
            let event = Event { warning: true, reason: "SpecInvalid", note: why.clone() };
            report::events(&self.world, rollout, vec![event]);
        }
        Ok(None)
    }

    /// Refused if the Rollout changed since it was decided upon.
    async fn write(&self, rollout: &DynamicObject, status: &RolloutStatus) -> Result<DynamicObject, Error> {
        let api: Api<DynamicObject> = Api::namespaced_with(
            self.world.client.clone(),
            &rollout.namespace().unwrap_or_default(),
            &resource("Rollout", "rollouts"),
        );
        let mut next = rollout.clone();
        next.data["status"] = serde_json::to_value(status).expect("a status is plain data");
        let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        Ok(api.replace_status(&rollout.name_any(), &parameters, &next).await?)
    }

    /// Starts the http checks that are due; the results come back as a pass of their own.
    fn probe(&self, key: &Key, pass: &Pass<'_>, status: &RolloutStatus, names: &[String]) {
        for name in names {
            let Some(Probe::Http(check)) = pass.desired.check(name).map(|check| check.probe.clone()) else { continue };
            if !pass.memory().probing.insert(name.clone()) {
                continue;
            }
            let pods = status.candidate.as_ref().map(|candidate| candidates(pass.workload, &candidate.hash));
            let (port, memory, queue) = (pass.workload.port, Arc::clone(pass.memory), Arc::clone(&self.queue));
            let (key, name) = (key.clone(), name.clone());
            tokio::spawn(async move {
                let since = Timestamp::now();
                let (verdict, evidence) = probe::ask(&check, pods.unwrap_or_default(), port).await;
                let measured = Measured { at: Timestamp::now(), since, verdict, evidence };
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.probing.remove(&name);
                memory.probes.insert(name, measured);
                queue.add(key);
            });
        }
    }
}

/// What a pass works on.
struct Pass<'a> {
    rollout: &'a DynamicObject,
    spec: &'a RolloutSpec,
    desired: &'a Desired,
    workload: &'a Workload,
    memory: &'a Arc<Mutex<Memory>>,
}

impl Pass<'_> {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A status that cannot be read is one that we did not write; it is started over from what the world shows.
fn status(rollout: &DynamicObject) -> RolloutStatus {
    let Some(value) = rollout.data.get("status") else { return RolloutStatus::default() };
    RolloutStatus::deserialize(value).unwrap_or_else(|error| {
        tracing::warn!(%error, rollout = rollout.name_any(), "Status unreadable");
        RolloutStatus::default()
    })
}

fn candidates(workload: &Workload, hash: &str) -> Vec<Asked> {
    let version = workload.versions.iter().find(|version| version.revision.hash == hash);
    let pods = version.map(|version| version.pods.as_slice()).unwrap_or_default();
    let ready: BTreeMap<String, Asked> = pods
        .iter()
        .filter(|pod| !is_deleted(&***pod) && pod::is_ready(pod))
        .filter_map(|pod| {
            let ip = pod.status.as_ref()?.pod_ip.clone()?;
            Some((pod.name_any(), Asked { name: pod.name_any(), ip }))
        })
        .collect();
    ready.into_values().collect()
}
