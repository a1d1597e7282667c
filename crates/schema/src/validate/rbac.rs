//! Roles and bindings.

use super::check::Faults;
use super::cursor::At;
use super::{names, selector};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(crate) fn role(f: &mut Faults, object: &At<'_>) {
    rules(f, object, true);
}

pub(crate) fn cluster_role(f: &mut Faults, object: &At<'_>) {
    rules(f, object, false);
    let aggregation = object.get("aggregationRule");
    if !aggregation.is_set() {
        return;
    }
    let selectors = aggregation.get("clusterRoleSelectors");
    if selectors.is_zero() {
        f.required(&selectors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for at in selectors.items() {
        selector::label_selector(f, &at);
        if !selector::is_well_formed(&at) {
            f.invalid_value(&at, serde_json::Value::Null, "invalid label selector.");
        }
    }
}

fn rules(f: &mut Faults, object: &At<'_>, namespaced: bool) {
    for rule in object.get("rules").items() {
        let urls = rule.get("nonResourceURLs");
        if rule.get("verbs").is_zero() {
            f.required(&rule.get("verbs"), "verbs must contain at least one value");
        }
        if !urls.is_zero() {
            if namespaced {
                f.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.get(field).is_zero()) {
                f.invalid(&urls, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if rule.get("apiGroups").is_zero() {
            f.required(&rule.get("apiGroups"), "resource rules must supply at least one api group");
        }
        if rule.get("resources").is_zero() {
            f.required(&rule.get("resources"), "resource rules must supply at least one resource");
        }
    }
}

pub(crate) fn role_binding(f: &mut Faults, object: &At<'_>) {
    binding(f, object, &["Role", "ClusterRole"], true);
}

pub(crate) fn cluster_role_binding(f: &mut Faults, object: &At<'_>) {
    binding(f, object, &["ClusterRole"], false);
}

fn binding(f: &mut Faults, object: &At<'_>, kinds: &[&str], namespaced: bool) {
    let role = object.get("roleRef");
    f.one_of(&role.get("apiGroup"), &[RBAC]);
    f.one_of(&role.get("kind"), kinds);
    if role.get("name").is_zero() {
        f.required(&role.get("name"), "");
    } else {
        f.format(&role.get("name"), names::path_segment);
    }
    for subject in object.get("subjects").items() {
        let (name, group) = (subject.get("name"), subject.get("apiGroup"));
        if name.is_zero() {
            f.required(&name, "");
        }
        match subject.text("kind") {
            "ServiceAccount" => {
                f.optional_format(&name, names::subdomain);
                if !group.is_zero() {
                    f.unsupported(&group, &[""]);
                }
                if !namespaced && subject.get("namespace").is_zero() {
                    f.required(&subject.get("namespace"), "");
                }
            }
            "User" | "Group" => f.one_of(&group, &[RBAC]),
            _ => f.one_of(&subject.get("kind"), &["ServiceAccount", "User", "Group"]),
        }
    }
}

/// What a binding gives stays.
pub(crate) fn same_role(f: &mut Faults, new: &At<'_>, old: &At<'_>) {
    let (role, before) = (new.get("roleRef"), old.get("roleRef"));
    if role.value != before.value {
        f.invalid_shown(&role, &crate::go::print("RoleRef", role.value), "cannot change roleRef");
    }
}
