#![expect(clippy::needless_pass_by_value, reason = "`json!` makes the values where they are used")]

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::Catalog;
use crate::merge::{MAX_OPERATIONS, go_print, json_merge, json_patch, json_patch_notices, strategic};

#[track_caller]
fn merged(target: Value, patch: Value, expected: Value) {
    let mut new = target;
    json_merge(&mut new, &patch);
    assert_eq!(new, expected);
}

#[test]
fn a_merge_patch_merges_maps_and_replaces_everything_else() {
    merged(json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null, "d": 3}}), json!({"a": {"c": 2, "d": 3}}));
    merged(json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]}));
    merged(json!({"a": 1}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}}));
    merged(json!({"a": 1}), json!({"b": null}), json!({"a": 1}));
}

/// The patched document, or the reason that is kept from clients.
#[track_caller]
fn operations(target: Value, operations: Value, expected: Result<Value, &str>) {
    let mut new = target;
    let outcome = json_patch(&mut new, &operations).map(|()| new).map_err(|error| match error {
        super::super::PatchError::Rejected { why } => why,
        other => other.to_string(),
    });
    assert_eq!(outcome, expected.map_err(str::to_owned), "{operations}");
}

#[test]
fn json_patches_are_as_lenient_as_those_of_a_real_server() {
    let list = || json!({"l": [1, 2, 3]});
    operations(list(), json!([{"op": "add", "path": "/l/1", "value": 9}]), Ok(json!({"l": [1, 9, 2, 3]})));
    operations(list(), json!([{"op": "add", "path": "/l/-", "value": 9}]), Ok(json!({"l": [1, 2, 3, 9]})));
    operations(list(), json!([{"op": "add", "path": "/l/3", "value": 9}]), Ok(json!({"l": [1, 2, 3, 9]})));
    operations(list(), json!([{"op": "add", "path": "/l/-1", "value": 9}]), Ok(json!({"l": [1, 2, 3, 9]})));
    operations(list(), json!([{"op": "add", "path": "/l/4", "value": 9}]), Err("no place `4` in the list"));
    operations(list(), json!([{"op": "remove", "path": "/l/-1"}]), Ok(json!({"l": [1, 2]})));
    operations(list(), json!([{"op": "replace", "path": "/l/x", "value": 9}]), Err("no item `x` in the list"));
    operations(json!({}), json!([{"op": "replace", "path": "/a", "value": 1}]), Ok(json!({"a": 1})));
    operations(json!({}), json!([{"op": "copy", "from": "/a", "path": "/b"}]), Ok(json!({"b": null})));
    operations(json!({}), json!([{"op": "move", "from": "/a", "path": "/b"}]), Err("no key `a`"));
    operations(json!({}), json!([{"op": "test", "path": "/a", "value": null}]), Ok(json!({})));
    operations(json!({"a": 0}), json!([{"op": "test", "path": "/a", "value": 0.0}]), Err("`/a` is not `0.0`"));
    operations(json!({}), json!([{"op": "add", "path": "what/a", "value": 1}]), Ok(json!({"a": 1})));
    operations(json!({}), json!([{"op": "add", "path": "a", "value": 1}]), Err("nothing at `a`"));
    operations(json!({"a/~1": 1}), json!([{"op": "remove", "path": "/a~1~01"}]), Ok(json!({})));
    operations(json!({"a": 1}), json!([{"op": "replace", "path": "", "value": {"b": 2}}]), Ok(json!({"b": 2})));
    operations(json!({"a": 1}), json!([{"op": "add", "path": "/a/b", "value": 2}]), Err("nothing at `/a/b`"));
    operations(json!({"a": 1}), json!(null), Ok(json!({"a": 1})));
}

#[test]
fn json_patches_are_bounded() {
    let many = vec![json!({"op": "test", "path": "/x", "value": null}); MAX_OPERATIONS + 1];
    let text = "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
    operations(json!({}), json!(many), Err(text));
    let big = "x".repeat(1024 * 1024);
    let copies = vec![json!({"op": "copy", "from": "/a", "path": "/b"}); 4];
    operations(json!({"a": big}), json!(copies), Err("copies 3145734 bytes, more than 3145728"));
}

#[test]
fn unknown_members_of_operations_are_noticed() {
    let patch = json!([{"op": "add", "path": "/a", "value": 1, "comment": "why"}]);
    assert_eq!(json_patch_notices(&patch), ["json patch unknown field \"[0].comment\""]);
}

#[track_caller]
fn pod_spec(live: Value, patch: Value, expected: Value) {
    let pod = Catalog::builtin().kind("", "v1", "Pod").expect("pods are built in");
    let mut new = json!({"spec": live});
    strategic(pod.ty(), &mut new, &json!({"spec": patch})).expect("a good patch");
    assert_eq!(new["spec"], expected);
}

#[test]
fn new_items_stand_in_front_unless_the_patch_orders_them() {
    let live = || json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let names = |names: [&str; 3]| json!({"containers": names.map(|name| json!({"name": name}))});
    pod_spec(live(), json!({"containers": [{"name": "c"}]}), names(["c", "a", "b"]));
    let ordered = json!({
        "$setElementOrder/containers": [{"name": "a"}, {"name": "c"}],
        "containers": [{"name": "c"}],
    });
    pod_spec(live(), ordered, names(["a", "c", "b"]));
    let replaced = json!({"containers": [{"$patch": "replace"}, {"name": "z"}]});
    pod_spec(live(), replaced, json!({"containers": [{"name": "z"}]}));
    let deleted = json!({"containers": [{"$patch": "delete", "name": "a"}]});
    pod_spec(live(), deleted, json!({"containers": [{"name": "b"}]}));
}

#[test]
fn directives_in_new_parts_leave_nothing_behind() {
    let patch = json!({"volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {"medium": null}}]});
    pod_spec(json!({}), patch, json!({"volumes": [{"name": "v", "emptyDir": {}}]}));
}

#[test]
fn go_prints_numbers_in_their_shortest_form() {
    let printed = |value: Value| go_print(&value);
    assert_eq!(printed(json!({"b": [1, 2.5, null], "a": true})), "map[a:true b:[1 2.5 <nil>]]");
    assert_eq!(printed(json!(1e21)), "1e+21");
    assert_eq!(printed(json!(0.00001)), "1e-05");
    assert_eq!(printed(json!(-0.25)), "-0.25");
}

pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-9i64..9).prop_map(Value::from),
        "[ab$/]{0,3}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("name"),
        Just("spec"),
        Just("containers"),
        Just("$patch"),
        Just("$setElementOrder/containers"),
        Just("ports"),
        Just("$retainKeys"),
        Just("$deleteFromPrimitiveList/finalizers"),
        Just("finalizers"),
        Just("metadata"),
        Just("env")
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The merge patch that makes `new` of `old`, where `new` holds no null.
fn difference(old: &Value, new: &Value) -> Value {
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else { return new.clone() };
    let removed = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| (key.clone(), difference(before.get(key).unwrap_or(&Value::Null), value)));
    Value::Object(removed.chain(changed).collect())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        other => other,
    }
}

proptest! {
    #[test]
    fn the_difference_of_two_objects_merges_one_into_the_other(old in any_json(), new in any_json()) {
        let new = without_nulls(new);
        prop_assume!(new.is_object());
        let mut merged = old.clone();
        json_merge(&mut merged, &difference(&old, &new));
        prop_assert_eq!(merged, new);
    }

    #[test]
    fn no_patch_panics(live in any_json(), patch in any_json()) {
        let pod = Catalog::builtin().kind("", "v1", "Pod").expect("pods are built in");
        let mut new = live.clone();
        drop(strategic(pod.ty(), &mut new, &patch));
        let mut new = live;
        drop(json_patch(&mut new, &patch));
    }
}
