use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::Catalog;

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(target) if key == "$ref" => drop(found.insert(target.to_owned())),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn widgets() -> Vec<Arc<Kind>> {
    let definition = json!({"metadata": {"name": "widgets.example.org"}, "spec": {"group": "example.org", "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "description": "A widget.", "properties": {
                "spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 1, "nullable": true},
                    "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}}}}}}]}});
    let compiled = crate::crd::compile(&definition).expect("a valid definition");
    compiled.into_iter().map(Arc::new).collect()
}

#[test]
fn every_document_of_version_3_stands_alone() {
    let mut kinds = Catalog::builtin().kinds().to_vec();
    kinds.extend(widgets());
    for (group, version) in group_versions(&kinds) {
        let document = v3(&kinds, &group, &version).expect("served");
        let mut targets = BTreeSet::new();
        references(&document, &mut targets);
        for target in targets {
            let pointer = target.trim_start_matches('#').replace("~", "~0");
            assert!(document.pointer(&pointer).is_some(), "{group}/{version}: {target} leads nowhere");
        }
    }
    assert!(v3(&kinds, "nope", "v1").is_none());
}

#[test]
fn kubectl_finds_what_it_looks_for() {
    let document = v3(Catalog::builtin().kinds(), "apps", "v1").expect("served");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert!(patch["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == "fieldValidation")));
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert_eq!(deployment["description"], "Deployment enables declarative updates for Pods and ReplicaSets.");
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"], "TCP");
}

#[test]
fn custom_resources_are_published_with_their_schema() {
    let document = v3(&widgets(), "example.org", "v1").expect("served");
    let widget = &document["components"]["schemas"]["org.example.v1.Widget"];
    assert_eq!(widget["description"], "A widget.");
    assert_eq!(widget["properties"]["spec"]["properties"]["size"]["default"], 1);
    assert!(widget["properties"]["metadata"]["allOf"].is_array());
    let item = &document["paths"]["/apis/example.org/v1/namespaces/{namespace}/widgets/{name}"];
    assert!(item["patch"]["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
    assert!(document["paths"]["/apis/example.org/v1/namespaces/{namespace}/widgets/{name}/status"]["put"].is_object());
    let second = v2(&widgets());
    let spec = &second["definitions"]["org.example.v1.Widget"]["properties"]["spec"]["properties"];
    assert_eq!(spec["size"], json!({"type": "integer"}));
    assert_eq!(spec["port"], json!({"x-kubernetes-int-or-string": true}));
}

#[test]
fn the_hash_follows_the_kinds() {
    let builtin = Catalog::builtin().kinds();
    assert_eq!(hash(builtin, "apps", "v1"), hash(builtin, "apps", "v1"));
    assert_ne!(hash(builtin, "apps", "v1"), hash(builtin, "batch", "v1"));
    let index = index(builtin);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a place");
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="));
}

#[test]
fn version_2_is_complete_and_encodes() {
    let document = v2(Catalog::builtin().kinds());
    let mut targets = BTreeSet::new();
    references(&document, &mut targets);
    for target in targets {
        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target} leads nowhere");
    }
    let bytes = v2_protobuf(&document);
    // Document.swagger, then Document.info.
    assert_eq!(&bytes[..6], b"\x0a\x032.0\x12");
    let text = b"io.k8s.api.core.v1.PodSpec";
    assert!(bytes.windows(text.len()).any(|window| window == text));
}
