//! On our own API server: the Deployment controller takes the sizes from the Rollout's status, so nothing is written here and
//! no field of the Deployment is touched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use sluice_model::amount::Share;
use sluice_model::rollout::{Revision, Target};
use sluice_release::Fences;

use super::{Attach, Workload, WorkloadVersion};
use crate::informer::{Cache, Key};
use crate::{Error, pod, template};

/// What a Deployment has when it does not say.
const PROGRESS_DEADLINE_SECONDS: i32 = 600;
const FENCE: Share = Share::QUARTER;

pub(crate) struct Embedded {
    pub(crate) deployments: Arc<Cache<Deployment>>,
    pub(crate) replica_sets: Arc<Cache<ReplicaSet>>,
    pub(crate) pods: Arc<Cache<Pod>>,
}

impl Attach for Embedded {
    fn observe(&self, namespace: &str, target: &Target) -> Option<Workload> {
        let deployment = self.deployments.get(&Key::new(namespace, &target.name))?;
        let spec = deployment.spec.as_ref()?;
        let mut sets = self.replica_sets.controlled_by(&deployment.uid()?);
        sets.sort_by_key(|set| (set.creation_timestamp().map(|time| time.0), set.name_any()));
        let current = sets.iter().find(|set| template::is_of(set, &spec.template));
        let replicas = unsigned(spec.replicas.unwrap_or(1));
        let pod_spec = spec.template.spec.as_ref();
        let ports = pod_spec.and_then(|spec| spec.containers.first()?.ports.as_ref()?.first());
        Some(Workload {
            replicas,
            current: current.and_then(|set| revision(set)),
            generation: deployment.metadata.generation,
            versions: sets.iter().filter_map(|set| self.version(set)).collect(),
            labels: spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default(),
            port: ports.and_then(|port| u16::try_from(port.container_port).ok()),
            fences: fences(&deployment, replicas),
            progress_deadline: seconds(spec.progress_deadline_seconds.unwrap_or(PROGRESS_DEADLINE_SECONDS)),
            min_ready: seconds(spec.min_ready_seconds.unwrap_or(0)),
        })
    }

    fn resize<'a>(
        &'a self,
        _namespace: &'a str,
        _target: &'a Target,
        _sizes: &'a BTreeMap<String, i32>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        futures::future::ready(Ok(())).boxed()
    }
}

impl Embedded {
    fn version(&self, set: &ReplicaSet) -> Option<WorkloadVersion> {
        let mut pods = self.pods.controlled_by(&set.uid()?);
        pods.retain(|pod| !pod::is_finished(pod));
        let size = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        Some(WorkloadVersion { revision: revision(set)?, size: unsigned(size), pods })
    }
}

fn revision(set: &ReplicaSet) -> Option<Revision> {
    Some(Revision { hash: template::hash(set)?.to_owned(), number: template::number(set) })
}

/// The surge is rounded up, the unavailable part down.
fn fences(deployment: &Deployment, replicas: u32) -> Fences {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let read = |fence: Option<&IntOrString>, of: fn(Share, u32) -> u32| match fence {
        Some(IntOrString::Int(count)) => unsigned(*count),
        Some(IntOrString::String(text)) => of(Share::parse(text).unwrap_or(FENCE), replicas),
        None => of(FENCE, replicas),
    };
    Fences {
        surge: read(rolling.and_then(|rolling| rolling.max_surge.as_ref()), Share::of_rounded_up),
        unavailable: read(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), Share::of_rounded_down),
    }
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::from(unsigned(seconds)))
}

/// The API refuses negative counts.
fn unsigned(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(0)
}
