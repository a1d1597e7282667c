//! What holds for the rules of every kind, whatever the object.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use sluice_schema::decode::{self, Expected, Format};
use sluice_schema::{Catalog, Kind, defaults, prepare, validate};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/rules");

/// In the place of what the recording masks.
const UID: &str = "00000000-0000-0000-0000-000000000009";

/// The steps of all recorded scenarios.
fn steps() -> Vec<Value> {
    let areas = ["defaults", "validation", "changes"].map(|area| Path::new(DATA).join(area));
    let mut files: Vec<PathBuf> = areas
        .iter()
        .flat_map(|area| std::fs::read_dir(area).expect("a readable directory").flatten())
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).expect("a readable scenario");
            let text = text
                .replace("${ns}", "ns")
                .replace("<uuid>", UID)
                .replace("<uid>", UID)
                .replace("<time>", "2020-01-01T00:00:00Z")
                .replace("\"<port>\"", "30000")
                .replace("\"<ips>\"", "[\"10.96.0.9\"]")
                .replace("<ip>", "10.96.0.9")
                .replace("<generated>", "00000");
            let mut scenario: Value = serde_json::from_str(&text).expect("a scenario is JSON");
            scenario["steps"].as_array_mut().map(std::mem::take).unwrap_or_default()
        })
        .collect()
}

fn kind_of(object: &Value) -> Option<&'static Kind> {
    let version = object["apiVersion"].as_str()?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Catalog::builtin().kind(group, version, object["kind"].as_str()?).map(AsRef::as_ref)
}

/// Objects as a real server created them.
fn created() -> Vec<(&'static Kind, Value)> {
    let created = |step: &Value| step["status"] == 201 && step["do"].as_str().is_some_and(|d| d.starts_with("POST"));
    steps()
        .into_iter()
        .filter(created)
        .filter_map(|mut step| {
            let mut object = step["answer"].take();
            if object["spec"]["clusterIP"] == "None" {
                object["spec"]["clusterIPs"] = json!(["None"]);
            }
            Some((kind_of(&object)?, object))
        })
        .filter(|(kind, object)| kind.allows("update") && object["metadata"]["name"].is_string())
        .collect()
}

#[test]
fn what_a_server_created_has_no_defaults_to_come() {
    for (kind, object) in created() {
        let mut again = object.clone();
        defaults::apply(kind, &mut again);
        decode::complete(kind, &mut again);
        assert_eq!(again, object, "{}", kind.kind);
    }
}

#[test]
fn an_object_may_be_replaced_by_itself() {
    for (kind, object) in created() {
        let mut again = object.clone();
        prepare::update(kind, &mut again, &object, None);
        decode::complete(kind, &mut again);
        assert_eq!(again, object, "{}", kind.kind);
        let faults: Vec<String> =
            validate::update(kind, &again, &object, None).iter().map(sluice_schema::Fault::line).collect();
        assert_eq!(faults, Vec::<String>::new(), "{} {}", kind.kind, object["metadata"]["name"]);
    }
}

/// Replaces one value somewhere inside.
fn mutate(value: &mut Value, turns: &mut std::slice::Iter<'_, Index>, with: &Value) {
    let Some(turn) = turns.next() else {
        *value = with.clone();
        return;
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let place = turn.index(map.len());
            mutate(map.values_mut().nth(place).expect("the place is inside"), turns, with);
        }
        Value::Array(items) if !items.is_empty() => {
            let place = turn.index(items.len());
            mutate(&mut items[place], turns, with);
        }
        _ => *value = with.clone(),
    }
}

fn odd_values() -> impl Strategy<Value = Value> {
    let fixed = [
        json!(null),
        json!(""),
        json!([]),
        json!({}),
        json!(-1),
        json!(i64::MAX),
        json!("0"),
        json!("-1Ei"),
        json!("%"),
        json!("ü/ü/ü"),
        json!([{}]),
        json!({"": ""}),
        json!("9999999999999999999999m"),
    ];
    prop_oneof![
        prop::sample::select(fixed.to_vec()),
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_object_that_can_be_decoded_breaks_the_rules(
        which in any::<Index>(),
        turns in prop::collection::vec(any::<Index>(), 1..9),
        with in odd_values(),
    ) {
        static BODIES: std::sync::LazyLock<Vec<Value>> = std::sync::LazyLock::new(|| {
            steps().into_iter().map(|mut step| step["body"].take()).filter(|body| kind_of(body).is_some()).collect()
        });
        let original = which.get(&BODIES);
        let kind = kind_of(original).expect("only bodies with a kind are kept");
        let mut body = original.clone();
        mutate(&mut body, &mut turns.iter(), &with);
        body["apiVersion"] = original["apiVersion"].clone();
        body["kind"] = original["kind"].clone();
        let text = serde_json::to_vec(&body).expect("a value is JSON");
        if let Ok(decoded) = decode::object(&Expected::from(kind), Format::Json, &text) {
            let mut new = decoded.object;
            defaults::apply(kind, &mut new);
            decode::complete(kind, &mut new);
            let old = new.clone();
            prepare::create(kind, &mut new);
            validate::create(kind, &new);
            validate::warnings(kind, &new, None);
            for part in [None, Some("status"), Some("resize"), Some("ephemeralcontainers"), Some("finalize")] {
                let mut next = new.clone();
                prepare::update(kind, &mut next, &old, part);
                validate::update(kind, &next, &old, part);
            }
        }
    }
}
