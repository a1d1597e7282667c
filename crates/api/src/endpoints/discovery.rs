//! Which groups, versions and resources are served.

use http::Response;
use http::StatusCode;
use http::request::Parts;
use serde_json::{Value, json};

use super::only_get;
use crate::body::Body;
use crate::refusal::Refusal;
use crate::registry::Kinds;
use crate::render;
use crate::request::Encoding;

pub(crate) fn core_versions(_kinds: &Kinds, parts: &Parts) -> Result<Response<Body>, Refusal> {
    only_get(parts)?;
    let versions = json!({"kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]});
    Ok(render::value(Encoding::Json, StatusCode::OK, &versions))
}

pub(crate) fn groups(kinds: &Kinds, _parts: &Parts) -> Result<Response<Body>, Refusal> {
    let mut seen: Vec<&str> = Vec::new();
    for kind in kinds.all.iter().filter(|kind| !kind.group.is_empty()) {
        if !seen.contains(&kind.group.as_str()) {
            seen.push(&kind.group);
        }
    }
    let groups: Vec<Value> = seen.into_iter().map(|group| group_document(kinds, group, false)).collect();
    let list = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
    Ok(render::value(Encoding::Json, StatusCode::OK, &list))
}

/// The document of a group, or of one of its versions.
pub(crate) fn group_discovery(
    kinds: &Kinds,
    group: &str,
    version: Option<&str>,
    parts: &Parts,
) -> Result<Response<Body>, Refusal> {
    only_get(parts)?;
    let document = match version {
        None => group_document(kinds, group, true),
        Some(version) => resources(kinds, group, version),
    };
    Ok(render::value(Encoding::Json, StatusCode::OK, &document))
}

fn group_document(kinds: &Kinds, group: &str, alone: bool) -> Value {
    let mut versions: Vec<&str> = Vec::new();
    for kind in kinds.all.iter().filter(|kind| kind.group == group) {
        if !versions.contains(&kind.version.as_str()) {
            versions.push(&kind.version);
        }
    }
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v})).collect();
    let mut document = json!({"name": group, "preferredVersion": versions.first(), "versions": versions});
    if alone {
        document["kind"] = json!("APIGroup");
        document["apiVersion"] = json!("v1");
    }
    document
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Value {
    let mut all = Vec::new();
    for kind in kinds.all.iter().filter(|kind| kind.group == group && kind.version == version) {
        let mut resource = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced,
                                  "kind": kind.kind, "verbs": kind.verbs});
        for (field, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
            if !list.is_empty() {
                resource[field] = json!(list);
            }
        }
        all.push(resource);
        for sub in &kind.subresources {
            all.push(json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
                            "namespaced": kind.namespaced, "kind": sub.kind, "verbs": sub.verbs}));
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut list = json!({"kind": "APIResourceList", "groupVersion": group_version, "resources": all});
    if !group.is_empty() {
        list["apiVersion"] = json!("v1");
    }
    list
}
