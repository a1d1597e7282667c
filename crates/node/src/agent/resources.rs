//! What a pod and its containers may use, from what their manifests ask for and allow. Pure.

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use sluice_model::quantity::Quantity;
use sluice_pod::{
    confinement::{CPU_PERIOD_US, Resources},
    plan::Role,
};

use super::status::init_role;

const MIN_CPU_SHARES: i64 = 2;
const SHARES_PER_CPU: i64 = 1024;
const MIN_QUOTA_US: i64 = 1000;
/// Tasks of one pod, and of each container in it, unless the machine says less: a fork bomb ends here.
const MAX_PIDS: i64 = 4096;

pub(super) fn container_resources(container: &Container) -> Resources {
    let (cpu_request, cpu_limit) = (amount(container, "cpu", false), amount(container, "cpu", true));
    let cpu = cpu_request.or(cpu_limit).map(Quantity::milli_value);
    resources(cpu, cpu_limit.map(Quantity::milli_value), amount(container, "memory", true).map(Quantity::value))
}

/// The pod as a whole: a limit only where every container has one, and the share of all requests.
pub(super) fn pod_resources(spec: &PodSpec) -> Resources {
    let cpu = |quantity: Quantity| quantity.milli_value();
    let limit = |resource: &str, of: fn(Quantity) -> i64| {
        let own = spec.resources.as_ref().and_then(|own| required(own, resource, true)).map(of);
        own.or_else(|| all_limited(spec, resource).then(|| total(spec, resource, of, true)))
    };
    let request = spec.resources.as_ref().and_then(|own| required(own, "cpu", false)).map(cpu);
    let request = request.unwrap_or_else(|| total(spec, "cpu", cpu, false));
    resources(Some(request), limit("cpu", cpu), limit("memory", Quantity::value))
}

fn all_limited(spec: &PodSpec, resource: &str) -> bool {
    let limited = |container| amount(container, resource, true).is_some_and(|amount| !amount.is_zero());
    spec.init_containers.iter().flatten().chain(&spec.containers).all(limited)
}

fn resources(cpu_milli: Option<i64>, cpu_limit_milli: Option<i64>, memory_limit: Option<i64>) -> Resources {
    let period = CPU_PERIOD_US.cast_signed();
    let shares = cpu_milli.map(|cpu| (cpu.saturating_mul(SHARES_PER_CPU) / 1000).max(MIN_CPU_SHARES));
    Resources {
        cpu_shares: shares.map(i64::unsigned_abs),
        cpu_quota_us: cpu_limit_milli.map(|cpu| (cpu.saturating_mul(period) / 1000).max(MIN_QUOTA_US)),
        memory_bytes: memory_limit.filter(|bytes| *bytes > 0),
        pids: Some(MAX_PIDS),
    }
}

/// The most that is used at once: an init container beside the sidecars that were started before it, or all that run later.
fn total(spec: &PodSpec, resource: &str, of: fn(Quantity) -> i64, limit: bool) -> i64 {
    // What is requested follows from the limit where nothing else is said.
    let used = |container: &Container| {
        let wanted = amount(container, resource, limit).or_else(|| amount(container, resource, true));
        wanted.map_or(0, of).max(0)
    };
    let (mut sidecars, mut most) = (0i64, 0i64);
    for container in spec.init_containers.iter().flatten() {
        let used = used(container);
        most = most.max(sidecars.saturating_add(used));
        if init_role(container) == Role::Sidecar {
            sidecars = sidecars.saturating_add(used);
        }
    }
    let apps = spec.containers.iter().map(used).fold(0i64, i64::saturating_add);
    let overhead = spec.overhead.as_ref().and_then(|overhead| overhead.get(resource)?.0.parse().ok()).map_or(0, of);
    most.max(apps.saturating_add(sidecars)).saturating_add(overhead)
}

pub(super) fn amount(container: &Container, resource: &str, limit: bool) -> Option<Quantity> {
    required(container.resources.as_ref()?, resource, limit)
}

fn required(resources: &ResourceRequirements, resource: &str, limit: bool) -> Option<Quantity> {
    let amounts = if limit { resources.limits.as_ref() } else { resources.requests.as_ref() };
    amounts?.get(resource)?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn requests_become_shares_and_limits_quotas() {
        let check = |resources: Value, expected: (Option<u64>, Option<i64>, Option<i64>)| {
            let container = serde_json::from_value(json!({"name": "c", "resources": resources}));
            let found = container_resources(&container.expect("a container"));
            assert_eq!((found.cpu_shares, found.cpu_quota_us, found.memory_bytes), expected);
        };
        check(json!({}), (None, None, None));
        check(json!({"requests": {"cpu": "100m"}}), (Some(102), None, None));
        check(json!({"requests": {"cpu": "1m"}, "limits": {"cpu": "5m"}}), (Some(2), Some(1000), None));
        check(json!({"limits": {"cpu": "2", "memory": "64Mi"}}), (Some(2048), Some(200_000), Some(64 << 20)));
    }

    /// Containers by their limits in MiB, sidecars with a `+`, absent limits as `-`: what the pod is limited to.
    fn check(inits: &[&str], apps: &[&str], expected: Option<i64>) {
        let container = |(number, text): (usize, &&str)| {
            let limit = text.trim_start_matches('+');
            let limits = if limit == "-" { json!({}) } else { json!({"memory": format!("{limit}Mi")}) };
            let policy = text.starts_with('+').then_some("Always");
            json!({"name": format!("c{number}"), "restartPolicy": policy, "resources": {"limits": limits}})
        };
        let list = |texts: &[&str]| texts.iter().enumerate().map(container).collect::<Vec<_>>();
        let spec = json!({"initContainers": list(inits), "containers": list(apps)});
        let found = pod_resources(&serde_json::from_value(spec).expect("a spec"));
        assert_eq!(found.memory_bytes.map(|bytes| bytes >> 20), expected, "{inits:?} {apps:?}");
    }

    #[test]
    fn a_pod_is_limited_to_what_it_uses_at_most_at_once() {
        check(&[], &["32", "64"], Some(96));
        check(&[], &["32", "-"], None);
        check(&["-"], &["32"], None);
        check(&["128"], &["32", "64"], Some(128));
        check(&["+16", "128"], &["32"], Some(144));
        check(&["128", "+16"], &["32"], Some(128));
        check(&["128", "+16"], &["120"], Some(136));
    }

    #[test]
    fn a_pod_without_requests_has_the_least_share() {
        let shares = |spec: Value| pod_resources(&serde_json::from_value(spec).expect("a spec")).cpu_shares;
        assert_eq!(shares(json!({"containers": [{"name": "a"}]})), Some(2));
        let asks = |cpu: &str| json!({"name": cpu, "resources": {"requests": {"cpu": cpu}}});
        assert_eq!(shares(json!({"containers": [asks("250m"), asks("750m")]})), Some(1024));
        let own = json!({"containers": [asks("250m")], "resources": {"requests": {"cpu": "2"}}});
        assert_eq!(shares(own), Some(2048));
    }
}
