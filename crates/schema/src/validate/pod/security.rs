//! Security settings of pods and containers, and what an operating system does not have.

use std::collections::BTreeSet;

use super::super::check::Faults;
use super::super::cursor::At;
use super::mounts;
use crate::fault::go_json;
use crate::validate::names;

pub(super) fn of_pod(f: &mut Faults, spec: &At<'_>) {
    let at = spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        f.user_id(&at.get(field));
    }
    for group in at.get("supplementalGroups").items() {
        f.user_id(&group);
    }
    if spec.get("shareProcessNamespace").bool() && spec.get("hostPID").bool() {
        let share = at.get("shareProcessNamespace").with(spec.get("shareProcessNamespace").value);
        f.invalid(&share, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(f, spec, &at.get("sysctls"));
    f.optional_one_of(&at.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    seccomp(f, &at.get("seccompProfile"));
    app_armor(f, &at.get("appArmorProfile"));
    f.optional_one_of(&at.get("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    f.optional_one_of(&at.get("seLinuxChangePolicy"), &["MountOption", "Recursive"]);
}

const SYSCTL: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctls(f: &mut Faults, spec: &At<'_>, at: &At<'_>) {
    let mut seen = BTreeSet::new();
    for sysctl in at.items() {
        let name = sysctl.get("name");
        if name.is_zero() {
            f.required(&name, "");
        } else if !is_sysctl(name.str()) {
            f.invalid(&name, format!("must have at most 253 characters and match regex {SYSCTL}"));
        } else if !seen.insert(name.str().replace('/', ".")) {
            f.duplicate(&name);
        }
        if spec.get("hostNetwork").bool() && name.str().replace('/', ".").starts_with("net.") {
            f.invalid(&name, "may not be specified when 'hostNetwork' is true");
        }
        if spec.get("hostIPC").bool() && is_ipc_sysctl(&name.str().replace('/', ".")) {
            f.invalid(&name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let sound = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|c| lower(*c))
            && bytes.last().is_some_and(|c| lower(*c))
            && bytes.iter().all(|c| lower(*c) || matches!(c, b'-' | b'_'))
    };
    name.len() <= names::SUBDOMAIN_MAX && name.split(['.', '/']).all(sound)
}

fn is_ipc_sysctl(name: &str) -> bool {
    matches!(name, "kernel.sem") || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| name.starts_with(p))
}

fn seccomp(f: &mut Faults, at: &At<'_>) {
    if !at.is_set() {
        return;
    }
    let (kind, profile) = (at.get("type"), at.get("localhostProfile"));
    if kind.is_zero() {
        f.required(&kind, "type is required when seccompProfile is set");
    } else {
        f.one_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    if kind.str() == "Localhost" {
        if profile.is_set() {
            mounts::descending_path(f, &profile);
        } else {
            f.required(&profile, "must be set when seccomp type is Localhost");
        }
    } else if profile.is_set() {
        let shown = format!("{{\"Type\":{},\"LocalhostProfile\":{}}}", go_json(kind.value), go_json(profile.value));
        f.invalid_shown(&profile, &shown, "can only be set when seccomp type is Localhost");
    }
}

fn app_armor(f: &mut Faults, at: &At<'_>) {
    if !at.is_set() {
        return;
    }
    let (kind, profile) = (at.get("type"), at.get("localhostProfile"));
    match kind.str() {
        "" => f.required(&kind, "type is required when appArmorProfile is set"),
        "Localhost" if !profile.is_set() => f.required(&profile, "must be set when AppArmor type is Localhost"),
        "Localhost" if profile.str().trim() != profile.str() => {
            f.invalid(&profile, "must not be padded with whitespace");
        }
        "Localhost" if profile.is_zero() => f.required(&profile, "must be set when AppArmor type is Localhost"),
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" if profile.is_set() => {
            f.invalid(&profile, "can only be set when AppArmor type is Localhost");
        }
        _ => f.one_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
}

pub(super) fn of_container(f: &mut Faults, at: &At<'_>, host_users: bool) {
    f.user_id(&at.get("runAsUser"));
    f.user_id(&at.get("runAsGroup"));
    let proc_mount = at.get("procMount");
    f.optional_one_of(&proc_mount, &["Default", "Unmasked"]);
    if proc_mount.str() == "Unmasked" && host_users {
        f.invalid(&proc_mount, "`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(f, &at.get("seccompProfile"));
    if at.get("allowPrivilegeEscalation").value == false {
        if at.get("privileged").bool() {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            f.invalid_shown(at, &crate::go::print(crate::go::SECURITY_CONTEXT, at.value), detail);
        }
        if at.dig(&["capabilities", "add"]).list().iter().any(|capability| capability == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            f.invalid_shown(at, &crate::go::print(crate::go::SECURITY_CONTEXT, at.value), detail);
        }
    }
    app_armor(f, &at.get("appArmorProfile"));
}

/// What a Windows pod cannot have.
const NOT_ON_WINDOWS: &[&str] = &[
    "securityContext.appArmorProfile",
    "securityContext.seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    "securityContext.seccompProfile",
    "securityContext.fsGroup",
    "securityContext.fsGroupChangePolicy",
    "securityContext.sysctls",
    "shareProcessNamespace",
    "securityContext.runAsUser",
    "securityContext.runAsGroup",
    "securityContext.supplementalGroups",
    "securityContext.supplementalGroupsPolicy",
];

/// What a container of a Windows pod cannot have in its security context.
const NOT_IN_WINDOWS_CONTAINERS: &[&str] = &[
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

pub(super) fn operating_system(f: &mut Faults, spec: &At<'_>) {
    let os = spec.get("os");
    if !os.is_set() {
        return;
    }
    let containers = ["containers", "initContainers"].into_iter().flat_map(|list| spec.get(list).items());
    match os.text("name") {
        "" => f.required(&os.get("name"), "cannot be empty"),
        "linux" => {
            for context in std::iter::once(spec.clone()).chain(containers).map(|at| at.get("securityContext")) {
                if context.has("windowsOptions") {
                    f.forbidden(&context.get("windowsOptions"), "windows options cannot be set for a linux pod");
                }
            }
        }
        "windows" => {
            for path in NOT_ON_WINDOWS {
                forbid_on_windows(f, &path.split('.').fold(spec.clone(), |at, name| at.get(name)));
            }
            for container in containers {
                for field in NOT_IN_WINDOWS_CONTAINERS {
                    forbid_on_windows(f, &container.get("securityContext").get(field));
                }
            }
        }
        other => f.problem_os(&os, other),
    }
}

fn forbid_on_windows(f: &mut Faults, at: &At<'_>) {
    let host_flag = at.value.is_boolean() && !at.bool() && (at.path().contains(".host"));
    if at.is_set() && !host_flag {
        f.forbidden(at, "cannot be set for a windows pod");
    }
}

impl Faults {
    /// The real server puts this fault on the struct, with the name as its value.
    fn problem_os(&mut self, at: &At<'_>, name: &str) {
        self.add(crate::fault::Fault::unsupported(at.path(), name, &["linux", "windows"]));
    }
}
