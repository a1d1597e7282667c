//! A pod's status, computed from what its supervisor says and what the probes found. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP, PodStatus, VolumeMount,
        VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use sluice_pod::{
    plan::{Launch, PodPlan, Role},
    wire::{self, Condition, Exit, PodState},
};

use super::downward::Facts;

pub(super) const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
pub(super) const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// What a status is made of.
pub(super) struct Observed<'a> {
    pub(super) pod: &'a Pod,
    /// What was reported last, which may be newer than what `pod` shows.
    pub(super) reported: Option<&'a PodStatus>,
    /// `None` until the pod has an address.
    pub(super) facts: Option<&'a Facts>,
    /// `None` until a supervisor runs.
    pub(super) state: Option<&'a PodState>,
    pub(super) runtime: Runtime<'a>,
    /// Containers whose readiness probe succeeds, or that have none, among those that run.
    pub(super) ready: &'a BTreeSet<String>,
    /// The pod is ended for having been active too long.
    pub(super) deadline_exceeded: bool,
    pub(super) now: Timestamp,
}

/// What runs the pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runtime<'a> {
    /// In containers, not as processes.
    pub(super) confined: bool,
    /// `None` until there is one.
    pub(super) plan: Option<&'a PodPlan>,
    /// Our own user and group, which processes without another one run as.
    pub(super) own_ids: (u32, u32),
}

impl Runtime<'_> {
    /// A container's part of what may be said.
    fn shortened(&self, message: &str) -> String {
        let containers = self.plan.map_or(1, |plan| plan.containers.len().max(1));
        message[..message.floor_char_boundary(MAX_TERMINATION_BYTES / containers)].to_owned()
    }

    fn container_id(&self, id: &str) -> String {
        let scheme = if self.confined { "container" } else { "process" };
        format!("{scheme}://{id}")
    }

    /// Who a container was started as; `None` where only the files of its image can tell.
    fn user(&self, container: &str) -> Option<ContainerUser> {
        let plan = self.plan?.containers.iter().find(|plan| plan.name == container)?;
        let Launch::Ready(command) = &plan.launch else { return None };
        let (uid, gid, groups) = match &command.confinement {
            None => (command.uid.unwrap_or(self.own_ids.0), command.gid.unwrap_or(self.own_ids.1), Vec::new()),
            Some(confinement) => {
                let (user, group) = confinement.image_user.split_once(':').unwrap_or((&confinement.image_user, ""));
                let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse().ok() };
                let uid = command.uid.or_else(|| number(user))?;
                (uid, command.gid.or_else(|| number(group))?, confinement.groups.clone())
            }
        };
        let mut groups: Vec<i64> = groups.into_iter().chain([gid]).map(i64::from).collect();
        groups.sort_unstable();
        groups.dedup();
        let linux = LinuxContainerUser { uid: uid.into(), gid: gid.into(), supplemental_groups: Some(groups) };
        Some(ContainerUser { linux: Some(linux) })
    }
}

impl Observed<'_> {
    fn old(&self) -> Option<&PodStatus> {
        self.reported.or(self.pod.status.as_ref())
    }
}

/// What the last words of all containers of a pod may add up to.
const MAX_TERMINATION_BYTES: usize = 12 << 10;

pub(super) fn status(observed: &Observed<'_>) -> PodStatus {
    let Some(spec) = &observed.pod.spec else { return PodStatus::default() };
    let old = observed.old();
    let apps: Vec<ContainerStatus> =
        spec.containers.iter().map(|container| container_status(observed, container, Role::App)).collect();
    let inits: Vec<ContainerStatus> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| container_status(observed, container, init_role(container)))
        .collect();
    let phase = phase(observed, &apps);
    let pod_ip = observed.facts.map(|facts| facts.pod_ip.to_string());
    let host_ip = observed.facts.map(|facts| facts.host_ip.to_string());
    PodStatus {
        conditions: Some(conditions(observed, phase, &apps, &inits)),
        container_statuses: Some(apps),
        init_container_statuses: (!inits.is_empty()).then_some(inits),
        host_ips: host_ip.clone().map(|ip| vec![HostIP { ip }]),
        host_ip,
        pod_ips: observed.facts.map(|facts| facts.pod_ips().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        pod_ip,
        phase: Some(phase.to_owned()),
        reason: observed.deadline_exceeded.then(|| DEADLINE_EXCEEDED.to_owned()),
        message: observed.deadline_exceeded.then(|| DEADLINE_MESSAGE.to_owned()),
        start_time: old.and_then(|old| old.start_time.clone()).or_else(|| Some(Time(whole_seconds(observed.now)))),
        qos_class: old.and_then(|old| old.qos_class.clone()),
        observed_generation: observed.pod.metadata.generation,
        ..PodStatus::default()
    }
}

pub(super) fn init_role(container: &Container) -> Role {
    if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
}

fn container_status(observed: &Observed<'_>, container: &Container, role: Role) -> ContainerStatus {
    let known = observed.state.and_then(|state| state.container(&container.name));
    let (state, id) = match known.map(|known| &known.condition) {
        None => (waiting(patience(observed.pod), ""), None),
        Some(Condition::Waiting { reason, message }) => (waiting(reason, message), None),
        Some(Condition::Running { id, started_at, .. }) => (running(*started_at), Some(id)),
        Some(Condition::Terminated(exit)) => (terminated(exit, &observed.runtime), Some(&exit.id)),
    };
    let last = known.and_then(|known| known.last.as_ref());
    let id = id.or(last.map(|last| &last.id));
    let (running, started) = match known.map(|known| &known.condition) {
        Some(Condition::Running { started, .. }) => (true, *started),
        _ => (false, false),
    };
    let succeeded = matches!(known.map(|known| &known.condition), Some(Condition::Terminated(exit)) if exit.code == 0);
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: id.map(|_| container.image.clone().unwrap_or_default()).unwrap_or_default(),
        container_id: id.map(|id| observed.runtime.container_id(id)),
        ready: match role {
            Role::Init => succeeded,
            Role::Sidecar | Role::App => running && started && observed.ready.contains(&container.name),
        },
        started: Some(started),
        restart_count: known.map_or(0, |known| i32::try_from(known.restart_count).unwrap_or(i32::MAX)),
        state: Some(state),
        last_state: Some(last.map(|last| terminated(last, &observed.runtime)).unwrap_or_default()),
        // What was asked for is what is given: it is never changed in place.
        allocated_resources: id.and_then(|_| container.resources.as_ref()?.requests.clone()),
        resources: id.map(|_| container.resources.clone().unwrap_or_default()),
        user: id.and_then(|_| observed.runtime.user(&container.name)),
        volume_mounts: container
            .volume_mounts
            .as_ref()
            .map(|mounts| mounts.iter().map(|mount| mount_status(mount, observed.runtime.confined)).collect()),
        ..ContainerStatus::default()
    }
}

fn mount_status(mount: &VolumeMount, confined: bool) -> VolumeMountStatus {
    let read_only = mount.read_only == Some(true);
    let recursive = confined && mount.recursive_read_only.as_deref().is_some_and(|recursive| recursive != "Disabled");
    VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: read_only.then_some(true),
        recursive_read_only: read_only.then(|| if recursive { "Enabled" } else { "Disabled" }.to_owned()),
    }
}

fn patience(pod: &Pod) -> &'static str {
    let any_init =
        pod.spec.as_ref().is_some_and(|spec| spec.init_containers.as_ref().is_some_and(|init| !init.is_empty()));
    if any_init { "PodInitializing" } else { "ContainerCreating" }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..Default::default()
    }
}

fn running(started_at: Timestamp) -> ContainerState {
    let started_at = Some(Time(whole_seconds(started_at)));
    ContainerState { running: Some(ContainerStateRunning { started_at }), ..Default::default() }
}

fn terminated(exit: &Exit, runtime: &Runtime<'_>) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: Some(runtime.container_id(&exit.id)),
        exit_code: exit.code,
        signal: exit.signal,
        reason: Some(exit.reason.clone()),
        message: (!exit.message.is_empty()).then(|| runtime.shortened(&exit.message)),
        started_at: Some(Time(whole_seconds(exit.started_at))),
        finished_at: Some(Time(whole_seconds(exit.finished_at))),
    };
    ContainerState { terminated: Some(terminated), ..Default::default() }
}

/// `metav1.Time` has no fractions; without this a status would differ from what was stored of it.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn phase(observed: &Observed<'_>, apps: &[ContainerStatus]) -> &'static str {
    let Some(state) = observed.state else {
        return if observed.deadline_exceeded { "Failed" } else { "Pending" };
    };
    let of = |kind: fn(&ContainerState) -> bool| apps.iter().filter(|app| app.state.as_ref().is_some_and(kind)).count();
    let ended = of(|state| state.terminated.is_some());
    if state.finished {
        let good =
            !observed.deadline_exceeded && ended == apps.len() && apps.iter().all(|app| exit_code(app) == Some(0));
        return if good { "Succeeded" } else { "Failed" };
    }
    let never_ran = |app: &ContainerStatus| {
        let waits = app.state.as_ref().is_some_and(|state| state.waiting.is_some());
        waits && app.last_state.as_ref().is_none_or(|last| last.terminated.is_none())
    };
    if !state.initialized || apps.iter().any(never_ran) { "Pending" } else { "Running" }
}

fn exit_code(status: &ContainerStatus) -> Option<i32> {
    status.state.as_ref()?.terminated.as_ref().map(|terminated| terminated.exit_code)
}

fn conditions(
    observed: &Observed<'_>,
    phase: &str,
    apps: &[ContainerStatus],
    inits: &[ContainerStatus],
) -> Vec<PodCondition> {
    let state = observed.state;
    let over = matches!(phase, "Succeeded" | "Failed");
    let done = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
    let initialized = state.is_some_and(|state| state.initialized) || inits.is_empty();
    let unready = unready(observed, apps, inits);
    let containers = match () {
        () if over => Err((done, String::new())),
        () if state.is_none() || !unready.is_empty() => {
            Err(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))))
        }
        () => Ok(()),
    };
    let ready = containers.clone().and_then(|()| gates(observed.pod));
    let sandbox = state.is_some_and(|state| !state.finished);
    let init = match () {
        () if initialized && phase == "Succeeded" => (true, Some((done, String::new()))),
        () if initialized => (true, None),
        () => {
            let incomplete: Vec<&str> =
                inits.iter().filter(|init| !init.ready).map(|init| init.name.as_str()).collect();
            (
                false,
                Some((
                    "ContainersNotInitialized",
                    format!("containers with incomplete status: [{}]", incomplete.join(" ")),
                )),
            )
        }
    };
    let verdict = |outcome: Result<(), (&'static str, String)>| (outcome.is_ok(), outcome.err());
    [
        ("PodReadyToStartContainers", (sandbox, None)),
        ("Initialized", init),
        ("Ready", verdict(ready)),
        ("ContainersReady", verdict(containers)),
        ("PodScheduled", (true, None)),
    ]
    .map(|(kind, (holds, why))| condition(observed, kind, holds, why))
    .to_vec()
}

/// Sidecars must be ready like app containers.
fn unready(observed: &Observed<'_>, apps: &[ContainerStatus], inits: &[ContainerStatus]) -> Vec<String> {
    let roles = observed.pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).map(init_role);
    let sidecars = inits.iter().zip(roles).filter(|(_, role)| *role == Role::Sidecar).map(|(status, _)| status);
    sidecars.chain(apps).filter(|status| !status.ready).map(|status| status.name.clone()).collect()
}

/// Somebody else may have a say in whether a pod is ready.
fn gates(pod: &Pod) -> Result<(), (&'static str, String)> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    for gate in pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten()) {
        let kind = &gate.condition_type;
        let why = match conditions.iter().find(|condition| condition.type_ == *kind) {
            Some(condition) if condition.status == "True" => continue,
            Some(condition) => {
                format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", condition.status)
            }
            None => format!("corresponding condition of pod readiness gate \"{kind}\" does not exist."),
        };
        return Err(("ReadinessGatesNotReady", why));
    }
    Ok(())
}

fn condition(observed: &Observed<'_>, kind: &str, holds: bool, why: Option<(&'static str, String)>) -> PodCondition {
    let status = if holds { "True" } else { "False" };
    let old = observed.old().and_then(|status| status.conditions.as_ref());
    let same = old.and_then(|old| old.iter().find(|condition| condition.type_ == kind && condition.status == status));
    let (reason, message) = why
        .map_or((None, None), |(reason, message)| (Some(reason.to_owned()), (!message.is_empty()).then_some(message)));
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason,
        message,
        last_transition_time: same
            .and_then(|condition| condition.last_transition_time.clone())
            .or_else(|| Some(Time(whole_seconds(observed.now)))),
        observed_generation: observed.pod.metadata.generation,
        ..Default::default()
    }
}

/// The running containers, with what probes need to know of each.
pub(super) fn running_containers(
    state: &PodState,
) -> impl Iterator<Item = (&wire::ContainerState, &str, Timestamp, bool)> {
    state.containers.iter().filter_map(|container| match &container.condition {
        Condition::Running { id, started_at, started, .. } => Some((container, id.as_str(), *started_at, *started)),
        Condition::Waiting { .. } | Condition::Terminated(_) => None,
    })
}

#[cfg(test)]
mod tests;
