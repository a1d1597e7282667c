//! What a node refuses to run at all, whatever else is right about a pod. Pure.

use k8s_openapi::api::core::v1::PodSpec;

/// Settings that reach no further than the pod's own namespaces, each of which a node allows by itself.
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Why a pod is not run: the reason is that of its status and its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Judges a pod; `confined` when it is to run in containers, `apparmor` when the kernel enforces AppArmor.
pub(super) fn admit(spec: &PodSpec, confined: bool, apparmor: bool) -> Result<(), Refusal> {
    profiles(spec, apparmor)?;
    // A process has the machine's settings, which an event says.
    if confined { sysctls(spec) } else { Ok(()) }
}

/// Running without a profile that was named would be running with less protection than was asked for.
fn profiles(spec: &PodSpec, apparmor: bool) -> Result<(), Refusal> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let own = containers.filter_map(|container| container.security_context.as_ref()?.app_armor_profile.as_ref());
    let pods = spec.security_context.iter().filter_map(|context| context.app_armor_profile.as_ref());
    let Some(named) = pods.chain(own).find(|profile| profile.type_ == "Localhost") else { return Ok(()) };
    let message = match apparmor {
        false => "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned(),
        true => format!(
            "Cannot enforce AppArmor: this node does not apply profiles, as \"{}\"",
            named.localhost_profile.as_deref().unwrap_or_default()
        ),
    };
    Err(Refusal { reason: "AppArmor", message })
}

fn sysctls(spec: &PodSpec) -> Result<(), Refusal> {
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    for sysctl in sysctls {
        let name = sysctl.name.replace('/', ".");
        let shared = (name.starts_with("net.") && spec.host_network == Some(true))
            || (name.starts_with("kernel.") && spec.host_ipc == Some(true));
        let problem = match (SAFE_SYSCTLS.contains(&name.as_str()), shared) {
            (true, false) => continue,
            (true, true) => "not allowed with host namespaces enabled",
            (false, _) => "not allowlisted",
        };
        let message = format!("forbidden sysctl: \"{name}\" {problem}");
        return Err(Refusal { reason: "SysctlForbidden", message });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_settings_of_the_pods_own_namespaces_are_allowed() {
        let check = |name: &str, host: bool, expected: Option<&str>| {
            let sysctls = json!([{"name": name, "value": "1"}]);
            let spec = json!({"containers": [], "hostNetwork": host, "securityContext": {"sysctls": sysctls}});
            let spec = serde_json::from_value(spec).expect("a spec");
            assert_eq!(admit(&spec, false, false), Ok(()), "a process has the machine's settings");
            let found = admit(&spec, true, false).err();
            assert_eq!(found.as_ref().map(|refusal| refusal.message.as_str()), expected);
            assert!(found.is_none_or(|refusal| refusal.reason == "SysctlForbidden"));
        };
        check("net.ipv4.tcp_syncookies", false, None);
        check("net/ipv4/tcp_syncookies", false, None);
        check("kernel.shm_rmid_forced", true, None);
        let host = "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host namespaces enabled";
        check("net.ipv4.tcp_syncookies", true, Some(host));
        check("kernel.msgmax", false, Some("forbidden sysctl: \"kernel.msgmax\" not allowlisted"));
        check("net.core.somaxconn", false, Some("forbidden sysctl: \"net.core.somaxconn\" not allowlisted"));
    }

    #[test]
    fn a_pod_does_not_run_without_the_profile_that_it_names() {
        let check = |spec: serde_json::Value, apparmor: bool, expected: Option<&str>| {
            let found = admit(&serde_json::from_value(spec).expect("a spec"), false, apparmor).err();
            assert_eq!(
                found.as_ref().map(|refusal| (refusal.reason, refusal.message.as_str())),
                expected.map(|m| ("AppArmor", m))
            );
        };
        let profile = |kind: &str| json!({"appArmorProfile": {"type": kind, "localhostProfile": "web"}});
        let pod = |kind: &str| json!({"containers": [], "securityContext": profile(kind)});
        let container = |kind: &str| json!({"containers": [{"name": "c", "securityContext": profile(kind)}]});
        for kind in ["RuntimeDefault", "Unconfined"] {
            check(pod(kind), false, None);
            check(container(kind), true, None);
        }
        check(pod("Localhost"), false, Some("Cannot enforce AppArmor: AppArmor is not enabled on the host"));
        let refused = "Cannot enforce AppArmor: this node does not apply profiles, as \"web\"";
        check(container("Localhost"), true, Some(refused));
    }
}
