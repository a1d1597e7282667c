//! Judges a schema: it must be structural, so that pruning, defaulting and ownership know every field.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Faults, rules, text};
use crate::crd::check::faults_of_part;
use crate::crd::rules::Rule;
use crate::crd::schema::Schema;
use crate::fault::FaultKind;

/// Schemas may not nest deeper.
const MAX_DEPTH: usize = 64;
const COMBINATORS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const ROOT_FIELDS: [&str; 3] = ["metadata", "apiVersion", "kind"];

pub(super) fn check(schema: &Value, path: &str, faults: &mut Faults) {
    if !schema.is_object() {
        return;
    }
    let before = faults.0.len();
    node(schema, path, Place::Root, 0, faults);
    if faults.0.len() == before {
        defaults(schema, path, &[], faults);
        rules::check(schema, path, faults);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Inside,
}

fn node(schema: &Value, path: &str, place: Place, depth: usize, faults: &mut Faults) {
    if depth > MAX_DEPTH {
        faults.forbidden(path, &format!("must not nest deeper than {MAX_DEPTH} levels"));
        return;
    }
    let kind = text(&schema["type"]);
    let flag = |name: &str| schema[format!("x-kubernetes-{name}")] == true;
    if kind.is_empty() && !flag("int-or-string") && !flag("preserve-unknown-fields") {
        let why = if place == Place::Root {
            "must not be empty at the root"
        } else {
            "must not be empty for specified object fields"
        };
        faults.required(&format!("{path}.type"), why);
    } else if place == Place::Root && kind != "object" {
        faults.invalid(&format!("{path}.type"), json!(kind), "must be object at the root");
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let path = format!("{path}.x-kubernetes-preserve-unknown-fields");
        faults.invalid(&path, json!(false), "must be true or undefined");
    }
    embedded(schema, path, faults);
    metadata(schema, path, place, faults);
    list(schema, path, faults);
    map(schema, path, faults);
    for combinator in COMBINATORS {
        for (n, branch) in schema[combinator].as_array().into_iter().flatten().enumerate() {
            // `anyOf: [{type: integer}, {type: string}]` first thing is how such fields are written by hand.
            let excused = flag("int-or-string") && combinator == "anyOf" && is_int_or_string(&schema["anyOf"]);
            if !excused {
                value_only(branch, &format!("{path}.{combinator}[{n}]"), faults);
            }
        }
    }
    if schema["not"].is_object() {
        value_only(&schema["not"], &format!("{path}.not"), faults);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        node(property, &format!("{path}.properties[{name}]"), Place::Inside, depth + 1, faults);
    }
    for field in ["items", "additionalProperties"] {
        if schema[field].is_object() {
            node(&schema[field], &format!("{path}.{field}"), Place::Inside, depth + 1, faults);
        }
    }
    if schema["additionalProperties"].is_object() && schema["properties"].as_object().is_some_and(|p| !p.is_empty()) {
        faults.forbidden(
            &format!("{path}.additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        );
    }
}

fn is_int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

/// Inside combinators only values may be constrained; what fields exist is said outside.
fn value_only(schema: &Value, path: &str, faults: &mut Faults) {
    for field in ["type", "default", "description", "title"] {
        if schema.get(field).is_some() {
            faults.forbidden(&format!("{path}.{field}"), "must be empty to be structural");
        }
    }
    if !Rule::read_all(schema).is_empty() {
        faults.forbidden(&format!("{path}.x-kubernetes-validations"), "must be empty to be structural");
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        value_only(property, &format!("{path}.properties[{name}]"), faults);
    }
    if schema["items"].is_object() {
        value_only(&schema["items"], &format!("{path}.items"), faults);
    }
}

fn embedded(schema: &Value, path: &str, faults: &mut Faults) {
    if schema["x-kubernetes-embedded-resource"] != true {
        return;
    }
    let empty = schema["properties"].as_object().is_none_or(serde_json::Map::is_empty);
    if empty && schema["x-kubernetes-preserve-unknown-fields"] != true {
        faults.required(
            &format!("{path}.properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        );
    }
    let kind = text(&schema["type"]);
    if kind != "object" && !kind.is_empty() {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        faults.invalid(&format!("{path}.type"), json!(kind), why);
    }
}

/// Of the metadata of an object only the names may be described, and no rules may stand there.
fn metadata(schema: &Value, path: &str, place: Place, faults: &mut Faults) {
    let metadata = &schema["properties"]["metadata"];
    let whole = place == Place::Root || schema["x-kubernetes-embedded-resource"] == true;
    if whole && !Rule::read_all(metadata).is_empty() {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        faults.forbidden(&format!("{path}.properties[metadata]"), why);
    }
}

fn list(schema: &Value, path: &str, faults: &mut Faults) {
    let keys_path = format!("{path}.x-kubernetes-list-map-keys");
    let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().map(text).collect();
    let list_type = schema["x-kubernetes-list-type"].as_str();
    if let Some(list_type) = list_type {
        let kind = text(&schema["type"]);
        if kind != "array" {
            faults.invalid(
                &format!("{path}.type"),
                json!(kind),
                "must be array if x-kubernetes-list-type is specified",
            );
        } else if !["atomic", "set", "map"].contains(&list_type) {
            faults.unsupported(&format!("{path}.x-kubernetes-list-type"), list_type, &["atomic", "set", "map"]);
        }
    }
    let items = &schema["items"];
    if list_type == Some("set") && text(&items["type"]) == "object" && items["x-kubernetes-map-type"] != "atomic" {
        let found = items["x-kubernetes-map-type"].clone();
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        faults.invalid(&format!("{path}.items.x-kubernetes-map-type"), found, why);
    }
    if list_type != Some("map") {
        if !keys.is_empty() {
            let why = "must be map if x-kubernetes-list-map-keys is non-empty";
            faults.required(&format!("{path}.x-kubernetes-list-type"), why);
        }
        return;
    }
    if text(&items["type"]) != "object" {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        faults.invalid(&format!("{path}.items.type"), items["type"].clone(), why);
    }
    if keys.is_empty() {
        faults.required(&keys_path, "must not be empty if x-kubernetes-list-type is map");
    }
    list_keys(schema, &keys, path, faults);
    if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
        faults.invalid(&keys_path, json!(keys), "must not contain duplicate entries");
    }
}

fn list_keys(schema: &Value, keys: &[&str], path: &str, faults: &mut Faults) {
    let items = &schema["items"];
    let required: Vec<&str> = items["required"].as_array().into_iter().flatten().map(text).collect();
    for key in keys {
        let Some(property) = items["properties"].get(*key) else {
            if text(&items["type"]) == "object" {
                let why = "entries must all be names of item properties";
                faults.invalid(&format!("{path}.x-kubernetes-list-map-keys"), json!(keys), why);
            }
            continue;
        };
        let kind = text(&property["type"]);
        if kind == "object" || kind == "array" {
            let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            faults.invalid(&format!("{path}.items.properties[{key}].type"), json!(kind), why);
        } else if !required.contains(key) && property.get("default").is_none() {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            faults.required(&format!("{path}.items.properties[{key}].default"), why);
        }
    }
}

fn map(schema: &Value, path: &str, faults: &mut Faults) {
    let Some(map_type) = schema["x-kubernetes-map-type"].as_str() else { return };
    let kind = text(&schema["type"]);
    if kind != "object" {
        faults.invalid(&format!("{path}.type"), json!(kind), "must be object if x-kubernetes-map-type is specified");
    } else if !["atomic", "granular"].contains(&map_type) {
        faults.unsupported(&format!("{path}.x-kubernetes-map-type"), map_type, &["atomic", "granular"]);
    }
}

/// Defaults must be values that the schema around them allows.
fn defaults(schema: &Value, path: &str, trail: &[&str], faults: &mut Faults) {
    if let Some(default) = schema.get("default").filter(|d| !d.is_null()) {
        let path = format!("{path}.default");
        match trail {
            [first, ..] if ROOT_FIELDS.contains(first) => {
                faults.forbidden(&path, &format!("must not be set in top-level {first}"));
            }
            _ => default_value(schema, default, &path, faults),
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let trail: Vec<&str> = trail.iter().copied().chain([name.as_str()]).collect();
        defaults(property, &format!("{path}.properties[{name}]"), &trail, faults);
    }
    for field in ["items", "additionalProperties"] {
        if schema[field].is_object() {
            let trail: Vec<&str> = trail.iter().copied().chain([field]).collect();
            defaults(&schema[field], &format!("{path}.{field}"), &trail, faults);
        }
    }
}

fn default_value(schema: &Value, default: &Value, path: &str, faults: &mut Faults) {
    let node = Schema::part(schema);
    let mut pruned = default.clone();
    if !crate::crd::prune(&node, &mut pruned).is_empty() {
        faults.invalid(path, default.clone(), "must not have unknown fields");
        return;
    }
    for mut fault in faults_of_part(&node, default) {
        let below = std::mem::take(&mut fault.path);
        fault.path = if below.is_empty() { path.to_owned() } else { format!("{path}.{below}") };
        if fault.kind == FaultKind::Required {
            fault.value = None;
        }
        faults.0.push(fault);
    }
}
