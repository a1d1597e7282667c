//! From what the API holds to the situation of one Rollout.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::Deserialize;
use sluice_model::rollout::{RolloutCommandSpec, RolloutStatus};
use sluice_release::{Command, Desired, Observed, Version};

use super::Measure;
use super::gateways::Gateways;
use super::memory::Memory;
use super::world::World;
use crate::attach::Workload;
use crate::informer::{Key, is_deleted, revision};
use crate::pod;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// The situation, and what besides a change of it calls for another look.
pub(crate) struct Gathered {
    pub(crate) observed: Observed,
    /// When a pod will have been ready for long enough, or a silent gateway counts as gone.
    pub(crate) wake: Option<Timestamp>,
    pub(crate) waits_for_gateways: bool,
}

pub(crate) struct Gathering<'a> {
    pub(crate) world: &'a World,
    pub(crate) measure: &'a dyn Measure,
    pub(crate) rollout: &'a DynamicObject,
    pub(crate) desired: &'a Desired,
    pub(crate) status: &'a RolloutStatus,
    pub(crate) workload: &'a Workload,
    pub(crate) now: Timestamp,
}

impl Gathering<'_> {
    pub(crate) fn gather(&self, memory: &mut Memory) -> Gathered {
        let leases = self.world.leases.all();
        let gateways = Gateways::read(leases.iter().map(|lease| &**lease), self.now);
        let carried_by = memory.exposed_by(self.status.exposure.as_ref(), revision(self.rollout));
        let acknowledged = gateways.serve_rollout(carried_by);
        let mut pods = Pods::new(self, &gateways, &memory.programmed);
        let versions: BTreeMap<String, Version> =
            self.workload.versions.iter().map(|version| (version.revision.hash.clone(), pods.count(version))).collect();
        let Pods { programmed, unprogrammed, wake, .. } = pods;
        memory.programmed = programmed;
        let waits_for_gateways = !acknowledged || unprogrammed;
        let wake = if waits_for_gateways { earliest(wake, gateways.until) } else { wake };
        let observed = Observed {
            replicas: self.workload.replicas,
            current: self.workload.current.clone(),
            versions,
            acknowledged,
            fences: self.workload.fences,
            progress_deadline: self.workload.progress_deadline,
            commands: self.commands(),
            measured: memory.measure(self.measure, &self.namespace(), self.desired, self.status, self.now),
        };
        Gathered { observed, wake, waits_for_gateways }
    }

    fn namespace(&self) -> String {
        self.rollout.namespace().unwrap_or_default()
    }

    /// Commands for this Rollout that nobody answered yet.
    fn commands(&self) -> Vec<Command> {
        let name = self.rollout.name_any();
        let commands = self.world.commands.in_namespace(&self.namespace());
        commands
            .iter()
            .filter_map(|command| read_command(command))
            .filter(|command| command.spec.rollout == name)
            .collect()
    }

    /// The slices of the Services that select the workload's pods; none if there is no such Service.
    fn slices(&self) -> Option<Vec<std::sync::Arc<EndpointSlice>>> {
        let namespace = self.namespace();
        let labels = &self.workload.labels;
        let selecting: HashSet<String> = self
            .world
            .services
            .in_namespace(&namespace)
            .iter()
            .filter(|service| {
                let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                selector.is_some_and(|selector| {
                    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
                })
            })
            .map(|service| service.name_any())
            .collect();
        if selecting.is_empty() {
            return None;
        }
        let mut slices = self.world.slices.in_namespace(&namespace);
        slices.retain(|slice| slice.labels().get(SERVICE_LABEL).is_some_and(|service| selecting.contains(service)));
        Some(slices)
    }
}

fn read_command(command: &DynamicObject) -> Option<Command> {
    if is_deleted(command) || command.data["status"]["phase"].is_string() {
        return None;
    }
    let spec = RolloutCommandSpec::deserialize(&command.data["spec"]).ok()?;
    let created = command.creation_timestamp().map_or(Timestamp::MIN, |time| time.0);
    Some(Command { uid: command.uid()?, name: command.name_any(), created, spec })
}

/// Counts pods that can take traffic: available, and known to every gateway where gateways serve them.
struct Pods<'a> {
    min_ready: Duration,
    now: Timestamp,
    /// The newest revision of the slices in which a pod is ready, where that matters.
    routable: Option<BTreeMap<String, u64>>,
    gateways: &'a Gateways,
    known: &'a HashSet<String>,
    programmed: HashSet<String>,
    unprogrammed: bool,
    wake: Option<Timestamp>,
}

impl<'a> Pods<'a> {
    fn new(gathering: &Gathering<'_>, gateways: &'a Gateways, known: &'a HashSet<String>) -> Self {
        let slices = if gateways.is_empty() { None } else { gathering.slices() };
        Self {
            min_ready: gathering.workload.min_ready,
            now: gathering.now,
            routable: slices.map(|slices| routable(&slices)),
            gateways,
            known,
            programmed: HashSet::new(),
            unprogrammed: false,
            wake: None,
        }
    }

    fn count(&mut self, version: &crate::attach::WorkloadVersion) -> Version {
        let ready = version.pods.iter().filter(|pod| self.takes_traffic(pod)).count();
        Version {
            number: version.revision.number,
            size: version.size,
            pods: count(version.pods.len()),
            ready: count(ready),
        }
    }

    fn takes_traffic(&mut self, pod: &Pod) -> bool {
        let Some(wait) = pod::until_available(pod, self.min_ready, self.now).filter(|_| !is_deleted(pod)) else {
            return false;
        };
        if !wait.is_zero() {
            self.wake = earliest(self.wake, self.now.checked_add(wait).ok());
            return false;
        }
        let uid = pod.uid().unwrap_or_default();
        let served = match &self.routable {
            None => true,
            Some(routable) => routable
                .get(&uid)
                .is_some_and(|revision| self.known.contains(&uid) || self.gateways.serve_slice(*revision)),
        };
        if served {
            self.programmed.insert(uid);
        } else {
            self.unprogrammed = true;
        }
        served
    }
}

/// By pod uid: the oldest slice revision that is known to hold it as ready.
fn routable(slices: &[std::sync::Arc<EndpointSlice>]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for slice in slices {
        let at = revision(&**slice);
        let ready = slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
        for uid in ready.filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.clone()) {
            found.entry(uid).and_modify(|known: &mut u64| *known = at.min(*known)).or_insert(at);
        }
    }
    found
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Where a Rollout's own key stands for its target.
pub(crate) fn target_key(rollout: &DynamicObject, name: &str) -> Key {
    Key::new(rollout.namespace().unwrap_or_default(), name)
}
