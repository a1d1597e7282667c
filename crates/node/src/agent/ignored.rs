//! What a manifest asks for and a driver does not do. Nothing is left out in silence: each such field is named in an event.

use k8s_openapi::api::core::v1::{AppArmorProfile, Container, LifecycleHandler, Pod, PodSpec, SecurityContext};

use super::bounds::{self, Files, Means, RLIMITS_WISH};

/// Where last words are left unless a container says otherwise; a process is told by its environment.
const TERMINATION_PATH: &str = "/dev/termination-log";
/// Mounted read-only into every pod without asking.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How a pod's processes run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Runs<'a> {
    /// In containers of this node.
    Contained(&'a Means),
    /// As processes of this machine, which can be held to some things.
    Free(&'a Means),
}

/// The fields of a pod that have no effect, as a sentence; `None` when all have.
pub(super) fn told(pod: &Pod, runs: Runs<'_>) -> Option<String> {
    let fields = fields(pod, runs);
    let place = match runs {
        Runs::Contained(_) => "in containers of this node",
        Runs::Free(_) => "as processes of this machine",
    };
    let plural = if fields.len() == 1 { "this field has" } else { "these fields have" };
    let limits = fields.iter().any(|field| field.contains(".resources.limits."));
    let hint = if limits { " (limits take control groups, which this engine may not make here)" } else { "" };
    (!fields.is_empty()).then(|| format!("The pod runs {place}, where {plural} no effect: {}{hint}", fields.join(", ")))
}

fn fields(pod: &Pod, runs: Runs<'_>) -> Vec<String> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let of_pod = match runs {
        Runs::Contained(_) => of_confined_pod(spec),
        Runs::Free(means) => of_processes(spec, means),
    };
    let mut found: Vec<String> = chosen(&of_pod).map(|name| format!("spec.{name}")).collect();
    let lists = [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&spec.containers[..]))];
    for (list, containers) in lists {
        for container in containers.into_iter().flatten() {
            let of_container = match runs {
                Runs::Contained(means) => of_confined(container, means),
                Runs::Free(means) => {
                    // What cannot be understood is refused, which is said elsewhere.
                    let files = bounds::files(pod, container, means).unwrap_or(Files::All);
                    of_process(spec, container, (means, files))
                }
            };
            found.extend(chosen(&of_container).map(|name| format!("spec.{list}{{{}}}.{name}", container.name)));
        }
    }
    if let Runs::Contained(_) = runs {
        let annotations = [RLIMITS_WISH].into_iter().filter_map(|wish| bounds::wished(pod, wish));
        found.extend(annotations.map(|name| format!("metadata.annotations{{{name}}}")));
    }
    found
}

type Wish = (&'static str, bool);

fn chosen(wishes: &[Wish]) -> impl Iterator<Item = &'static str> {
    wishes.iter().filter(|(_, wished)| *wished).map(|(name, _)| *name)
}

fn filled<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn named(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

/// A profile that is named makes a node refuse the pod, and none at all is what everybody gets.
fn by_default(profile: &AppArmorProfile) -> bool {
    profile.type_ == "RuntimeDefault"
}

/// A process has the machine's names and settings.
fn of_processes(spec: &PodSpec, means: &Means) -> Vec<Wish> {
    let context = spec.security_context.clone().unwrap_or_default();
    vec![
        ("hostAliases", filled(spec.host_aliases.as_ref())),
        ("hostname", named(spec.hostname.as_ref())),
        ("setHostnameAsFQDN", spec.set_hostname_as_fqdn == Some(true)),
        ("dnsPolicy", spec.dns_policy.as_deref() == Some("None")),
        ("dnsConfig", spec.dns_config.is_some()),
        ("hostUsers", spec.host_users == Some(false)),
        ("securityContext.fsGroup", context.fs_group.is_some() && !means.root),
        ("securityContext.supplementalGroups", filled(context.supplemental_groups.as_ref()) && !means.root),
        ("securityContext.sysctls", filled(context.sysctls.as_ref())),
        ("securityContext.seccompProfile", context.seccomp_profile.is_some()),
        ("securityContext.appArmorProfile", context.app_armor_profile.as_ref().is_some_and(by_default)),
        ("securityContext.seLinuxOptions", context.se_linux_options.is_some()),
    ]
}

fn of_process(spec: &PodSpec, container: &Container, (means, files): (&Means, Files)) -> Vec<Wish> {
    let context = container.security_context.clone().unwrap_or_default();
    let on_the_host = spec.host_network == Some(true);
    let host_port = container.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port > 0));
    let mut wishes = of_limits(container, means);
    wishes.extend([
        ("ports.hostPort", host_port && !on_the_host),
        ("securityContext.capabilities", context.capabilities.is_some() && files != Files::Own),
        (
            "securityContext.readOnlyRootFilesystem",
            context.read_only_root_filesystem == Some(true) && files == Files::All,
        ),
    ]);
    let mounts = || container.volume_mounts.iter().flatten().filter(|mount| mount.mount_path != SERVICE_ACCOUNT);
    let words = container.termination_message_path.as_deref().unwrap_or_default();
    wishes.extend([
        ("volumeMounts.readOnly", mounts().any(|mount| mount.read_only == Some(true)) && files == Files::All),
        ("volumeMounts.mountPropagation", mounts().any(|mount| named(mount.mount_propagation.as_ref()))),
        ("terminationMessagePath", !matches!(words, "" | TERMINATION_PATH)),
    ]);
    wishes.extend(of_any(container, &context));
    wishes.push(("securityContext.seccompProfile", context.seccomp_profile.is_some()));
    wishes
}

fn of_confined_pod(spec: &PodSpec) -> Vec<Wish> {
    let context = spec.security_context.clone().unwrap_or_default();
    vec![
        ("securityContext.appArmorProfile", context.app_armor_profile.as_ref().is_some_and(by_default)),
        ("securityContext.seLinuxOptions", context.se_linux_options.is_some()),
    ]
}

fn of_confined(container: &Container, means: &Means) -> Vec<Wish> {
    let mut wishes = of_limits(container, means);
    wishes.extend(of_any(container, &container.security_context.clone().unwrap_or_default()));
    wishes
}

/// Kept by control groups, where this engine may make some.
fn of_limits(container: &Container, means: &Means) -> Vec<Wish> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let limited = |name: &str| limits.is_some_and(|limits| limits.contains_key(name));
    let kept = means.limits.unwrap_or_default();
    vec![
        ("resources.limits.cpu", limited("cpu") && !kept.cpu),
        ("resources.limits.memory", limited("memory") && !kept.memory),
    ]
}

fn of_any(container: &Container, context: &SecurityContext) -> Vec<Wish> {
    let hooks = container.lifecycle.as_ref();
    let post_start = hooks.and_then(|hooks| hooks.post_start.as_ref());
    let pre_stop = hooks.and_then(|hooks| hooks.pre_stop.as_ref());
    let secure =
        |hook: &LifecycleHandler| hook.http_get.as_ref().is_some_and(|get| get.scheme.as_deref() == Some("HTTPS"));
    vec![
        // Asked without.
        ("lifecycle.postStart.httpGet.scheme", post_start.is_some_and(secure)),
        ("lifecycle.preStop.httpGet.scheme", pre_stop.is_some_and(secure)),
        ("securityContext.appArmorProfile", context.app_armor_profile.as_ref().is_some_and(by_default)),
        ("securityContext.seLinuxOptions", context.se_linux_options.is_some()),
        ("securityContext.procMount", context.proc_mount.as_deref() == Some("Unmasked")),
        ("volumeDevices", filled(container.volume_devices.as_ref())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Means = Means { limits: None, root: false, landlock: None };
    const NO_MEANS: Runs<'_> = Runs::Free(&NOTHING);
    const CONTAINED: Runs<'_> = Runs::Contained(&NOTHING);

    fn pod(spec: &serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).expect("a pod")
    }

    fn check(spec: &serde_json::Value, runs: Runs<'_>, expected: &str) {
        assert_eq!(fields(&pod(spec), runs).join(" "), expected);
    }

    #[test]
    fn an_ordinary_pod_has_nothing_to_miss() {
        let spec = serde_json::json!({
            "dnsPolicy": "ClusterFirst", "securityContext": {}, "shareProcessNamespace": true, "subdomain": "web",
            "containers": [{"name": "web", "resources": {"requests": {"cpu": "1"}}, "securityContext": {"runAsUser": 7}}],
        });
        check(&spec, NO_MEANS, "");
        assert_eq!(told(&pod(&spec), NO_MEANS), None);
    }

    #[test]
    fn what_a_process_cannot_have_is_named() {
        let spec = serde_json::json!({
            "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}], "hostname": "h", "setHostnameAsFQDN": true,
            "dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.1"]},
            "securityContext": {"fsGroup": 5, "supplementalGroups": [6], "sysctls": [{"name": "a", "value": "1"}]},
            "initContainers": [{"name": "prepare", "securityContext": {"capabilities": {}}}],
            "containers": [{
                "name": "web", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                "ports": [{"containerPort": 80, "hostPort": 80}], "terminationMessagePath": "/words",
                "volumeMounts": [
                    {"name": "v", "mountPath": "/v", "readOnly": true, "mountPropagation": "HostToContainer"},
                    {"name": "sa", "mountPath": SERVICE_ACCOUNT, "readOnly": true},
                ],
                "securityContext": {
                    "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "procMount": "Unmasked",
                },
            }],
        });
        check(
            &spec,
            NO_MEANS,
            "spec.hostAliases spec.hostname spec.setHostnameAsFQDN spec.dnsPolicy spec.dnsConfig \
             spec.securityContext.fsGroup spec.securityContext.supplementalGroups spec.securityContext.sysctls \
             spec.initContainers{prepare}.securityContext.capabilities \
             spec.containers{web}.resources.limits.cpu spec.containers{web}.resources.limits.memory \
             spec.containers{web}.ports.hostPort spec.containers{web}.securityContext.readOnlyRootFilesystem \
             spec.containers{web}.volumeMounts.readOnly spec.containers{web}.volumeMounts.mountPropagation \
             spec.containers{web}.terminationMessagePath \
             spec.containers{web}.securityContext.procMount",
        );
    }

    #[test]
    fn what_this_machine_keeps_is_not_named() {
        let limits = Some(sluice_pod::driver::cgroup::Limits { cpu: false, memory: true });
        let spec = serde_json::json!({
            "securityContext": {"fsGroup": 5, "supplementalGroups": [6]},
            "containers": [{"name": "web", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}],
        });
        let means = Means { limits, root: true, landlock: None };
        check(&spec, Runs::Free(&means), "spec.containers{web}.resources.limits.cpu");
        check(&spec, Runs::Contained(&means), "spec.containers{web}.resources.limits.cpu");
        let told = told(&pod(&spec), Runs::Free(&means)).expect("a sentence");
        assert!(
            told.ends_with("limits.cpu (limits take control groups, which this engine may not make here)"),
            "{told}"
        );
    }

    #[test]
    fn what_a_confined_process_is_kept_to_is_not_named() {
        let read_only = serde_json::json!({
            "containers": [{
                "name": "web", "securityContext": {"readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}],
            }],
        });
        let means = Means { landlock: Some(3), ..Means::default() };
        check(&read_only, Runs::Free(&means), "spec.containers{web}.securityContext.capabilities");
        let mut pod = pod(&read_only);
        pod.metadata.annotations = Some([("sluice.dev/confine".to_owned(), "true".to_owned())].into());
        assert!(fields(&pod, Runs::Free(&means)).is_empty());
    }

    #[test]
    fn an_annotation_for_processes_is_named_in_a_container() {
        let mut pod = pod(&serde_json::json!({"containers": [{"name": "web"}]}));
        pod.metadata.annotations = Some([("rlimits.sluice.dev/web".to_owned(), "core=0".to_owned())].into());
        assert_eq!(fields(&pod, CONTAINED), ["metadata.annotations{rlimits.sluice.dev/web}"]);
        assert!(fields(&pod, NO_MEANS).is_empty());
    }

    #[test]
    fn what_a_container_cannot_have_is_named() {
        let spec = serde_json::json!({
            "shareProcessNamespace": true, "setHostnameAsFQDN": true, "hostAliases": [{"ip": "10.0.0.1"}],
            "containers": [{
                "name": "web", "volumeDevices": [{"name": "d", "devicePath": "/dev/d"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}],
                "lifecycle": {
                    "postStart": {"httpGet": {"port": 1, "scheme": "HTTPS"}}, "preStop": {"httpGet": {"port": 1, "scheme": "HTTPS"}},
                },
            }],
        });
        check(
            &spec,
            CONTAINED,
            "spec.containers{web}.lifecycle.postStart.httpGet.scheme \
             spec.containers{web}.lifecycle.preStop.httpGet.scheme spec.containers{web}.volumeDevices",
        );
        let sentence = told(&pod(&spec), CONTAINED).expect("a sentence");
        assert!(
            sentence.starts_with("The pod runs in containers of this node, where these fields have no effect: spec.")
        );
    }
}
