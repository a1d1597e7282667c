#![expect(clippy::needless_pass_by_value, reason = "`json!` makes the values where they are used")]

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::managed::set::Set;
use crate::managed::{
    ApplyError, Conflict, MAX_MANAGER_BYTES, MAX_UPDATE_MANAGERS, OnlyVersion, Writer, apply, manager_from_user_agent,
    settle, update,
};
use crate::merge::tests::tables::any_json;
use crate::{Catalog, Kind};

fn kind(name: &str) -> &'static Kind {
    let group = if name == "Deployment" { "apps" } else { "" };
    Catalog::builtin().kind(group, "v1", name).expect("a built-in kind")
}

fn writer(kind: &'static Kind, manager: &'static str, second: i64) -> Writer<'static> {
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000 + second);
    Writer { kind, manager, subresource: None, now, versions: &OnlyVersion }
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
}

fn applied(live: Option<&Value>, manager: &'static str, second: i64, data: Value) -> Value {
    let writer = writer(kind("ConfigMap"), manager, second);
    apply(&writer, live, &config_map(data), false).expect("nobody else owns this")
}

fn managers(object: &Value) -> Vec<(String, String)> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries.map(|entry| (text(entry, "manager"), text(entry, "time"))).collect()
}

#[test]
fn owners_share_equal_values_and_the_last_one_removes() {
    let first = applied(None, "a", 0, json!({"x": "1"}));
    let both = applied(Some(&first), "b", 1, json!({"x": "1"}));
    assert_eq!(managers(&both), [("b".into(), String::new()), ("a".into(), "2023-11-14T22:13:20Z".into())]);
    let one = applied(Some(&both), "a", 2, json!({"y": "2"}));
    assert_eq!(one["data"], json!({"x": "1", "y": "2"}), "b still owns x");
    let none = applied(Some(&one), "b", 3, json!({"z": "3"}));
    assert_eq!(none["data"], json!({"y": "2", "z": "3"}), "nobody owns x any more");
}

#[test]
fn another_value_is_a_conflict_unless_forced() {
    let live = applied(None, "a", 0, json!({"x": "1"}));
    let writer = writer(kind("ConfigMap"), "b", 1);
    let error = apply(&writer, Some(&live), &config_map(json!({"x": "2"})), false).expect_err("a owns x");
    let conflict = Conflict { manager: "\"a\"".into(), path: ".data.x".into() };
    assert_eq!(error, ApplyError::Conflicts(vec![conflict]));
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .data.x");
    let forced = apply(&writer, Some(&live), &config_map(json!({"x": "2"})), true).expect("forced");
    assert_eq!((managers(&forced).len(), &forced["data"]["x"]), (1, &json!("2")));
}

#[test]
fn an_update_takes_what_it_changes() {
    let live = applied(None, "a", 0, json!({"x": "1", "y": "1"}));
    let mut new = live.clone();
    new["data"]["x"] = json!("2");
    update(&writer(kind("ConfigMap"), "u", 1), Some(&live), &mut new);
    let entries = &new["metadata"]["managedFields"];
    assert_eq!(entries[0]["fieldsV1"], json!({"f:data": {"f:y": {}}}));
    assert_eq!(entries[1]["fieldsV1"], json!({"f:data": {"f:x": {}}}));
    assert_eq!(entries[1]["operation"], "Update");
}

#[test]
fn writes_of_nothing_leave_the_times() {
    let live = applied(None, "a", 0, json!({"x": "1"}));
    let mut again = applied(Some(&live), "a", 60, json!({"x": "1"}));
    assert_eq!(again, live);
    again["metadata"]["managedFields"][0]["time"] = json!("2024-01-01T00:00:00Z");
    settle(&mut again, &live);
    assert_eq!(again, live, "only times differed");
    again["data"]["x"] = json!("2");
    again["metadata"]["managedFields"][0]["time"] = json!("2024-01-01T00:00:00Z");
    settle(&mut again, &live);
    assert_ne!(again["metadata"]["managedFields"], live["metadata"]["managedFields"]);
}

#[test]
fn the_oldest_updaters_become_one() {
    let names: Vec<String> = (0..MAX_UPDATE_MANAGERS + 5).map(|index| format!("m{index:02}")).collect();
    let mut live = config_map(json!({"seed": "1"}));
    update(&writer(kind("ConfigMap"), "seed", 0), None, &mut live);
    for (index, name) in names.iter().enumerate() {
        let mut new = live.clone();
        new["data"][name] = json!("1");
        let second = i64::try_from(index).expect("a small number") + 1;
        let writer = Writer { manager: name, ..writer(kind("ConfigMap"), "", second) };
        update(&writer, Some(&live), &mut new);
        live = new;
    }
    let managers = managers(&live);
    assert_eq!(managers.len(), MAX_UPDATE_MANAGERS);
    assert_eq!(managers[0].0, "ancient-changes");
    assert_eq!(managers[9].0, "m14");
}

#[test]
fn what_a_create_brings_into_being_has_dots() {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "resources": {}, "ports": [{"containerPort": 80, "protocol": "TCP"}]}]},
    });
    update(&writer(kind("Pod"), "u", 0), None, &mut pod);
    let port = json!({".": {}, "f:containerPort": {}, "f:protocol": {}});
    let expected = json!({
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
            ".": {}, "f:name": {}, "f:resources": {},
            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": port},
        }}},
    });
    assert_eq!(pod["metadata"]["managedFields"][0]["fieldsV1"], expected);
}

#[test]
fn the_default_of_a_key_belongs_to_the_key() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
    });
    let object = apply(&writer(kind("Pod"), "a", 0), None, &pod, false).expect("a good pod");
    let ports = &object["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    let expected = json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}});
    assert_eq!(ports["f:ports"], expected);
}

#[track_caller]
fn refused(patch: Value, expected: &str) {
    let deployment = kind("Deployment");
    let error = apply(&writer(deployment, "a", 0), None, &patch, false).expect_err("a bad body");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn bodies_that_do_not_fit_say_where() {
    let with =
        |spec: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
    let says = |why: &str| format!("failed to create typed patch object (/d; apps/v1, Kind=Deployment): {why}");
    refused(with(json!({"nope": 1})), &says(".spec.nope: field not declared in schema"));
    refused(with(json!({"replicas": "3"})), &says(".spec.replicas: expected numeric (int or float), got string"));
    refused(with(json!({"paused": "x"})), &says(".spec.paused: expected boolean, got &{x}"));
    refused(with(json!("x")), &says(".spec: expected map, got &{x}"));
    let twice = json!({"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}});
    refused(with(twice), &says(".spec.template.spec.containers: duplicate entries for key [name=\"a\"]"));
    let other = json!({"apiVersion": "v2", "kind": "Deployment"});
    refused(other, "invalid object type: /v2, Kind=Deployment");
    let mut tracked = with(json!({}));
    tracked["metadata"]["managedFields"] = json!([]);
    refused(tracked, "metadata.managedFields must be nil");
}

#[test]
fn types_that_became_one_value_are_owned_as_one() {
    let widget = |map_type: Value| {
        let mut schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "part": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
        }}}});
        schema["properties"]["spec"]["properties"]["part"]["x-kubernetes-map-type"] = map_type;
        let definition = json!({"metadata": {"name": "widgets.example.org"}, "spec": {
            "group": "example.org", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        }});
        crate::crd::compile(&definition).expect("a good definition").remove(0)
    };
    let (granular, atomic) = (widget(json!("granular")), widget(json!("atomic")));
    let object = |part: Value| {
        let metadata = json!({"name": "w"});
        json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": metadata, "spec": {"part": part}})
    };
    let by = |kind, manager| Writer { kind, manager, ..writer(self::kind("Pod"), "", 0) };
    let live = apply(&by(&granular, "a"), None, &object(json!({"a": "1", "b": "1"})), false).expect("new");
    let error = apply(&by(&atomic, "b"), Some(&live), &object(json!({"b": "2"})), false).expect_err("a owns all of it");
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.part");
}

#[test]
fn a_reference_to_a_claim_is_owned_field_by_field() {
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {"claimRef": {"namespace": "n", "name": "c"}},
    });
    let object = apply(&writer(kind("PersistentVolume"), "a", 0), None, &volume, false).expect("a good volume");
    let fields = &object["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(*fields, json!({"f:spec": {"f:claimRef": {"f:name": {}, "f:namespace": {}}}}));
}

#[test]
fn managers_are_named_after_the_user_agent() {
    assert_eq!(manager_from_user_agent("kubectl/v1.35.4 (linux/amd64)"), "kubectl");
    assert_eq!(manager_from_user_agent("/x"), "unknown");
    assert_eq!(manager_from_user_agent(&"ü".repeat(100)).len(), MAX_MANAGER_BYTES);
}

/// Objects that fit the types of a `ConfigMap` or not.
fn any_config_map() -> impl Strategy<Value = Value> {
    let data = prop::collection::btree_map("[a-c]", "[1-3]", 0..3);
    data.prop_map(|data| config_map(json!(data)))
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(live in any_config_map(), patch in any_config_map(), force in any::<bool>()) {
        let mut live = live;
        update(&writer(kind("ConfigMap"), "u", 0), None, &mut live);
        let writer = writer(kind("ConfigMap"), "a", 1);
        if let Ok(once) = apply(&writer, Some(&live), &patch, force) {
            let again = Writer { now: writer.now + SignedDuration::from_secs(9), ..writer };
            let mut twice = apply(&again, Some(&once), &patch, false).expect("no conflict with oneself");
            settle(&mut twice, &once);
            prop_assert_eq!(&twice, &once);
            for (name, value) in patch["data"].as_object().expect("a map") {
                prop_assert_eq!(&once["data"][name], value);
            }
        }
    }

    #[test]
    fn sets_of_fields_are_read_as_they_are_written(live in any_config_map(), patch in any_json()) {
        let mut live = live;
        update(&writer(kind("ConfigMap"), "u", 0), None, &mut live);
        for entry in live["metadata"]["managedFields"].as_array().into_iter().flatten() {
            let set = Set::decode(&entry["fieldsV1"]).expect("our own entry");
            prop_assert_eq!(&set.encode(), &entry["fieldsV1"]);
        }
        // Whatever can be read at all is stable.
        if let Ok(set) = Set::decode(&patch) {
            prop_assert_eq!(Set::decode(&set.encode()), Ok(set));
        }
    }

    #[test]
    fn nothing_panics(live in any_json(), new in any_json(), force in any::<bool>()) {
        let body = |value: Value| {
            let mut body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
            body["spec"] = value;
            body
        };
        let (live, mut new) = (body(live), body(new));
        let writer = writer(kind("Pod"), "a", 0);
        drop(apply(&writer, Some(&live), &new, force));
        update(&writer, Some(&live), &mut new);
        update(&writer, None, &mut new);
    }
}
