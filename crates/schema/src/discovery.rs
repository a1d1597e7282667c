//! What is served, as documents: aggregated (`apidiscovery.k8s.io/v2`) and legacy, from the kinds.
//!
//! Kinds come in the order of the catalog, custom ones after them in any order.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::kinds::{Kind, Subresource};

/// `/api`: the versions of the core group.
pub fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]})
}

/// `/apis`: all groups but the core one.
pub fn group_list(kinds: &[Arc<Kind>]) -> Value {
    let groups: Vec<Value> = group_names(kinds).into_iter().map(|group| versions_of(kinds, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/{group}`; `None` if nothing of this group is served.
pub fn group(kinds: &[Arc<Kind>], group: &str) -> Option<Value> {
    if !kinds.iter().any(|kind| kind.group == group) {
        return None;
    }
    let mut document = versions_of(kinds, group);
    document["kind"] = "APIGroup".into();
    document["apiVersion"] = "v1".into();
    Some(document)
}

/// `/api/v1` or `/apis/{group}/{version}`; `None` if nothing of it is served.
pub fn resource_list(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in sorted(kinds, group, version) {
        resources.push(resource(kind));
        resources.extend(kind.subresources.iter().map(|sub| subresource(kind, sub)));
    }
    if resources.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut document = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": resources});
    if !group.is_empty() {
        document["apiVersion"] = "v1".into();
    }
    Some(document)
}

/// `/api` (`core`) or `/apis` in one document.
pub fn aggregated(kinds: &[Arc<Kind>], core: bool) -> Value {
    let names = if core { vec![""] } else { group_names(kinds) };
    let items: Vec<Value> = names.into_iter().map(|name| aggregated_group(kinds, name)).collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

/// The `ETag` of an aggregated document, to be put in quotes.
pub fn etag(document: &[u8]) -> String {
    Sha256::digest(document).iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The order in which versions are preferred: stable before beta before alpha, higher before lower, other names last.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let rank = |version: &str| {
        parse_version(version).map(|(stability, major, minor)| (stability, Reverse(major), Reverse(minor)))
    };
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// `v1beta2` is `(1, 1, 2)`: 0 stable, 1 beta, 2 alpha.
fn parse_version(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let major = rest[..digits].parse().ok()?;
    let (stability, minor) = match &rest[digits..] {
        "" => return Some((0, major, 0)),
        rest => {
            rest.strip_prefix("beta").map(|minor| (1, minor)).or_else(|| rest.strip_prefix("alpha").map(|m| (2, m)))?
        }
    };
    Some((stability, major, minor.parse().ok()?))
}

/// Built-in groups in their order, then custom ones by name.
fn group_names(kinds: &[Arc<Kind>]) -> Vec<&str> {
    let mut built_in: Vec<&str> = Vec::new();
    let mut custom: Vec<&str> = Vec::new();
    for kind in kinds.iter().filter(|kind| !kind.group.is_empty()) {
        let group = kind.group.as_str();
        if !built_in.contains(&group) && !custom.contains(&group) {
            if kind.custom.is_none() { built_in.push(group) } else { custom.push(group) }
        }
    }
    custom.sort_unstable();
    built_in.extend(custom);
    built_in
}

fn versions<'a>(kinds: &'a [Arc<Kind>], group: &str) -> Vec<&'a str> {
    let mut versions: Vec<&str> = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == group) {
        if !versions.contains(&kind.version.as_str()) {
            versions.push(&kind.version);
        }
    }
    versions.sort_by(|a, b| compare_versions(a, b));
    versions
}

fn sorted<'a>(kinds: &'a [Arc<Kind>], group: &str, version: &str) -> Vec<&'a Kind> {
    let found = kinds.iter().filter(|kind| kind.group == group && kind.version == version);
    let mut found: Vec<&Kind> = found.map(Arc::as_ref).collect();
    found.sort_by(|a, b| a.plural.cmp(&b.plural));
    found
}

fn versions_of(kinds: &[Arc<Kind>], group: &str) -> Value {
    let versions = versions(kinds, group);
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v})).collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

fn resource(kind: &Kind) -> Value {
    let mut resource = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
        "kind": kind.kind, "verbs": kind.verbs});
    add_names(&mut resource, kind);
    if !kind.storage_version_hash.is_empty() {
        resource["storageVersionHash"] = kind.storage_version_hash.as_str().into();
    }
    resource
}

fn add_names(resource: &mut Value, kind: &Kind) {
    for (field, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            resource[field] = json!(names);
        }
    }
}

/// Whether a subresource speaks a kind of another group than its resource.
fn speaks_other(kind: &Kind, sub: &Subresource) -> bool {
    !sub.version.is_empty() && (&sub.group, &sub.version) != (&kind.group, &kind.version)
}

fn subresource(kind: &Kind, sub: &Subresource) -> Value {
    let mut resource = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
        "namespaced": kind.namespaced, "kind": sub.kind, "verbs": sub.verbs});
    if speaks_other(kind, sub) {
        resource["group"] = sub.group.as_str().into();
        resource["version"] = sub.version.as_str().into();
    }
    resource
}

fn aggregated_group(kinds: &[Arc<Kind>], group: &str) -> Value {
    let of_version = |version: &&str| {
        let resources: Vec<Value> = sorted(kinds, group, version).into_iter().map(aggregated_resource).collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    let versions: Vec<Value> = versions(kinds, group).iter().map(of_version).collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(kind: &Kind) -> Value {
    // Built-in kinds leave out what their group and version say already.
    let own = if kind.custom.is_some() { (kind.group.as_str(), kind.version.as_str()) } else { ("", "") };
    let response =
        |(group, version): (&str, &str), kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": response(own, &kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    add_names(&mut resource, kind);
    let subresource = |sub: &Subresource| {
        let gv = if speaks_other(kind, sub) { (sub.group.as_str(), sub.version.as_str()) } else { own };
        json!({"subresource": sub.name, "responseKind": response(gv, &sub.kind), "verbs": sub.verbs})
    };
    if !kind.subresources.is_empty() {
        resource["subresources"] = kind.subresources.iter().map(subresource).collect();
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;

    #[test]
    fn groups_stand_in_the_order_of_the_real_server() {
        let kinds = Catalog::builtin().kinds();
        let list = group_list(kinds);
        let names: Vec<&str> =
            list["groups"].as_array().into_iter().flatten().filter_map(|g| g["name"].as_str()).collect();
        assert_eq!(names[..4], ["apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io"]);
        assert_eq!(names.last(), Some(&"flowcontrol.apiserver.k8s.io"));
        assert_eq!(group(kinds, "autoscaling").expect("served")["preferredVersion"]["version"], "v2");
        assert!(group(kinds, "nope").is_none() && resource_list(kinds, "apps", "v9").is_none());
    }

    #[test]
    fn versions_are_ordered_by_stability_then_height() {
        let mut versions = ["foo1", "v1alpha1", "v2", "v11beta2", "bar", "v10", "v3alpha1", "v1beta1"];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(versions, ["v10", "v2", "v11beta2", "v1beta1", "v3alpha1", "v1alpha1", "bar", "foo1"]);
    }

    #[test]
    fn subresources_name_their_group_only_where_it_is_another() {
        let document = resource_list(Catalog::builtin().kinds(), "apps", "v1").expect("served");
        let find = |name: &str| {
            document["resources"].as_array().and_then(|all| all.iter().find(|r| r["name"] == name)).cloned()
        };
        let scale = find("deployments/scale").expect("deployments scale");
        assert_eq!((&scale["group"], &scale["kind"]), (&json!("autoscaling"), &json!("Scale")));
        assert!(find("deployments/status").expect("deployments have a status").get("group").is_none());
    }
}
