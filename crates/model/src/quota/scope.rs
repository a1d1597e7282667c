//! Which objects of a namespace a quota is about.

use serde_json::{Value, json};

use super::Resource;
use crate::qos_class;

/// One condition on the objects that a quota counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    name: String,
    operator: String,
    values: Vec<String>,
}

impl Scope {
    /// Those of `scopes` and those of `scopeSelector`.
    pub(super) fn all_of(spec: &Value) -> Vec<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let each = |list: &Value| list.as_array().cloned().unwrap_or_default();
        let plain = each(&spec["scopes"]);
        let plain = plain.iter().map(|name| Self { name: text(name), operator: "Exists".into(), values: vec![] });
        let selected = each(&spec["scopeSelector"]["matchExpressions"]);
        let selected = selected.iter().map(|expression| Self {
            name: text(&expression["scopeName"]),
            operator: text(&expression["operator"]),
            values: each(&expression["values"]).iter().map(text).collect(),
        });
        plain.chain(selected).collect()
    }

    pub(super) fn holds(&self, resource: &Resource, object: &Value) -> bool {
        match (resource.group.as_str(), resource.plural.as_str()) {
            ("", "pods") => self.holds_for_pod(object),
            ("", "persistentvolumeclaims") => {
                self.name == "VolumeAttributesClass" && self.selects(&object["spec"]["volumeAttributesClassName"])
            }
            // Nothing else has a scope.
            _ => false,
        }
    }

    fn holds_for_pod(&self, pod: &Value) -> bool {
        let spec = &pod["spec"];
        let ends = || spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
        match self.name.as_str() {
            "Terminating" => ends(),
            "NotTerminating" => !ends(),
            "BestEffort" => qos_class(spec) == "BestEffort",
            "NotBestEffort" => qos_class(spec) != "BestEffort",
            "PriorityClass" => self.selects(&spec["priorityClassName"]),
            "CrossNamespacePodAffinity" => looks_into_other_namespaces(spec),
            _ => false,
        }
    }

    fn selects(&self, class: &Value) -> bool {
        let class = class.as_str().unwrap_or_default();
        let is_named = !class.is_empty() && self.values.iter().any(|value| value == class);
        match self.operator.as_str() {
            "Exists" => !class.is_empty(),
            "DoesNotExist" => class.is_empty(),
            "In" => is_named,
            "NotIn" => !is_named,
            _ => false,
        }
    }
}

fn looks_into_other_namespaces(spec: &Value) -> bool {
    let terms = |affinity: &Value| {
        let each = |list: &str| affinity[list].as_array().cloned().unwrap_or_default();
        let preferred = each("preferredDuringSchedulingIgnoredDuringExecution");
        let preferred = preferred.into_iter().map(|mut term| term["podAffinityTerm"].take());
        each("requiredDuringSchedulingIgnoredDuringExecution").into_iter().chain(preferred).collect::<Vec<_>>()
    };
    let affinity = &spec["affinity"];
    [&affinity["podAffinity"], &affinity["podAntiAffinity"]].into_iter().flat_map(terms).any(|term| {
        let is_empty = term["namespaces"].is_null() || term["namespaces"] == json!([]);
        !is_empty || !term["namespaceSelector"].is_null()
    })
}
