//! Which namespaces an object lets in.

use std::collections::BTreeMap;

use sluice_model::gateway::{LabelSelector, RouteNamespaces};

use crate::facts::World;

/// Whether an object of namespace `own` lets those of namespace `other` in; `default` is what it means when it says nothing.
pub(crate) fn admits(world: &World, allowed: &RouteNamespaces, default: &str, own: &str, other: &str) -> bool {
    match allowed.from.as_deref().unwrap_or(default) {
        "All" => true,
        "Same" => own == other,
        "Selector" => {
            let labels = world.namespaces.get(other);
            allowed.selector.as_ref().zip(labels).is_some_and(|(selector, labels)| selects(selector, labels))
        }
        _ => false,
    }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let LabelSelector { match_labels, match_expressions } = selector;
    match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && match_expressions.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match requirement.operator.as_str() {
                "In" => value.is_some_and(|value| requirement.values.contains(value)),
                "NotIn" => value.is_none_or(|value| !requirement.values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}
