//! The specification of a pod, from volumes to the operating system, in the order the real server reports faults.

use super::super::check::Faults;
use super::super::cursor::At;
use super::super::{ip, meta, names};
use super::containers::{self, Pod};
use super::{resources, scheduling, security, volumes};

pub(crate) fn pod_spec(f: &mut Faults, spec: &At<'_>) {
    let pod = Pod {
        volumes: volumes::volumes(f, &spec.get("volumes")),
        claims: claims(f, &spec.get("resourceClaims")),
        grace: spec.get("terminationGracePeriodSeconds").int_or(0),
        host_users: spec.get("hostUsers").value.as_bool().unwrap_or(true),
    };
    containers::containers(f, spec, &pod);
    containers::init_containers(f, spec, &pod);
    containers::ephemeral_containers(f, spec, &pod);
    resources::of_pod(f, spec, &pod.claims);
    host_network(f, spec);
    f.present_one_of(&spec.get("restartPolicy"), &["Always", "OnFailure", "Never"]);
    f.present_one_of(&spec.get("dnsPolicy"), &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    meta::labels(f, &spec.get("nodeSelector"));
    security::of_pod(f, spec);
    image_pull_secrets(f, &spec.get("imagePullSecrets"));
    scheduling::affinity(f, &spec.get("affinity"));
    dns_config(f, spec);
    for gate in spec.get("readinessGates").items() {
        f.format(&gate.get("conditionType"), names::qualified);
    }
    scheduling::gates(f, &spec.get("schedulingGates"));
    scheduling::topology_spread(f, &spec.get("topologySpreadConstraints"));
    if !pod.host_users {
        for field in ["hostNetwork", "hostPID", "hostIPC"].map(|name| spec.get(name)) {
            if field.bool() {
                f.forbidden(&field, "when `hostUsers` is false");
            }
        }
    }
    f.optional_format(&spec.get("serviceAccountName"), names::subdomain);
    f.optional_format(&spec.get("nodeName"), names::subdomain);
    deadline(f, &spec.get("activeDeadlineSeconds"));
    f.optional_format(&spec.get("hostname"), names::label);
    f.optional_format(&spec.get("subdomain"), names::label);
    scheduling::tolerations(f, &spec.get("tolerations"));
    for alias in spec.get("hostAliases").items() {
        ip::address(f, &alias.get("ip"));
        for name in alias.get("hostnames").items() {
            f.problems(&alias.get("hostnames"), name.str(), names::subdomain(name.str()));
        }
    }
    f.optional_format(&spec.get("priorityClassName"), names::subdomain);
    if spec.has("runtimeClassName") {
        f.format(&spec.get("runtimeClassName"), names::subdomain);
    }
    resources::overhead(f, &spec.get("overhead"));
    security::operating_system(f, spec);
}

pub(super) fn deadline(f: &mut Faults, at: &At<'_>) {
    if at.int().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        f.invalid(at, "must be between 1 and 2147483647, inclusive");
    }
}

/// The names of the resource claims that containers may refer to.
fn claims<'v>(f: &mut Faults, at: &At<'v>) -> Vec<&'v str> {
    let mut names: Vec<&str> = Vec::new();
    for claim in at.items() {
        let name = claim.get("name");
        if name.is_zero() {
            f.required(&name, "");
        } else if names.contains(&name.str()) {
            f.duplicate(&name);
        } else {
            f.format(&name, names::label);
            names.push(name.str());
        }
        if claim.has("resourceClaimName") && claim.has("resourceClaimTemplateName") {
            let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
            f.invalid(&claim, detail);
        } else if !claim.has("resourceClaimName") && !claim.has("resourceClaimTemplateName") {
            f.invalid(&claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`");
        }
    }
    names
}

fn host_network(f: &mut Faults, spec: &At<'_>) {
    if !spec.get("hostNetwork").bool() {
        return;
    }
    for container in ["containers", "initContainers"].into_iter().flat_map(|list| spec.get(list).items()) {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            if !host.is_zero() && host.int_or(0) != port.get("containerPort").int_or(0) {
                f.invalid_value(&host, host.int_or(0), "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn image_pull_secrets(f: &mut Faults, at: &At<'_>) {
    for secret in at.items() {
        let name = secret.get("name");
        if name.is_zero() {
            f.required(&name, "");
        }
    }
}

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;

fn dns_config(f: &mut Faults, spec: &At<'_>) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.text("dnsPolicy") == "None" {
        if !config.is_set() {
            f.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_zero() {
            f.required(&servers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
        }
    }
    if servers.list().len() > NAMESERVERS_MAX {
        f.invalid(&servers, format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in servers.items() {
        ip::address(f, &server);
    }
    if searches.list().len() > SEARCHES_MAX {
        f.invalid(&searches, format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    for search in searches.items() {
        let name = search.str().strip_suffix('.').unwrap_or(search.str()).replace('_', "a");
        if search.str() != "." {
            f.problems(&search, search.str(), names::subdomain(&name));
        }
    }
    for option in config.get("options").items() {
        if option.get("name").is_zero() {
            f.required(&config.get("options").with(option.value), "must not be empty");
        }
    }
}
