//! Names and amounts of resources.

use sluice_model::quantity::Quantity;

use super::check::{Faults, NOT_NEGATIVE};
use super::cursor::At;
use super::names;

/// The amount at this place; decoding has refused what is none.
pub(crate) fn amount(at: &At<'_>) -> Option<Quantity> {
    match at.value {
        serde_json::Value::Number(number) => number.to_string().parse().ok(),
        value => value.as_str()?.trim().parse().ok(),
    }
}

pub(crate) fn is_huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-")
}

pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_empty()
}

/// Whether a limit may be above the request.
pub(crate) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_pages(name)
}

const COUNTED: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

const MEASURED: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "storage",
    "requests.storage",
];

fn is_standard(name: &str) -> bool {
    COUNTED.contains(&name)
        || MEASURED.contains(&name)
        || is_huge_pages(name)
        || name.starts_with("requests.hugepages-")
}

fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || is_huge_pages(name)
}

fn is_standard_for_quotas(name: &str) -> bool {
    COUNTED.contains(&name)
        || MEASURED.contains(&name) && name != "storage"
        || is_huge_pages(name)
        || name.starts_with("requests.hugepages-")
}

/// The name of any resource, faults at `at`.
pub(crate) fn resource_name(f: &mut Faults, at: &At<'_>, name: &str) {
    let problems = names::qualified(name);
    if !problems.is_empty() {
        return f.problems(at, name, problems);
    }
    if !name.contains('/') && !is_standard(name) {
        f.invalid_value(at, name, "must be a standard resource type or fully qualified");
    }
}

pub(crate) fn container_resource_name(f: &mut Faults, at: &At<'_>, name: &str) {
    resource_name(f, at, name);
    if !name.contains('/') {
        if !is_standard_for_containers(name) {
            f.invalid_value(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        f.invalid_value(at, name, "doesn't follow extended resource name standard");
    }
}

pub(crate) fn quota_resource_name(f: &mut Faults, at: &At<'_>, name: &str) {
    resource_name(f, at, name);
    if !name.contains('/') && !is_standard_for_quotas(name) {
        f.invalid_value(at, name, "must be a standard resource for quota");
    }
}

/// Not negative, and whole where the resource is counted.
pub(crate) fn resource_amount(f: &mut Faults, at: &At<'_>, name: &str) {
    let Some(amount) = amount(at) else { return };
    not_negative(f, at);
    if (is_extended(name) || COUNTED.contains(&name)) && !amount.is_whole() {
        f.invalid_value(at, amount.to_string(), "must be an integer");
    }
}

pub(crate) fn not_negative(f: &mut Faults, at: &At<'_>) {
    if let Some(amount) = amount(at).filter(|amount| amount.is_negative()) {
        f.invalid_value(at, amount.to_string(), NOT_NEGATIVE);
    }
}

/// Amounts of huge pages are multiples of the page size that is in the name.
pub(crate) fn whole_pages(f: &mut Faults, at: &At<'_>, name: &str) {
    let size = name.strip_prefix("hugepages-").and_then(|size| size.parse::<Quantity>().ok());
    let (Some(amount), Some(size)) = (amount(at), size) else { return };
    if size.value() <= 0 || amount.value() % size.value() != 0 || !amount.is_whole() {
        f.invalid_value(at, amount.to_string(), format!("{amount} is not positive integer multiple of {name}"));
    }
}
