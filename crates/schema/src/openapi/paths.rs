//! Operations in the notation of either version.

use serde_json::{Map, Value, json};

use super::Dialect;
use super::operations::{self, Body, Operation};
use crate::kinds::Kind;

const OBJECTS: [&str; 2] = ["application/json", "application/yaml"];
const PATCHES: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Adds the paths of a kind to those of a document.
pub(super) fn add(dialect: Dialect, kind: &Kind, paths: &mut Map<String, Value>) {
    for operation in operations::of(kind) {
        let path = paths.entry(operation.path.clone()).or_insert_with(|| common(dialect, &operation.path));
        path[operation.method] = match dialect {
            Dialect::V2 => v2(kind, &operation),
            Dialect::V3 => v3(kind, &operation),
        };
    }
}

/// What all operations of a path share: its parameters.
fn common(dialect: Dialect, path: &str) -> Value {
    let mut parameters = Vec::new();
    for (name, text) in
        [("name", "name of the object"), ("namespace", "object name and auth scope, such as for teams and projects")]
    {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(parameter(dialect, name, "path", "string", Some(text)));
        }
    }
    parameters.push(parameter(dialect, "pretty", "query", "string", None));
    json!({"parameters": parameters})
}

fn parameter(dialect: Dialect, name: &str, place: &str, kind: &str, text: Option<&str>) -> Value {
    let mut parameter = json!({"name": name, "in": place});
    match dialect {
        Dialect::V2 => {
            parameter["type"] = kind.into();
            parameter["uniqueItems"] = true.into();
        }
        Dialect::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    if place == "path" {
        parameter["required"] = true.into();
    }
    if let Some(text) = text {
        parameter["description"] = text.into();
    }
    parameter
}

fn query(dialect: Dialect, operation: &Operation) -> Vec<Value> {
    let kind = |name: &str| match name {
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        "allowWatchBookmarks" | "sendInitialEvents" | "watch" | "force" | "orphanDependents" => "boolean",
        _ => "string",
    };
    operation.parameters.iter().map(|name| parameter(dialect, name, "query", kind(name), None)).collect()
}

fn frame(kind: &Kind, operation: &Operation, parameters: Vec<Value>) -> Value {
    let group = kind.group.split('.').next().filter(|group| !group.is_empty()).unwrap_or("core");
    let mut frame = json!({
        "operationId": operation.id,
        "tags": [format!("{group}_{}", kind.version)],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    });
    if !parameters.is_empty() {
        frame["parameters"] = Value::Array(parameters);
    }
    frame
}

/// The codes of success, first the usual one.
fn codes(operation: &Operation) -> &'static [(&'static str, &'static str)] {
    match operation.action {
        "post" => &[("200", "OK"), ("201", "Created"), ("202", "Accepted")],
        "put" | "patch" => &[("200", "OK"), ("201", "Created")],
        "delete" => &[("200", "OK"), ("202", "Accepted")],
        _ => &[("200", "OK")],
    }
}

fn patch_types(strategic: bool) -> &'static [&'static str] {
    if strategic { &PATCHES } else { &PATCHES[..3] }
}

fn v3(kind: &Kind, operation: &Operation) -> Value {
    let reference = |name: &str| json!({"$ref": Dialect::V3.reference(name)});
    let content = |types: &[&str], name: &str| {
        let content: Map<String, Value> =
            types.iter().map(|media| ((*media).to_owned(), json!({"schema": reference(name)}))).collect();
        content
    };
    let mut frame = frame(kind, operation, query(Dialect::V3, operation));
    match &operation.body {
        Body::None => {}
        Body::Object(name) => frame["requestBody"] = json!({"required": true, "content": content(&["*/*"], name)}),
        Body::Options => {
            frame["requestBody"] = json!({"content": content(&["*/*"], &format!("{META}.DeleteOptions"))});
        }
        Body::Patch { strategic } => {
            let content = content(patch_types(*strategic), &format!("{META}.Patch"));
            frame["requestBody"] = json!({"required": true, "content": content});
        }
    }
    let mut responses = Map::new();
    for (code, text) in codes(operation) {
        let mut response = json!({"description": text});
        response["content"] = match operation.answer.as_str() {
            "" => json!({"*/*": {"schema": {"type": "string"}}}),
            name => Value::Object(content(&OBJECTS, name)),
        };
        responses.insert((*code).to_owned(), response);
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    frame["responses"] = Value::Object(responses);
    frame
}

fn v2(kind: &Kind, operation: &Operation) -> Value {
    let reference = |name: &str| json!({"$ref": Dialect::V2.reference(name)});
    let mut parameters = query(Dialect::V2, operation);
    let body = |name: &str, required: bool| {
        let mut body = json!({"name": "body", "in": "body", "schema": reference(name)});
        if required {
            body["required"] = true.into();
        }
        body
    };
    let consumes: &[&str] = match &operation.body {
        Body::None => &["*/*"],
        Body::Object(name) => {
            parameters.insert(0, body(name, true));
            &["*/*"]
        }
        Body::Options => {
            parameters.insert(0, body(&format!("{META}.DeleteOptions"), false));
            &["*/*"]
        }
        Body::Patch { strategic } => {
            parameters.insert(0, body(&format!("{META}.Patch"), true));
            patch_types(*strategic)
        }
    };
    let mut frame = frame(kind, operation, parameters);
    frame["consumes"] = json!(consumes);
    frame["produces"] = json!(OBJECTS);
    frame["schemes"] = json!(["https"]);
    let mut responses = Map::new();
    for (code, text) in codes(operation) {
        let schema = match operation.answer.as_str() {
            "" => json!({"type": "string"}),
            name => reference(name),
        };
        responses.insert((*code).to_owned(), json!({"description": text, "schema": schema}));
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    frame["responses"] = Value::Object(responses);
    frame
}
