//! Containers of all three sorts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::check::Faults;
use super::super::cursor::At;
use super::super::names;
use super::{env, mounts, probes, resources, security};
use crate::fault::Fault;

/// What containers need to know of their pod.
pub(super) struct Pod<'v> {
    /// The sound volumes by name.
    pub(super) volumes: BTreeMap<&'v str, &'v Value>,
    pub(super) claims: Vec<&'v str>,
    pub(super) grace: i64,
    pub(super) host_users: bool,
}

pub(super) fn containers(f: &mut Faults, spec: &At<'_>, pod: &Pod<'_>) {
    let list = spec.get("containers");
    if list.is_zero() {
        return f.required(&list, "");
    }
    let mut seen = BTreeSet::new();
    for container in list.items() {
        common(f, &container, pod);
        if !seen.insert(container.text("name")) {
            f.duplicate(&container.get("name"));
        }
        probes::lifecycle(f, &container.get("lifecycle"), pod.grace);
        probes::of_container(f, &container, pod.grace);
    }
    host_port_conflicts(f, list.items());
}

pub(super) fn init_containers(f: &mut Faults, spec: &At<'_>, pod: &Pod<'_>) {
    const ONLY_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";
    let mut seen: BTreeSet<&str> = names_of(spec, "containers").collect();
    for container in spec.get("initContainers").items() {
        common(f, &container, pod);
        f.optional_one_of(&container.get("restartPolicy"), &["Always"]);
        let name = container.text("name");
        if !name.is_empty() && !seen.insert(name) {
            f.duplicate(&container.get("name"));
        }
        host_port_conflicts(f, [container.clone()]);
        if container.text("restartPolicy") == "Always" {
            probes::lifecycle(f, &container.get("lifecycle"), pod.grace);
            probes::of_container(f, &container, pod.grace);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.has(field) {
                    f.forbidden(&container.get(field), ONLY_SIDECARS);
                }
            }
        }
    }
}

/// What a debugging container may not have, in the order of its type.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

pub(super) fn ephemeral_containers(f: &mut Faults, spec: &At<'_>, pod: &Pod<'_>) {
    let others: BTreeSet<&str> = names_of(spec, "containers").chain(names_of(spec, "initContainers")).collect();
    let mut seen = others.clone();
    for container in spec.get("ephemeralContainers").items() {
        common(f, &container, pod);
        image_without_space(f, &container);
        if !seen.insert(container.text("name")) {
            f.duplicate(&container.get("name"));
        }
        let target = container.get("targetContainerName");
        if !target.is_zero() && !others.contains(target.str()) {
            f.not_found(&target, "");
        }
        for field in NOT_EPHEMERAL.iter().map(|name| container.get(name)) {
            if !field.is_zero() {
                f.forbidden(&field, "cannot be set for an Ephemeral Container");
            }
        }
    }
}

fn names_of<'v>(spec: &At<'v>, list: &'v str) -> impl Iterator<Item = &'v str> + use<'v> {
    spec.get(list).items().map(|container| container.text("name"))
}

/// What holds for every sort of container.
fn common(f: &mut Faults, container: &At<'_>, pod: &Pod<'_>) {
    f.present_format(&container.get("name"), names::label);
    f.present(&container.get("image"));
    f.present_one_of(&container.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"]);
    ports(f, &container.get("ports"));
    env::variables(f, &container.get("env"));
    env::sources(f, &container.get("envFrom"));
    mounts::volume_mounts(f, container, pod);
    mounts::volume_devices(f, container, pod);
    f.present_one_of(&container.get("imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
    resources::requirements(f, &container.get("resources"), &pod.claims);
    resources::resize_policy(f, &container.get("resizePolicy"));
    security::of_container(f, &container.get("securityContext"), pod.host_users);
}

pub(super) fn image_without_space(f: &mut Faults, container: &At<'_>) {
    let image = container.get("image");
    if image.str().trim() != image.str() {
        f.invalid(&image, "must not have leading or trailing whitespace");
    }
}

fn ports(f: &mut Faults, at: &At<'_>) {
    let mut seen = BTreeSet::new();
    for port in at.items() {
        let (name, number, host) = (port.get("name"), port.get("containerPort"), port.get("hostPort"));
        if !name.is_zero() {
            let problems = names::port_name(name.str());
            if problems.is_empty() && !seen.insert(name.str()) {
                f.duplicate(&name);
            }
            f.problems(&name, name.str(), problems);
        }
        if number.is_zero() {
            f.required(&number, "");
        } else {
            f.port(&number);
        }
        if !host.is_zero() {
            f.port(&host);
        }
        f.present_one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn host_port_conflicts<'v>(f: &mut Faults, containers: impl IntoIterator<Item = At<'v>>) {
    let mut seen = BTreeSet::new();
    for container in containers {
        for port in container.get("ports").items() {
            let number = port.get("hostPort");
            if number.is_zero() {
                continue;
            }
            let shown = format!("{}/{}/{}", port.text("protocol"), port.text("hostIP"), number.int_or(0));
            if !seen.insert(shown.clone()) {
                f.add(Fault::duplicate(number.path(), shown));
            }
        }
    }
}
