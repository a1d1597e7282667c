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

/// Judges what concerns containers alone.
pub(super) fn admit(spec: &PodSpec) -> Result<(), Refusal> {
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
            let found = admit(&serde_json::from_value(spec).expect("a spec")).err();
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
}
