//! A pod as the checks look at it.

use std::collections::BTreeSet;

use serde_json::Value;

pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
    /// The minor version of the standard.
    pub(super) version: u32,
}

/// Who set something that is forbidden, and to what.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) by_pod: bool,
    pub(super) containers: Vec<String>,
    pub(super) values: BTreeSet<String>,
}

impl Pod<'_> {
    /// All containers in the order that messages name them in.
    pub(super) fn containers(&self) -> impl Iterator<Item = &Value> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        lists.into_iter().flat_map(|list| self.spec[list].as_array()).flatten()
    }

    pub(super) fn volumes(&self) -> impl Iterator<Item = &Value> {
        self.spec["volumes"].as_array().into_iter().flatten()
    }

    /// The security context of the pod as a whole.
    pub(super) fn context(&self) -> &Value {
        &self.spec["securityContext"]
    }

    pub(super) fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Whether its users mean nothing outside.
    pub(super) fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    /// The containers whose security context is like this.
    pub(super) fn containers_where(&self, holds: impl Fn(&Value) -> bool) -> Vec<String> {
        self.containers().filter(|container| holds(&container["securityContext"])).map(name).collect()
    }
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        !self.by_pod && self.containers.is_empty()
    }

    /// `pod and containers "a", "b"`
    pub(super) fn setters(&self) -> String {
        let pod = self.by_pod.then(|| "pod".to_owned());
        let containers = (!self.containers.is_empty()).then(|| named("container", &self.containers));
        pod.into_iter().chain(containers).collect::<Vec<_>>().join(" and ")
    }
}

pub(super) fn name(object: &Value) -> String {
    object["name"].as_str().unwrap_or_default().to_owned()
}

/// `containers "a", "b"`
pub(super) fn named(what: &str, names: &[String]) -> String {
    format!("{}{} {}", what, if names.len() == 1 { "" } else { "s" }, quoted(names))
}

pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
