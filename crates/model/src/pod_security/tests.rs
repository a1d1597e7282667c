use serde_json::{Value, json};

use super::*;

fn standard(text: &str) -> Standard {
    let (level, version) = text.split_once(':').unwrap_or((text, "latest"));
    let labels =
        json!({"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": version});
    Policy::of(&json!({"metadata": {"labels": labels}})).enforce
}

fn check(level: &str, spec: &Value, expected: &str) {
    let found = standard(level).violations(&json!({}), spec);
    assert_eq!(summary(&found), expected, "{level} {spec}");
}

/// A pod with one container of this security context, and with this of its own.
fn pod(context: &Value, own: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "securityContext": context}]});
    spec.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    spec
}

#[test]
fn baseline_refuses_what_reaches_the_machine() {
    let context = |context: Value| pod(&context, &json!({}));
    let own = |own: Value| pod(&json!({}), &own);
    let cases = [
        (own(json!({})), ""),
        (
            context(json!({"privileged": true})),
            "privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (own(json!({"hostPID": true, "hostIPC": true})), "host namespaces (hostPID=true, hostIPC=true)"),
        (own(json!({"volumes": [{"name": "h", "hostPath": {"path": "/"}}]})), "hostPath volumes (volume \"h\")"),
        (
            own(json!({"containers": [{"name": "c", "ports": [{"hostPort": 80}, {"hostPort": 81}]}]})),
            "hostPorts (container \"c\" uses hostPorts 80, 81)",
        ),
        (
            context(json!({"capabilities": {"add": ["SYS_ADMIN", "NET_RAW", "CHOWN"]}})),
            "non-default capabilities (container \"c\" must not include \"NET_RAW\", \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            own(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            own(json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}})),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            context(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            context(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            own(json!({"containers": [{"name": "c", "livenessProbe": {"httpGet": {"host": "example.com"}}}]})),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"example.com\")",
        ),
        (
            own(json!({"hostNetwork": true, "securityContext": {"windowsOptions": {"hostProcess": true}}})),
            "host namespaces (hostNetwork=true), hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            own(json!({"initContainers": [{"name": "i", "securityContext": {"privileged": true}}],
                       "containers": [{"name": "c", "securityContext": {"privileged": true}}]})),
            "privileged (containers \"i\", \"c\" must not set securityContext.privileged=true)",
        ),
        (pod(&json!({"procMount": "Unmasked"}), &json!({"hostUsers": false})), ""),
        (
            context(json!({"procMount": "Unmasked"})),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
    ];
    for (spec, expected) in cases {
        check("baseline", &spec, expected);
        check("privileged", &spec, "");
    }
}

#[test]
fn restricted_wants_four_things_said() {
    let silent = pod(&json!({}), &json!({}));
    let escalation =
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)";
    let capabilities =
        "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])";
    let root = "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)";
    let seccomp = "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \
                   \"RuntimeDefault\" or \"Localhost\")";
    check("restricted", &silent, &[escalation, capabilities, root, seccomp].join(", "));
    check("restricted:v1.20", &silent, &[escalation, root, seccomp].join(", "));
    check("restricted:v1.18", &silent, &[escalation, root].join(", "));
}

#[test]
fn restricted_replaces_what_baseline_says() {
    let good = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
                      "seccompProfile": {"type": "RuntimeDefault"}});
    let but = |field: &str, value: Value| {
        let mut context = good.clone();
        context[field] = value;
        pod(&context, &json!({}))
    };
    check("restricted", &pod(&good, &json!({})), "");
    check("restricted", &but("runAsUser", json!(0)), "runAsUser=0 (container \"c\" must not set runAsUser=0)");
    check(
        "restricted",
        &but("runAsNonRoot", json!(false)),
        "runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false)",
    );
    check(
        "restricted",
        &but("capabilities", json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]})),
        "unrestricted capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
    );
    check(
        "restricted",
        &but("seccompProfile", json!({"type": "Unconfined"})),
        "seccompProfile (container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    let volumes = json!([{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}}, {"name": "s", "secret": {}}]);
    check(
        "restricted",
        &pod(&good, &json!({"volumes": volumes})),
        "restricted volume types (volumes \"n\", \"h\" use restricted volume types \"hostPath\", \"nfs\")",
    );
    let windows = pod(&json!({"runAsNonRoot": true}), &json!({"os": {"name": "windows"}}));
    check("restricted", &windows, "");
}

#[test]
fn labels_say_the_policy() {
    let policy = |labels: Value| {
        let Policy { enforce, warn } = Policy::of(&json!({"metadata": {"labels": labels}}));
        format!("{enforce} {warn}")
    };
    let (enforce, warn) = ("pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/warn");
    assert_eq!(policy(json!({})), "privileged:latest privileged:latest");
    assert_eq!(policy(json!({enforce: "baseline"})), "baseline:latest baseline:latest");
    assert_eq!(policy(json!({enforce: "baseline", warn: "restricted"})), "baseline:latest restricted:latest");
    let version = "pod-security.kubernetes.io/enforce-version";
    assert_eq!(policy(json!({enforce: "restricted", version: "v1.18"})), "restricted:v1.18 restricted:v1.18");
    assert!(standard("restricted").is_stricter_than(&standard("baseline")));
    assert!(standard("baseline:v1.18").is_stricter_than(&standard("baseline")));
    assert!(!standard("baseline").is_stricter_than(&standard("restricted")));
    assert!(!standard("privileged").is_stricter_than(&standard("restricted")));
}
