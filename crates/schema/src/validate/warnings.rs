//! Remarks on objects that are accepted all the same.

use std::collections::BTreeSet;

use serde_json::Value;
use sluice_model::quantity::Quantity;

use super::cursor::At;
use super::{ip, names};
use crate::fault::quote;
use crate::kinds::Kind;

type Remarks = fn(&mut Vec<String>, &At<'_>, Option<&At<'_>>);

/// The remarks on an object that is created, or that replaces `old`.
pub fn warnings(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<String> {
    let Some((_, _, remarks)) = KINDS.iter().find(|(group, name, _)| kind.is(group, name)) else { return Vec::new() };
    let (mut out, object, old) = (Vec::new(), At::root(object), old.map(At::root));
    remarks(&mut out, &object, old.as_ref());
    out
}

const KINDS: &[(&str, &str, Remarks)] = &[
    ("", "Pod", |out, pod, old| {
        // Nobody reads remarks on changes of pods: those come from controllers and nodes.
        if old.is_none() {
            annotations(out, &pod.get("metadata"));
            pod_spec(out, &pod.get("spec"));
        }
    }),
    ("", "PodTemplate", |out, object, old| {
        template(out, &object.get("template"), old.map(|old| old.get("template")).as_ref());
    }),
    ("apps", "Deployment", |out, object, old| {
        if old.is_none() {
            pod_name(out, object);
        }
        of_workload(out, object, old, &["spec", "template"]);
    }),
    ("apps", "ReplicaSet", |out, object, old| {
        if old.is_none() {
            pod_name(out, object);
        }
        of_workload(out, object, old, &["spec", "template"]);
    }),
    ("", "ReplicationController", |out, object, old| {
        if old.is_none() {
            pod_name(out, object);
        }
        of_workload(out, object, old, &["spec", "template"]);
    }),
    ("apps", "StatefulSet", |out, object, old| {
        of_workload(out, object, old, &["spec", "template"]);
        let limit = object.dig(&["spec", "revisionHistoryLimit"]);
        if limit.int_or(0) < 0 {
            out.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".into());
        }
    }),
    ("apps", "DaemonSet", |out, object, old| of_workload(out, object, old, &["spec", "template"])),
    ("batch", "Job", |out, object, old| {
        if old.is_none() {
            pod_name(out, object);
        }
        of_workload(out, object, old, &["spec", "template"]);
    }),
    ("batch", "CronJob", |out, object, old| {
        if old.is_none() {
            pod_name(out, object);
        }
        of_workload(out, object, old, &["spec", "jobTemplate", "spec", "template"]);
    }),
    ("", "Service", |out, service, old| service_remarks(out, service, old)),
    ("discovery.k8s.io", "EndpointSlice", |out, slice, _| {
        if slice.text("addressType") == "FQDN" {
            out.push("spec.addressType: FQDN endpoints are deprecated".into());
        }
        for address in slice.get("endpoints").items().flat_map(|endpoint| endpoint.get("addresses").items()) {
            odd_address(out, &address);
        }
    }),
    ("", "Secret", |out, secret, _| tls(out, secret)),
    ("networking.k8s.io", "NetworkPolicy", |out, policy, _| network_policy(out, policy)),
    ("networking.k8s.io", "Ingress", |out, ingress, old| {
        let key = "kubernetes.io/ingress.class";
        let class = ingress.dig(&["metadata", "annotations"]).key(key);
        if old.is_none() && class.is_set() && !ingress.get("spec").has("ingressClassName") {
            out.push(format!("annotation {} is deprecated, please use 'spec.ingressClassName' instead", quote(key)));
        }
    }),
    ("", "PersistentVolume", |out, volume, _| {
        storage_annotations(
            out,
            volume,
            &["volume.beta.kubernetes.io/storage-class", "volume.beta.kubernetes.io/mount-options"],
        );
        let spec = volume.get("spec");
        for (name, since) in GONE_VOLUMES {
            if spec.has(name) {
                out.push(format!("{}: {}", spec.get(name).path(), non_functional(name, since)));
            }
        }
    }),
    ("", "PersistentVolumeClaim", |out, claim, _| {
        storage_annotations(out, claim, &["volume.beta.kubernetes.io/storage-class"]);
        let storage = claim.dig(&["spec", "resources", "requests", "storage"]);
        fractional(out, &claim.dig(&["spec", "resources", "requests"]).key("storage").with(storage.value));
    }),
    ("storage.k8s.io", "CSIDriver", |out, driver, _| {
        let spec = driver.get("spec");
        if !spec.get("tokenRequests").is_zero() && !spec.has("serviceAccountTokenInSecrets") {
            out.push("spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".into());
        }
    }),
    ("", "ServiceAccount", |out, account, _| {
        let mountable = account.dig(&["metadata", "annotations"]).key("kubernetes.io/enforce-mountable-secrets");
        if mountable.is_set() {
            out.push(format!(
                "{}: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets",
                mountable.path()
            ));
        }
    }),
];

/// A name with dots makes odd host names.
fn pod_name(out: &mut Vec<String>, object: &At<'_>) {
    let problems = names::label(object.get("metadata").text("name"));
    if !problems.is_empty() {
        out.push(format!("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]", problems.join(" ")));
    }
}

fn of_workload<'v>(out: &mut Vec<String>, object: &At<'v>, old: Option<&At<'v>>, path: &[&'v str]) {
    template(out, &object.dig(path), old.map(|old| old.dig(path)).as_ref());
}

fn template(out: &mut Vec<String>, at: &At<'_>, old: Option<&At<'_>>) {
    if old.is_some_and(|old| old.value == at.value) {
        return;
    }
    annotations(out, &at.get("metadata"));
    pod_spec(out, &at.get("spec"));
}

const NODE_LABELS: &[(&str, &str, &str)] = &[
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// `key` of a node, if it has a newer name.
fn renamed(key: &str) -> Option<String> {
    let (_, since, new) = NODE_LABELS.iter().find(|(old, ..)| *old == key)?;
    Some(format!("deprecated since {since}; use {} instead", quote(new)))
}

fn annotations(out: &mut Vec<String>, meta: &At<'_>) {
    for (key, at) in meta.get("annotations").entries() {
        if key == "seccomp.security.alpha.kubernetes.io/pod"
            || key.starts_with("container.seccomp.security.alpha.kubernetes.io")
        {
            out.push(format!("{}: non-functional in v1.27+; use the \"seccompProfile\" field instead", at.path()));
        }
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            out.push(format!("{}: deprecated since v1.30; use the \"appArmorProfile\" field instead", at.path()));
        }
    }
}

fn pod_spec(out: &mut Vec<String>, spec: &At<'_>) {
    for (key, at) in spec.get("nodeSelector").entries() {
        if let Some(remark) = renamed(key) {
            out.push(format!("{}: {remark}", at.path()));
        }
    }
    node_affinity(out, &spec.dig(&["affinity", "nodeAffinity"]));
    spread(out, spec);
    volumes(out, spec);
    twice(out, spec, "hostAliases", "ip");
    twice(out, spec, "imagePullSecrets", "name");
    for container in ["initContainers", "containers"].into_iter().flat_map(|list| spec.get(list).items()) {
        for (_, amount) in ["requests", "limits"]
            .into_iter()
            .flat_map(|list| container.dig(&["resources", list]).entries().collect::<Vec<_>>())
        {
            fractional(out, &amount);
        }
        hidden_variables(out, &container.get("env"));
    }
    for (_, amount) in spec.get("overhead").entries() {
        fractional(out, &amount);
    }
    ports(out, spec);
}

fn node_affinity(out: &mut Vec<String>, at: &At<'_>) {
    let required = at.dig(&["requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"]);
    let preferred = at.get("preferredDuringSchedulingIgnoredDuringExecution");
    let terms: Vec<At<'_>> =
        required.items().chain(preferred.items().map(|preference| preference.get("preference"))).collect();
    for requirement in terms.iter().flat_map(|term| term.get("matchExpressions").items()) {
        let key = requirement.get("key");
        if let Some(remark) = renamed(key.str()) {
            out.push(format!("{}: {} is {remark}", key.path(), key.str()));
        }
    }
}

/// Terms without a selector select nothing.
fn spread(out: &mut Vec<String>, spec: &At<'_>) {
    const NOTHING: &str = "a null labelSelector results in matching no pod";
    let mut check = |term: &At<'_>| {
        let selector = term.get("labelSelector");
        if !selector.is_set() {
            out.push(format!("{}: {NOTHING}", selector.path()));
        }
    };
    for side in ["podAffinity", "podAntiAffinity"].map(|name| spec.dig(&["affinity", name])) {
        for preference in side.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            check(&preference.get("podAffinityTerm"));
        }
        side.get("requiredDuringSchedulingIgnoredDuringExecution").items().for_each(|term| check(&term));
    }
    spec.get("topologySpreadConstraints").items().for_each(|constraint| check(&constraint));
}

/// Volumes whose plugins are gone, and since when that was foreseen.
const GONE_VOLUMES: &[(&str, &str)] = &[
    ("cephfs", "v1.28"),
    ("rbd", "v1.28"),
    ("glusterfs", "v1.25"),
    ("quobyte", "v1.22"),
    ("storageos", "v1.22"),
    ("scaleIO", "v1.16"),
    ("flocker", "v1.22"),
    ("photonPersistentDisk", "v1.11"),
];

fn non_functional(name: &str, since: &str) -> String {
    let gone = match name {
        "glusterfs" => "v1.26",
        "quobyte" | "storageos" | "flocker" => "v1.25",
        "scaleIO" => "v1.22",
        "photonPersistentDisk" => "v1.16",
        _ => "v1.31",
    };
    format!("deprecated in {since}, non-functional in {gone}+")
}

fn volumes(out: &mut Vec<String>, spec: &At<'_>) {
    for volume in spec.get("volumes").items() {
        for (name, since) in GONE_VOLUMES {
            if volume.has(name) {
                out.push(format!("{}: {}", volume.get(name).path(), non_functional(name, since)));
            }
        }
        if volume.has("gitRepo") {
            out.push(format!(
                "{}: deprecated in v1.11, and disabled by default in v1.33+",
                volume.get("gitRepo").path()
            ));
        }
    }
}

/// Items of a list that must differ in a field, but do not.
fn twice<'v>(out: &mut Vec<String>, spec: &At<'v>, list: &'v str, field: &'v str) {
    let mut seen = BTreeSet::new();
    for item in spec.get(list).items() {
        let at = item.get(field);
        if at.is_zero() {
            if field == "name" {
                out.push(format!("{}: invalid empty name {}", at.path(), quote(at.str())));
            }
        } else if !seen.insert(at.str()) {
            out.push(format!("{}: duplicate {field} {}", at.path(), quote(at.str())));
        }
    }
}

fn hidden_variables(out: &mut Vec<String>, at: &At<'_>) {
    let mut seen = BTreeSet::new();
    for variable in at.items() {
        let name = variable.text("name");
        if !seen.insert(name) {
            out.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                variable.path(),
                quote(name)
            ));
        }
    }
}

/// Bytes come in whole numbers.
fn fractional(out: &mut Vec<String>, at: &At<'_>) {
    let path = at.path();
    let counts_bytes = ["[memory]", "[ephemeral-storage]", "[storage]"].iter().any(|name| path.ends_with(name));
    let amount = at.str().parse::<Quantity>().ok();
    if counts_bytes && amount.is_some_and(|amount| !amount.is_whole()) {
        out.push(format!("{path}: fractional byte value {} is invalid, must be an integer", quote(at.str())));
    }
}

/// The same port twice, in one container or in several.
fn ports(out: &mut Vec<String>, spec: &At<'_>) {
    let all: Vec<(usize, At<'_>)> = spec
        .get("containers")
        .items()
        .enumerate()
        .flat_map(|(index, container)| {
            container.get("ports").items().map(move |port| (index, port)).collect::<Vec<_>>()
        })
        .collect();
    for (index, (_, port)) in all.iter().enumerate() {
        for (_, earlier) in &all[..index] {
            if same_port(port, earlier) {
                out.push(format!("{}: duplicate port definition with {}", port.path(), earlier.path()));
            }
        }
    }
}

fn same_port(one: &At<'_>, other: &At<'_>) -> bool {
    let id = |port: &At<'_>| {
        (
            port.get("containerPort").int_or(0),
            port.text("protocol").to_owned(),
            port.get("hostPort").int_or(0),
            port.text("hostIP").to_owned(),
        )
    };
    id(one) == id(other)
}

fn service_remarks(out: &mut Vec<String>, service: &At<'_>, old: Option<&At<'_>>) {
    if old.is_some_and(|old| old.get("spec").value == service.get("spec").value) {
        return;
    }
    let spec = service.get("spec");
    let hosts = ["clusterIPs", "externalIPs"].into_iter().flat_map(|list| spec.get(list).items());
    for address in hosts.filter(|address| address.str() != "None") {
        odd_address(out, &address);
    }
    if !spec.get("loadBalancerIP").is_zero() {
        odd_address(out, &spec.get("loadBalancerIP"));
    }
    for range in spec.get("loadBalancerSourceRanges").items() {
        odd_range(out, &range);
    }
    let headless = spec.text("clusterIP") == "None";
    if headless && spec.has("externalIPs") {
        out.push("spec.externalIPs is ignored when spec.clusterIP is \"None\"".into());
    }
    if spec.text("type") == "ExternalName" && spec.has("externalIPs") {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    let distribution = spec.get("trafficDistribution");
    if distribution.str() == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
}

fn odd_address(out: &mut Vec<String>, at: &At<'_>) {
    let Some(parsed) = ip::parse(at.str()) else { return };
    let canonical = parsed.to_string();
    if at.str().parse::<std::net::IpAddr>().is_err() || parsed.is_ipv4() && at.str().contains(':') {
        out.push(format!(
            "{}: non-standard IP address {} will be considered invalid in a future Kubernetes release: use {}",
            at.path(),
            quote(at.str()),
            quote(&canonical)
        ));
    } else if canonical != at.str() {
        out.push(format!(
            "{}: IPv6 address {} should be in RFC 5952 canonical format ({})",
            at.path(),
            quote(at.str()),
            quote(&canonical)
        ));
    }
}

fn odd_range(out: &mut Vec<String>, at: &At<'_>) {
    let Some((address, length)) = ip::parse_cidr(at.str()) else { return };
    let network = format!("{}/{length}", ip::network(address, length));
    let (written, _) = at.str().split_once('/').unwrap_or((at.str(), ""));
    if written.parse::<std::net::IpAddr>().is_err() {
        out.push(format!(
            "{}: non-standard CIDR value {} will be considered invalid in a future Kubernetes release: use {}",
            at.path(),
            quote(at.str()),
            quote(&network)
        ));
    } else if ip::network(address, length) != address {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        out.push(format!(
            "{}: CIDR value {} is ambiguous in this context (should be {} or {}?)",
            at.path(),
            quote(at.str()),
            quote(&network),
            quote(&format!("{address}/{whole}"))
        ));
    }
}

fn network_policy(out: &mut Vec<String>, policy: &At<'_>) {
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for peer in policy.dig(&["spec", rules]).items().flat_map(|rule| rule.get(peers).items()) {
            let block = peer.get("ipBlock");
            if block.is_set() {
                odd_range(out, &block.get("cidr"));
                block.get("except").items().for_each(|except| odd_range(out, &except));
            }
        }
    }
}

fn storage_annotations(out: &mut Vec<String>, object: &At<'_>, keys: &[&str]) {
    for (key, at) in object.dig(&["metadata", "annotations"]).entries().filter(|(key, _)| keys.contains(key)) {
        let field = if key.ends_with("storage-class") { "storageClassName" } else { "mountOptions" };
        let since = if key.ends_with("storage-class") { "v1.8" } else { "v1.31" };
        out.push(format!("{}: deprecated since {since}; use {} attribute instead", at.path(), quote(field)));
    }
}

/// Certificates that nobody could use.
fn tls(out: &mut Vec<String>, secret: &At<'_>) {
    use base64::Engine;
    if secret.text("type") != "kubernetes.io/tls" {
        return;
    }
    let read = |key: &str| {
        let text = secret.get("data").text(key);
        String::from_utf8_lossy(&base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default())
            .into_owned()
    };
    for (key, what) in [("tls.crt", "certificate"), ("tls.key", "key")] {
        if !read(key).contains("-----BEGIN ") {
            return out.push(format!("tls: failed to find any PEM data in {what} input"));
        }
    }
}
