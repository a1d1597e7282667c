//! The checks, one row and one function each.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::{Found, Pod, name, named, quoted};
use super::{Level, Violation};

pub(super) struct Check {
    pub(super) level: Level,
    /// The minor version that brought it.
    pub(super) since: u32,
    /// The minor version since which a check of the restricted level says more.
    replaced_since: Option<u32>,
    pub(super) look: fn(&Pod<'_>) -> Option<Violation>,
}

impl Check {
    pub(super) fn is_replaced_at(&self, version: u32) -> bool {
        self.replaced_since.is_some_and(|since| version >= since)
    }
}

const fn baseline(since: u32, look: fn(&Pod<'_>) -> Option<Violation>) -> Check {
    Check { level: Level::Baseline, since, replaced_since: None, look }
}

const fn replaced(since: u32, replaced_since: u32, look: fn(&Pod<'_>) -> Option<Violation>) -> Check {
    Check { level: Level::Baseline, since, replaced_since: Some(replaced_since), look }
}

const fn restricted(since: u32, look: fn(&Pod<'_>) -> Option<Violation>) -> Check {
    Check { level: Level::Restricted, since, replaced_since: None, look }
}

/// In the order of messages.
pub(super) const CHECKS: [Check; 18] = [
    baseline(0, app_armor),
    replaced(0, 22, default_capabilities),
    baseline(0, host_namespaces),
    replaced(0, 0, host_paths),
    baseline(0, host_ports),
    baseline(34, hosts_of_probes),
    baseline(0, privileged),
    baseline(0, proc_mount),
    baseline(0, se_linux),
    replaced(19, 19, seccomp_unconfined),
    baseline(0, sysctls),
    baseline(0, host_process),
    restricted(8, privilege_escalation),
    restricted(22, capabilities),
    restricted(0, volume_types),
    restricted(0, non_root),
    restricted(23, root_user),
    restricted(19, seccomp),
];

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// With the minor version that allowed them.
const SAFE_SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const SE_LINUX_TYPES: [(&str, u32); 5] =
    [("", 0), ("container_t", 0), ("container_init_t", 0), ("container_kvm_t", 0), ("container_engine_t", 31)];
const VOLUME_TYPES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
/// Since then, what users of a pod of its own are called matters to nobody.
const OWN_USERS_SINCE: u32 = 35;
/// Since then, pods for Windows are spared what only Linux has.
const WINDOWS_SINCE: u32 = 25;
const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

fn violation(reason: &'static str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason, detail: detail.into() })
}

/// Whom the pod and its containers set `field` to, where that is forbidden.
fn set_in_contexts(pod: &Pod<'_>, value: impl Fn(&Value) -> Option<String>) -> Found {
    let mut found = Found::default();
    if let Some(value) = value(pod.context()) {
        found.by_pod = true;
        found.values.insert(value);
    }
    for container in pod.containers() {
        if let Some(value) = value(&container["securityContext"]) {
            found.containers.push(name(container));
            found.values.insert(value);
        }
    }
    found
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let forbidden = |context: &Value| {
        let kind = context["appArmorProfile"]["type"].as_str()?;
        (!["RuntimeDefault", "Localhost"].contains(&kind)).then(|| kind.to_owned())
    };
    let found = set_in_contexts(pod, forbidden);
    let annotations = pod.metadata["annotations"].as_object().into_iter().flatten();
    let annotated: Vec<String> = annotations
        .filter(|(key, _)| key.starts_with(APP_ARMOR_ANNOTATION))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| !value.is_empty() && *value != "runtime/default" && !value.starts_with("localhost/"))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut details = Vec::new();
    if !found.is_empty() {
        details.push(format!("{} must not set AppArmor profile type to {}", found.setters(), quoted(&found.values)));
    }
    if !annotated.is_empty() {
        let word = if annotated.len() == 1 { "annotation" } else { "annotations" };
        details.push(format!("{word} {}", annotated.join(", ")));
    }
    let reason = if found.values.len() + annotated.len() == 1 {
        "forbidden AppArmor profile"
    } else {
        "forbidden AppArmor profiles"
    };
    if details.is_empty() { None } else { violation(reason, details.join(" and ")) }
}

/// The containers that add capabilities that are not allowed, and which.
fn added_beyond(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let mut found = Found::default();
    for container in pod.containers() {
        let added = container["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten();
        let forbidden = added.filter_map(Value::as_str).filter(|capability| !allowed.contains(capability));
        let forbidden: BTreeSet<String> = forbidden.map(str::to_owned).collect();
        if !forbidden.is_empty() {
            found.containers.push(name(container));
            found.values.extend(forbidden);
        }
    }
    let detail = || {
        let (setters, values) = (found.setters(), quoted(&found.values));
        format!("{setters} must not include {values} in securityContext.capabilities.add")
    };
    (!found.is_empty()).then(detail)
}

fn default_capabilities(pod: &Pod<'_>) -> Option<Violation> {
    violation("non-default capabilities", added_beyond(pod, &DEFAULT_CAPABILITIES)?)
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| pod.spec[field] == true);
    let shared: Vec<_> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let volumes: Vec<_> = pod.volumes().filter(|volume| !volume["hostPath"].is_null()).map(name).collect();
    if volumes.is_empty() { None } else { violation("hostPath volumes", named("volume", &volumes)) }
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut containers = Vec::new();
    let mut ports = BTreeSet::new();
    for container in pod.containers() {
        let all = container["ports"].as_array().into_iter().flatten();
        let used: Vec<_> = all.filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0).collect();
        if !used.is_empty() {
            containers.push(name(container));
            ports.extend(used.into_iter().map(|port| port.to_string()));
        }
    }
    let several = ports.len() > 1;
    let (use_, word) = (uses(&containers), if several { "hostPorts" } else { "hostPort" });
    let listed = ports.into_iter().collect::<Vec<_>>().join(", ");
    let detail = format!("{} {use_} {word} {listed}", named("container", &containers));
    if containers.is_empty() { None } else { violation(word, detail) }
}

fn uses(users: &[String]) -> &'static str {
    if users.len() == 1 { "uses" } else { "use" }
}

fn hosts_of_probes(pod: &Pod<'_>) -> Option<Violation> {
    let mut containers = Vec::new();
    let mut hosts = BTreeSet::new();
    for container in pod.containers() {
        let lifecycle = &container["lifecycle"];
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &lifecycle["postStart"],
            &lifecycle["preStop"],
        ];
        let named =
            handlers.into_iter().flat_map(|handler| [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]]);
        let named: Vec<_> = named.filter_map(Value::as_str).filter(|host| !host.is_empty()).collect();
        if !named.is_empty() {
            containers.push(name(container));
            hosts.extend(named.into_iter().map(str::to_owned));
        }
    }
    let word = if hosts.len() == 1 { "host" } else { "hosts" };
    let who = named("container", &containers);
    let detail = format!("{who} {} probe or lifecycle {word} {}", uses(&containers), quoted(&hosts));
    if containers.is_empty() { None } else { violation("probe or lifecycle host", detail) }
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let containers = pod.containers_where(|context| context["privileged"] == true);
    let who = named("container", &containers);
    let detail = format!("{who} must not set securityContext.privileged=true");
    if containers.is_empty() { None } else { violation("privileged", detail) }
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= OWN_USERS_SINCE && pod.has_own_users() {
        return None;
    }
    let mut found = set_in_contexts(pod, |context| {
        let kind = context["procMount"].as_str()?;
        (kind != "Default").then(|| kind.to_owned())
    });
    found.by_pod = false;
    let detail = format!("{} must not set securityContext.procMount to {}", found.setters(), quoted(&found.values));
    if found.is_empty() { None } else { violation("procMount", detail) }
}

fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    let allowed = |kind: &str| SE_LINUX_TYPES.iter().any(|(name, since)| *name == kind && pod.version >= *since);
    let text = |context: &Value, field: &str| context["seLinuxOptions"][field].as_str().unwrap_or_default().to_owned();
    let is_forbidden = |context: &Value| {
        !allowed(&text(context, "type")) || !text(context, "user").is_empty() || !text(context, "role").is_empty()
    };
    let found = set_in_contexts(pod, |context| is_forbidden(context).then(String::new));
    if found.is_empty() {
        return None;
    }
    let contexts = || std::iter::once(pod.context()).chain(pod.containers().map(|it| &it["securityContext"]));
    let types: BTreeSet<_> = contexts().map(|context| text(context, "type")).filter(|kind| !allowed(kind)).collect();
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(named("type", &types.into_iter().collect::<Vec<_>>()));
    }
    for field in ["user", "role"] {
        if contexts().any(|context| !text(context, field).is_empty()) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{} set forbidden securityContext.seLinuxOptions: {}", found.setters(), what.join("; "));
    violation("seLinuxOptions", detail)
}

/// Those that say a profile that is not allowed.
fn bad_seccomp(pod: &Pod<'_>) -> Found {
    set_in_contexts(pod, |context| {
        let kind = context["seccompProfile"]["type"].as_str()?;
        (!["RuntimeDefault", "Localhost"].contains(&kind)).then(|| kind.to_owned())
    })
}

fn seccomp_unconfined(pod: &Pod<'_>) -> Option<Violation> {
    let found = bad_seccomp(pod);
    let (setters, values) = (found.setters(), quoted(&found.values));
    let detail = format!("{setters} must not set securityContext.seccompProfile.type to {values}");
    if found.is_empty() { None } else { violation("seccompProfile", detail) }
}

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    let is_safe = |name: &str| SAFE_SYSCTLS.iter().any(|(safe, since)| *safe == name && pod.version >= *since);
    let set = pod.context()["sysctls"].as_array().into_iter().flatten().map(name);
    let forbidden: BTreeSet<_> = set.filter(|name| !is_safe(name)).collect();
    let listed = forbidden.iter().cloned().collect::<Vec<_>>().join(", ");
    if forbidden.is_empty() { None } else { violation("forbidden sysctls", listed) }
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let found = set_in_contexts(pod, |context| (context["windowsOptions"]["hostProcess"] == true).then(String::new));
    let detail = format!("{} must not set securityContext.windowsOptions.hostProcess=true", found.setters());
    if found.is_empty() { None } else { violation("hostProcess", detail) }
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= WINDOWS_SINCE && pod.is_windows() {
        return None;
    }
    let containers = pod.containers_where(|context| context["allowPrivilegeEscalation"] != false);
    let who = named("container", &containers);
    let detail = format!("{who} must set securityContext.allowPrivilegeEscalation=false");
    if containers.is_empty() { None } else { violation("allowPrivilegeEscalation != false", detail) }
}

fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= WINDOWS_SINCE && pod.is_windows() {
        return None;
    }
    let drops_all = |context: &Value| {
        let dropped = context["capabilities"]["drop"].as_array().into_iter().flatten();
        dropped.into_iter().any(|capability| capability == "ALL")
    };
    let keeping = pod.containers_where(|context| !drops_all(context));
    let kept = (!keeping.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named("container", &keeping)));
    let details: Vec<_> = kept.into_iter().chain(added_beyond(pod, &["NET_BIND_SERVICE"])).collect();
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

fn volume_types(pod: &Pod<'_>) -> Option<Violation> {
    let mut volumes = Vec::new();
    let mut types = BTreeSet::new();
    for volume in pod.volumes() {
        let fields = volume.as_object().into_iter().flatten().filter(|(_, source)| !source.is_null());
        let kind = fields.map(|(field, _)| field).find(|field| *field != "name");
        if let Some(kind) = kind.filter(|kind| !VOLUME_TYPES.contains(&kind.as_str())) {
            volumes.push(name(volume));
            types.insert(kind.clone());
        }
    }
    let (who, use_) = (named("volume", &volumes), uses(&volumes));
    let types: Vec<_> = types.into_iter().collect();
    let detail = format!("{who} {use_} restricted volume {}", named("type", &types));
    if volumes.is_empty() { None } else { violation("restricted volume types", detail) }
}

fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if pod.version >= OWN_USERS_SINCE && pod.has_own_users() {
        return None;
    }
    let found = set_in_contexts(pod, |context| (context["runAsNonRoot"] == false).then(String::new));
    if !found.is_empty() {
        return violation(REASON, format!("{} must not set securityContext.runAsNonRoot=false", found.setters()));
    }
    let says_so = pod.context()["runAsNonRoot"] == true;
    let silent = pod.containers_where(|context| !says_so && context["runAsNonRoot"].is_null());
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", named("container", &silent));
    if silent.is_empty() { None } else { violation(REASON, detail) }
}

fn root_user(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= OWN_USERS_SINCE && pod.has_own_users() {
        return None;
    }
    let found = set_in_contexts(pod, |context| (context["runAsUser"] == 0).then(String::new));
    let detail = format!("{} must not set runAsUser=0", found.setters());
    if found.is_empty() { None } else { violation("runAsUser=0", detail) }
}

fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= WINDOWS_SINCE && pod.is_windows() {
        return None;
    }
    if let Some(unconfined) = seccomp_unconfined(pod) {
        return Some(unconfined);
    }
    let says_so = !pod.context()["seccompProfile"]["type"].is_null();
    let silent = pod.containers_where(|context| !says_so && context["seccompProfile"]["type"].is_null());
    let who = named("container", &silent);
    let detail =
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
    if silent.is_empty() { None } else { violation("seccompProfile", detail) }
}
