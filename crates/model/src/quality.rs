//! The quality-of-service class of a pod.

use std::collections::BTreeMap;

use crate::quantity::Quantity;
use serde_json::Value;

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed` if every container has equal requests and limits of cpu and memory, `BestEffort` if none has any of them.
pub fn qos_class(spec: &Value) -> &'static str {
    if let Some(resources) = spec.get("resources").filter(|resources| has_any(resources)) {
        return class_of([resources]);
    }
    class_of(
        ["containers", "initContainers"]
            .iter()
            .flat_map(|list| spec.get(*list).and_then(Value::as_array).into_iter().flatten())
            .map(|container| container.get("resources").unwrap_or(&Value::Null)),
    )
}

fn has_any(resources: &Value) -> bool {
    ["requests", "limits"].iter().any(|list| !amounts(resources, list).is_empty())
}

fn class_of<'v>(all: impl IntoIterator<Item = &'v Value>) -> &'static str {
    let (mut guaranteed, mut none) = (true, true);
    for resources in all {
        let (requests, limits) = (amounts(resources, "requests"), amounts(resources, "limits"));
        none &= requests.is_empty() && limits.is_empty();
        guaranteed &= limits.len() == COUNTED.len()
            && requests.iter().all(|(name, request)| limits.get(name) == Some(request))
            && requests.len() == limits.len();
    }
    match (none, guaranteed) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}

/// The amounts of cpu and memory in a list that are not zero.
fn amounts(resources: &Value, list: &str) -> BTreeMap<&'static str, Quantity> {
    COUNTED
        .iter()
        .filter_map(|name| {
            let amount: Quantity = resources.get(list)?.get(*name)?.as_str()?.parse().ok()?;
            (!amount.is_zero()).then_some((*name, amount))
        })
        .collect()
}
