//! The downward API: what a pod may learn of itself, for environments and volumes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceFieldSelector},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use sluice_model::quantity::Quantity;

/// What the agent knows of a pod beside its object.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) pod_ip: Ipv4Addr,
    pub(super) pod_ip_v6: Option<Ipv6Addr>,
    pub(super) host_ip: IpAddr,
    /// Stands in for limits that a container does not set.
    pub(super) allocatable: BTreeMap<String, ApiQuantity>,
}

impl Facts {
    /// The first one is the pod's address where only one is asked for.
    pub(super) fn pod_ips(&self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.pod_ip)].into_iter().chain(self.pod_ip_v6.map(IpAddr::V6))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DownwardError {
    #[error("fieldPath \"{0}\" is not supported")]
    Field(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("resource \"{0}\" is not supported")]
    Resource(String),
    #[error("\"{0}\" is no quantity")]
    Quantity(String),
}

/// `fieldRef`.
pub(super) fn field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, DownwardError> {
    let metadata = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|head| head.split_once("['")) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(DownwardError::Field(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" => spec.map(|spec| text(&spec.node_name)).unwrap_or_default(),
        "spec.serviceAccountName" => spec.map(|spec| text(&spec.service_account_name)).unwrap_or_default(),
        "status.podIP" => facts.pod_ip.to_string(),
        "status.podIPs" => facts.pod_ips().map(|ip| ip.to_string()).collect::<Vec<_>>().join(","),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.to_string(),
        _ => return Err(DownwardError::Field(path.to_owned())),
    })
}

/// A map as `key="value"` lines, quoted as Go does.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", serde_json::Value::from(value.as_str())));
    lines.collect::<Vec<_>>().join("\n")
}

/// `resourceFieldRef`, of `container` unless the selector names another one.
pub(super) fn resource(
    pod: &Pod,
    container: Option<&Container>,
    facts: &Facts,
    selector: &ResourceFieldSelector,
) -> Result<String, DownwardError> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => find(pod, name).ok_or_else(|| DownwardError::Container(name.to_owned()))?,
        None => container.ok_or_else(|| DownwardError::Container(String::new()))?,
    };
    let unsupported = || DownwardError::Resource(selector.resource.clone());
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let amount = match kind {
        "limits" => {
            let limit = resources.and_then(|resources| resources.limits.as_ref()?.get(name));
            let none = |quantity: &&ApiQuantity| quantity.0.parse().is_ok_and(|amount: Quantity| amount.is_zero());
            limit.filter(|limit| !none(limit)).or_else(|| facts.allocatable.get(name))
        }
        "requests" => resources.and_then(|resources| resources.requests.as_ref()?.get(name)),
        _ => return Err(unsupported()),
    };
    let parse = |quantity: &ApiQuantity| -> Result<Quantity, DownwardError> {
        quantity.0.parse().map_err(|_| DownwardError::Quantity(quantity.0.clone()))
    };
    let amount = amount.map(parse).transpose()?.unwrap_or_else(|| Quantity::whole(0));
    let divisor = selector.divisor.as_ref().map(parse).transpose()?.filter(|divisor| !divisor.is_zero());
    Ok(divide(amount, divisor.unwrap_or_else(|| Quantity::whole(1)), name == "cpu").to_string())
}

/// Rounded up to whole divisors. Only processor time is counted in thousandths; bytes would overflow in them.
fn divide(amount: Quantity, divisor: Quantity, thousandths: bool) -> i64 {
    let (amount, divisor) =
        if thousandths { (amount.milli_value(), divisor.milli_value()) } else { (amount.value(), divisor.value()) };
    let divisor = divisor.max(1);
    amount.div_euclid(divisor) + i64::from(amount.rem_euclid(divisor) != 0)
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|container| container.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u", "labels": {"a": "1", "b": "x \"y\"\n"}},
            "spec": {"nodeName": "here", "serviceAccountName": "default", "containers": [
                {"name": "web", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}}},
                {"name": "zero", "resources": {"limits": {"memory": "0", "ephemeral-storage": "1Gi"}}},
            ]},
        }))
        .expect("a pod")
    }

    fn facts() -> Facts {
        Facts {
            pod_ip: Ipv4Addr::new(127, 64, 0, 9),
            pod_ip_v6: "fd5c::9".parse().ok(),
            host_ip: IpAddr::from([10, 0, 0, 1]),
            allocatable: [("memory".to_owned(), ApiQuantity("2Gi".to_owned()))].into(),
        }
    }

    #[test]
    fn fields_are_read_by_path() {
        for (path, expected) in [
            ("metadata.name", "web-1"),
            ("metadata.namespace", "shop"),
            ("metadata.uid", "u"),
            ("metadata.labels['a']", "1"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "a=\"1\"\nb=\"x \\\"y\\\"\\n\""),
            ("spec.nodeName", "here"),
            ("spec.serviceAccountName", "default"),
            ("status.podIP", "127.64.0.9"),
            ("status.podIPs", "127.64.0.9,fd5c::9"),
            ("status.hostIP", "10.0.0.1"),
        ] {
            assert_eq!(field(&pod(), &facts(), path).as_deref(), Ok(expected), "{path}");
        }
        assert_eq!(
            field(&pod(), &facts(), "spec.tolerations"),
            Err(DownwardError::Field("spec.tolerations".to_owned()))
        );
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let of = |container: &str, resource_name: &str, divisor: &str| {
            let selector = ResourceFieldSelector {
                container_name: Some(container.to_owned()),
                resource: resource_name.to_owned(),
                divisor: (!divisor.is_empty()).then(|| ApiQuantity(divisor.to_owned())),
            };
            resource(&pod(), None, &facts(), &selector).unwrap_or_else(|error| error.to_string())
        };
        let read = |resource_name: &str, divisor: &str| of("web", resource_name, divisor);
        assert_eq!(read("limits.cpu", ""), "2");
        assert_eq!(read("limits.cpu", "1m"), "1500");
        assert_eq!(read("requests.cpu", ""), "0");
        assert_eq!(read("requests.memory", "1Mi"), "100");
        assert_eq!(read("limits.memory", "1Gi"), "2");
        assert_eq!(of("zero", "limits.memory", "1Mi"), "2048");
        assert_eq!(of("zero", "limits.ephemeral-storage", "1k"), "1073742");
        assert_eq!(of("zero", "requests.ephemeral-storage", ""), "0");
        assert_eq!(of("nobody", "limits.cpu", ""), "container nobody not found");
        assert_eq!(read("memory", ""), "resource \"memory\" is not supported");
    }
}
