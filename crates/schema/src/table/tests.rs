use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Catalog;

fn shown(group: &str, name: &str, object: &Value) -> Vec<Value> {
    let kind = Catalog::builtin().kinds().iter().find(|k| k.is(group, name)).expect("a built-in kind");
    let now = "2024-01-01T01:00:00Z".parse().expect("a time");
    row(kind, object, now)["cells"].as_array().expect("rows have cells").clone()
}

#[test]
fn every_row_has_a_cell_for_each_column() {
    for kind in Catalog::builtin().kinds().iter().filter(|kind| kind.allows("list")) {
        let (columns, cells) = (columns(kind), row(kind, &json!({}), Timestamp::UNIX_EPOCH));
        let (columns, cells) = (columns.as_array().map_or(0, Vec::len), cells["cells"].as_array().map_or(0, Vec::len));
        // The real server tells two columns of addresses and sends three cells.
        let expected = if kind.kind == "IPAddress" { columns + 1 } else { columns };
        assert_eq!(cells, expected, "{}", kind.kind);
    }
}

#[test]
fn a_pod_says_in_one_word_how_it_is() {
    let pod = |init: Value, main: Value, extra: Value| {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}],
            "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": {"phase": "Running", "initContainerStatuses": init, "containerStatuses": main}});
        for (pointer, value) in extra.as_object().into_iter().flatten() {
            let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
            pod.pointer_mut(parent).expect("a parent")[field] = value.clone();
        }
        let cells = shown("", "Pod", &pod);
        format!(
            "{} {} {}",
            cells[1].as_str().unwrap_or_default(),
            cells[2].as_str().unwrap_or_default(),
            cells[3].as_str().unwrap_or_default()
        )
    };
    let running = json!({"ready": true, "state": {"running": {}}});
    let ended = |code: i64, reason: &str| json!({"state": {"terminated": {"exitCode": code, "reason": reason}}});
    let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
    assert_eq!(pod(json!([]), json!([running, running]), json!({})), "2/2 Running 0");
    assert_eq!(pod(json!([waiting("ErrImagePull")]), json!([]), json!({})), "0/2 Init:ErrImagePull 0");
    assert_eq!(pod(json!([ended(0, ""), waiting("PodInitializing")]), json!([]), json!({})), "0/2 Init:1/2 0");
    assert_eq!(pod(json!([ended(3, "")]), json!([]), json!({})), "0/2 Init:ExitCode:3 0");
    assert_eq!(pod(json!([]), json!([waiting("CrashLoopBackOff"), running]), json!({})), "1/2 CrashLoopBackOff 0");
    assert_eq!(pod(json!([]), json!([ended(0, "Completed"), running]), json!({})), "1/2 NotReady 0");
    assert_eq!(pod(json!([]), json!([ended(0, "Completed"), ended(1, "Error")]), json!({})), "0/2 Error 0");
    let leaving = json!({"/metadata/deletionTimestamp": "2024-01-01T00:00:00Z"});
    assert_eq!(pod(json!([]), json!([running]), leaving), "1/2 Terminating 0");
    let restarted = json!([{"restartCount": 2, "ready": true, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2024-01-01T00:55:00Z"}}}]);
    assert_eq!(pod(json!([]), restarted, json!({})), "1/2 Running 2 (5m ago)");
}

#[test]
fn durations_get_coarser_with_their_length() {
    let cases = [
        (-5, "<invalid>"),
        (-1, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (600, "10m"),
        (10_800, "3h"),
        (12_000, "3h20m"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (86_400 * 10, "10d"),
        (86_400 * 800, "2y70d"),
        (86_400 * 365 * 9, "9y"),
    ];
    for (seconds, expected) in cases {
        assert_eq!(human_duration(seconds), expected);
    }
}

#[test]
fn selectors_and_lists_are_written_as_on_the_command_line() {
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"z": "1"},
        "matchExpressions": [{"key": "app", "operator": "In", "values": ["b", "a"]}, {"key": "x", "operator": "DoesNotExist"}]},
        "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}]}}}, "status": {"readyReplicas": 1}});
    let cells = shown("apps", "Deployment", &deployment);
    assert_eq!(
        cells[1..],
        [
            json!("1/3"),
            json!(0),
            json!(0),
            json!("<unknown>"),
            json!("c,d"),
            json!("i:1,j"),
            json!("app in (a,b),!x,z=1")
        ]
    );
    let endpoints = json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 90}]}]});
    assert_eq!(shown("", "Endpoints", &endpoints)[1], "10.0.0.1:80,10.0.0.2:80,10.0.0.1:90 + 1 more...");
}

#[test]
fn paths_find_what_columns_ask_for() {
    let object = json!({"metadata": {"labels": {"a.b/c": "web"}}, "spec": {"l": ["x", "y"], "n": 1},
        "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]}});
    let find = |path: &str| jsonpath::first(path, &object).cloned().unwrap_or(Value::Null);
    assert_eq!(find(r".metadata.labels.a\.b/c"), "web");
    assert_eq!(find(".metadata.labels['a.b/c']"), "web");
    assert_eq!(find(".spec.l[*]"), "x");
    assert_eq!(find(".spec.l[-1]"), "y");
    assert_eq!(find(r#".status.conditions[?(@.type=="Ready")].status"#), "True");
    assert_eq!(find(".spec.nope.deeper"), Value::Null);
}

proptest! {
    #[test]
    fn no_path_panics(path in ".{0,40}") {
        let object = json!({"a": [1, {"b": "c"}]});
        drop(jsonpath::first(&path, &object).cloned());
    }
}
