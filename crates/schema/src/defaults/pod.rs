//! Pods, pod templates, containers and volumes.

use serde_json::{Value, json};
use sluice_model::quantity::Quantity;

use crate::edit::Edit;

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

pub(super) fn pod(object: &mut Value) {
    let spec = object.ensure("spec");
    pod_spec(spec);
    spec.default("enableServiceLinks", true);
    let host_network = spec.holds("hostNetwork");
    for list in ["containers", "initContainers"] {
        for container in spec.each(list) {
            if let Some(resources) = container.child("resources") {
                requests_from_limits(resources);
            }
            if host_network {
                host_ports(container);
            }
        }
    }
    requests_of_pod(spec);
    if let Some(status) = object.child("status") {
        addresses(status);
    }
}

/// The one address and the list of addresses agree: the one counts if both are given, the list if only that is.
fn addresses(status: &mut Value) {
    let own = status.text("podIP").to_owned();
    let first = status.each("podIPs").next().map(|first| first.text("ip").to_owned());
    match first {
        Some(first) if own.is_empty() => status.put("podIP", first),
        first if !own.is_empty() && first.as_ref() != Some(&own) => status.put("podIPs", json!([{"ip": own}])),
        _ => {}
    }
}

/// The pod template in a field.
pub(super) fn template(object: &mut Value, field: &str) {
    pod_spec(object.ensure(field).ensure("spec"));
}

fn pod_spec(spec: &mut Value) {
    spec.default("dnsPolicy", "ClusterFirst");
    spec.default("restartPolicy", "Always");
    spec.default("terminationGracePeriodSeconds", 30);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        spec.put("terminationGracePeriodSeconds", 1);
    }
    spec.default("securityContext", json!({}));
    spec.default("schedulerName", "default-scheduler");
    service_account(spec);
    spec.each("volumes").for_each(volume);
    for list in CONTAINERS {
        spec.each(list).for_each(container);
    }
    if let Some(resources) = spec.child("resources") {
        round_resources(resources);
    }
}

/// The old name of the service account always agrees with the new one, which wins.
fn service_account(spec: &mut Value) {
    let name = match spec.text("serviceAccountName") {
        "" => spec.text("serviceAccount"),
        name => name,
    };
    if !name.is_empty() {
        let name = name.to_owned();
        spec.put("serviceAccountName", name.as_str());
        spec.put("serviceAccount", name);
    }
}

fn host_ports(container: &mut Value) {
    for port in container.each("ports") {
        if !port.holds("hostPort") {
            let number = port["containerPort"].clone();
            port.put("hostPort", number);
        }
    }
}

fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).filter(|map| !map.is_empty()) else { return };
    let limits = limits.clone();
    let requests = resources.ensure("requests");
    for (name, limit) in limits {
        requests.default(&name, limit);
    }
}

/// Requests of the whole pod come from its limits where no container asks for them itself.
fn requests_of_pod(spec: &mut Value) {
    if !spec.get("resources").is_some_and(|resources| resources.holds("limits")) {
        return;
    }
    let limits = spec["resources"]["limits"].as_object().cloned().unwrap_or_default();
    for (name, limit) in limits {
        let asked: Quantity = ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec.get(*list).and_then(Value::as_array).into_iter().flatten())
            .filter_map(|container| container["resources"]["requests"].get(&name)?.as_str()?.parse().ok())
            .sum();
        let request = if asked.is_zero() { limit } else { asked.to_string().into() };
        spec.ensure("resources").ensure("requests").default(&name, request);
    }
}

/// Amounts are kept in thousandths, rounded up.
pub(super) fn round_resources(resources: &mut Value) {
    for list in ["limits", "requests"] {
        round(resources.child(list));
    }
}

pub(super) fn round(list: Option<&mut Value>) {
    for amount in list.and_then(Edit::fields).into_iter().flat_map(|fields| fields.values_mut()) {
        let parsed = amount.as_str().and_then(|text| text.parse::<Quantity>().ok());
        if let Some(quantity) = parsed.filter(|quantity| !quantity.is_whole_milli()) {
            *amount = quantity.rounded_to_milli().to_string().into();
        }
    }
}

fn container(container: &mut Value) {
    let policy = pull_policy(container.text("image"));
    container.default("imagePullPolicy", policy);
    container.default("terminationMessagePath", "/dev/termination-log");
    container.default("terminationMessagePolicy", "File");
    for port in container.each("ports") {
        port.default("protocol", "TCP");
    }
    for variable in container.each("env") {
        if let Some(from) = variable.child("valueFrom") {
            field_reference(from);
        }
    }
    if let Some(resources) = container.child("resources") {
        round_resources(resources);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = container.child(name) {
            probe(found);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = container.child("lifecycle").and_then(|lifecycle| lifecycle.child(hook)) {
            http_get(handler);
        }
    }
}

/// Images that move (`latest`, or no tag at all) are pulled always, others once.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    let readable = !name.is_empty() && is_reference(name) && digest.is_none_or(|digest| digest.contains(':'));
    match (tag, digest) {
        _ if !readable => "IfNotPresent",
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

/// Whether this can be the name of an image, with a tag or without.
fn is_reference(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '/');
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let mut parts = path.split('/');
    let first = parts.next().unwrap_or_default();
    let is_host = path.contains('/')
        && (first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase()));
    let lower = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && !part.chars().any(|c| c.is_ascii_uppercase())
    };
    name.chars().all(sound)
        && tag.is_none_or(|tag| !tag.is_empty() && tag.len() <= 128)
        && (is_host || lower(first))
        && parts.all(lower)
}

fn field_reference(from: &mut Value) {
    if let Some(field) = from.child("fieldRef") {
        field.default("apiVersion", "v1");
    }
}

fn probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if !probe.holds(field) {
            probe.put(field, value);
        }
    }
    http_get(probe);
    if let Some(grpc) = probe.child("grpc") {
        grpc.default("service", "");
    }
}

fn http_get(handler: &mut Value) {
    if let Some(get) = handler.child("httpGet") {
        get.default("path", "/");
        get.default("scheme", "HTTP");
    }
}

const MODE: i64 = 0o644;

/// A volume, which is an empty directory if nothing else is said.
fn volume(volume: &mut Value) {
    let named_only =
        volume.as_object().is_some_and(|fields| fields.iter().all(|(name, value)| name == "name" || value.is_null()));
    if named_only {
        volume.put("emptyDir", json!({}));
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.child(name) {
            source.default("defaultMode", MODE);
        }
    }
    if let Some(files) = volume.child("downwardAPI") {
        files.each("items").for_each(field_reference);
    }
    if let Some(projected) = volume.child("projected") {
        for source in projected.each("sources") {
            if let Some(token) = source.child("serviceAccountToken") {
                token.default("expirationSeconds", 3600);
            }
            if let Some(files) = source.child("downwardAPI") {
                files.each("items").for_each(field_reference);
            }
        }
    }
    if let Some(image) = volume.child("image") {
        let policy = pull_policy(image.text("reference"));
        image.default("pullPolicy", policy);
    }
    if let Some(template) = volume.child("ephemeral").and_then(|e| e.child("volumeClaimTemplate")) {
        super::storage::claim_spec(template.ensure("spec"));
    }
    volume_source(volume);
}

/// Sources that pods and persistent volumes have in common.
pub(super) fn volume_source(source: &mut Value) {
    for (name, fields) in SOURCES {
        if let Some(found) = source.child(name) {
            for (field, text) in *fields {
                found.default(field, *text);
            }
        }
    }
    if let Some(disk) = source.child("azureDisk") {
        disk.default("readOnly", false);
    }
}

const SOURCES: &[(&str, &[(&str, &str)])] = &[
    ("hostPath", &[("type", "")]),
    ("iscsi", &[("iscsiInterface", "default")]),
    ("rbd", &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")]),
    ("azureDisk", &[("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("kind", "Shared")]),
    ("scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]),
];

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn images_that_move_are_always_pulled() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0123", "IfNotPresent"),
            ("Not An Image", "IfNotPresent"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
