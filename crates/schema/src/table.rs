//! What `kubectl get` shows: the columns of a kind, and one row for an object.
//!
//! The columns of built-in kinds are generated data; their cells are told in the modules below, a function for each kind.
//! Kinds without an own table get the default one, custom resources that of their definition.

mod cells;
mod cluster;
mod custom;
mod jsonpath;
mod network;
mod pod;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::HashMap;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use cells::Object;

pub use cells::human_duration;

const COLUMNS: &str = include_str!("../data/columns.txt");

/// The `columnDefinitions` of a kind.
pub fn columns(kind: &Kind) -> Value {
    if let Some(custom) = &kind.custom {
        return custom::columns(custom);
    }
    let known = builtin().get(&(kind.group.as_str(), kind.kind.as_str()));
    known.cloned().unwrap_or_else(|| {
        json!([standard("Name"), {"name": "Created At", "type": "date", "format": "",
        "description": standard("Age")["description"], "priority": 0}])
    })
}

/// The row of an object: `{cells}`, for finished pods with `conditions`. The caller adds `object`.
pub fn row(kind: &Kind, object: &Value, now: Timestamp) -> Value {
    let object = Object { value: object, now };
    if let Some(custom) = &kind.custom {
        return json!({"cells": custom::cells(custom, object)});
    }
    let mut row = Map::new();
    if let (true, Some(finished)) = (kind.is("", "Pod"), pod::finished(object)) {
        row.insert("conditions".to_owned(), finished);
    }
    row.insert("cells".to_owned(), Value::Array(builtin_cells(kind, object)));
    Value::Object(row)
}

/// The columns of the `Scale` of a kind.
pub fn scale_columns(kind: &Kind) -> Value {
    if kind.custom.is_none() {
        return builtin()[&("autoscaling", "Scale")].clone();
    }
    let integer = |name: &str, text: &str| json!({"name": name, "type": "integer", "format": "", "description": text, "priority": 0});
    let mut age = standard("Age");
    age["type"] = "date".into();
    json!([
        standard("Name"),
        integer("Desired", "Number of desired replicas"),
        integer("Available", "Number of actual replicas"),
        age
    ])
}

/// The row of the `Scale` of a kind; custom resources may scale without saying to what.
pub fn scale_row(kind: &Kind, scale: &Value, now: Timestamp) -> Value {
    let object = Object { value: scale, now };
    let wanted = if kind.custom.is_some() { scale["spec"]["replicas"].clone() } else { object.int("/spec/replicas") };
    json!({"cells": [object.name(), wanted, object.int("/status/replicas"), object.age()]})
}

fn builtin_cells(kind: &Kind, object: Object<'_>) -> Vec<Value> {
    match kind.group.as_str() {
        "" => match kind.kind.as_str() {
            "Pod" => pod::cells(object),
            "PodTemplate" => workload::pod_template(object),
            "ReplicationController" => workload::replication_controller(object),
            "Service" => network::service(object),
            "Endpoints" => network::endpoints(object),
            _ => cluster::core(&kind.kind, object),
        },
        "events.k8s.io" => cluster::core("Event", object),
        "apps" | "batch" => workload::cells(&kind.kind, object),
        "networking.k8s.io" | "discovery.k8s.io" => network::cells(&kind.kind, object),
        _ => cluster::other(kind, object),
    }
}

/// Name and creation, as kinds without an own table show themselves.
fn default_cells(object: Object<'_>) -> Vec<Value> {
    let created = object.text("/metadata/creationTimestamp");
    let created = if created.is_empty() { "0001-01-01T00:00:00Z" } else { created };
    vec![object.name(), created.into()]
}

/// A column that nearly every kind has, with its usual description.
fn standard(name: &str) -> Value {
    let columns = &builtin()[&("", "ConfigMap")];
    let mut found = columns.as_array().into_iter().flatten().filter(|column| column["name"] == name);
    found.next().cloned().expect("config maps have a name and an age")
}

type Columns = HashMap<(&'static str, &'static str), Value>;

fn builtin() -> &'static Columns {
    static BUILTIN: OnceLock<Columns> = OnceLock::new();
    BUILTIN.get_or_init(read)
}

/// Reads the generated text, which is part of the program.
fn read() -> Columns {
    let mut tables = Columns::new();
    let mut open = ("", "");
    for line in COLUMNS.lines().filter(|line| !line.starts_with('#')) {
        if let Some(head) = line.strip_prefix("table ") {
            let (group, kind) = head.split_once(' ').expect("a table has a group and a kind");
            open = (if group == "-" { "" } else { group }, kind);
            tables.insert(open, json!([]));
            continue;
        }
        let parts: Vec<&str> = line.splitn(5, '|').collect();
        let [name, kind, format, priority, description] = parts[..] else { panic!("`{line}` is no column") };
        let priority: i32 = priority.parse().expect("priorities are numbers");
        let description = description.replace("\\n", "\n").replace("\\\\", "\\");
        let column =
            json!({"name": name, "type": kind, "format": format, "description": description, "priority": priority});
        tables.get_mut(&open).and_then(Value::as_array_mut).expect("columns follow their table").push(column);
    }
    // Both kinds of events show the same.
    let events = tables[&("", "Event")].clone();
    tables.insert(("events.k8s.io", "Event"), events);
    tables.insert(("apiregistration.k8s.io", "APIService"), api_service(&tables[&("", "ConfigMap")]));
    tables
}

/// The aggregator's own kind has its columns elsewhere in the published sources.
fn api_service(config_map: &Value) -> Value {
    let column = |name: &str, text: &str| json!({"name": name, "type": "string", "format": "", "description": text, "priority": 0});
    let service = column("Service", "The reference to the service that hosts this API endpoint.");
    json!([config_map[0], service, column("Available", "Whether this service is available."), config_map[2]])
}
