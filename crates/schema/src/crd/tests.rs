//! Definitions and objects in, faults out.

use serde_json::{Value, json};

use super::*;

fn definition(schema: &Value) -> Value {
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.org"},
        "spec": {
            "group": "example.org", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}},
                "subresources": {"status": {}},
            }],
        },
    });
    apply_definition_defaults(&mut definition);
    definition
}

fn custom(schema: &Value) -> std::sync::Arc<Custom> {
    let kinds = compile(&definition(schema)).expect("the definition is valid");
    kinds[0].custom.clone().expect("a custom kind")
}

/// The faults of `spec`, one a line.
fn faults(custom: &Custom, spec: Value, old: Option<Value>) -> Vec<String> {
    let object =
        |spec| json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let verdict = check(custom, &object(spec), old.map(object).as_ref());
    verdict.faults.iter().map(|f| format!("{} {:?} {} {}", f.path, f.kind, json!(f.value), f.detail)).collect()
}

#[test]
fn a_definition_becomes_a_kind() {
    let kind = &compile(&definition(&json!({"type": "object"}))).unwrap()[0];
    assert_eq!(
        (kind.kind.as_str(), kind.singular.as_str(), kind.list_kind.as_str()),
        ("Widget", "widget", "WidgetList")
    );
    assert!(kind.namespaced && kind.has_status());
    assert_eq!(kind.storage_version_hash.len(), 12);
    assert!(kind.ty().field("metadata").unwrap().field("labels").is_some());
}

#[test]
fn limits_are_judged_in_the_words_of_the_real_server() {
    let custom = custom(&json!({"type": "object", "required": ["s"], "properties": {
        "s": {"type": "string", "minLength": 2, "pattern": "^a"}, "n": {"type": "integer", "minimum": 1, "maximum": 9},
        "e": {"type": "string", "enum": ["x", "y"]}, "l": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
    }}));
    insta::assert_snapshot!(
        faults(&custom, json!({"s": "b", "n": 10, "e": "z", "l": ["p", 3]}), None).join("\n"), @r#"
    spec.e NotSupported "z" supported values: "x", "y"
    spec.l[1] TypeInvalid "integer" spec.l[1] in body must be of type string: "integer"
    spec.l TooMany 2 must have at most 1 items
    spec.n Invalid 10 spec.n in body should be less than or equal to 9
    spec.s Invalid "b" spec.s in body should be at least 2 chars long
    spec.s Invalid "b" spec.s in body should match '^a'
    "#);
    assert_eq!(faults(&custom, json!({}), None), [r#"spec.s Required "" "#]);
}

#[test]
fn what_an_update_leaves_alone_is_not_judged_again() {
    let custom = custom(
        &json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 1}, "b": {"type": "string"}}}),
    );
    let old = json!({"a": "long", "b": "x"});
    assert!(faults(&custom, json!({"a": "long", "b": "y"}), Some(old.clone())).is_empty());
    assert_eq!(faults(&custom, json!({"a": "longer", "b": "x"}), Some(old)).len(), 1);
}

#[test]
fn rules_are_run_and_blocked() {
    let custom = custom(
        &json!({"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.min <= self.max", "message": "min over max"}, {"rule": "self.max != 3"}]}),
    );
    assert_eq!(faults(&custom, json!({"min": 2, "max": 1}), None), ["spec Invalid null min over max"]);
    assert_eq!(faults(&custom, json!({"min": 2, "max": 3}), None), ["spec Invalid null failed rule: self.max != 3"]);
    let blocked = faults(&custom, json!({"min": "2", "max": 1}), None);
    assert!(blocked[1].starts_with("<nil> Invalid null some validation rules were not checked"), "{blocked:?}");
}

#[test]
fn a_rule_about_a_change_compares_with_the_old_object() {
    let custom = custom(&json!({"type": "object", "properties": {
        "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed is immutable"}]}}}));
    assert!(faults(&custom, json!({"fixed": "a"}), None).is_empty());
    let changed = faults(&custom, json!({"fixed": "b"}), Some(json!({"fixed": "a"})));
    assert_eq!(changed, [r#"spec.fixed Invalid "b" fixed is immutable"#]);
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let custom = custom(&json!({"type": "object", "properties": {
        "size": {"type": "integer", "default": 1}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string", "default": "x"}}}},
    }}));
    let mut object = json!({"apiVersion": "v", "kind": "k", "metadata": {"name": "n"}, "extra": 1,
        "spec": {"bad": 1, "size": null, "free": {"any": 1}, "list": [{"b": 2}]}});
    assert_eq!(prune(&custom.schema, &mut object), ["extra", "spec.bad", "spec.list[0].b"]);
    drop_nulls(&custom.schema, &mut object);
    apply_defaults(&custom.schema, &mut object);
    assert_eq!(object["spec"], json!({"size": 1, "free": {"any": 1}, "list": [{"a": "x"}]}));
}

#[test]
fn metadata_is_kept_where_a_schema_says_only_that_it_is_an_object() {
    let schema = Schema::read(&json!({"type": "object", "properties": {"metadata": {"type": "object"}}}), false);
    let mut object = json!({"apiVersion": "v", "kind": "k", "metadata": {"name": "n", "labels": {"a": "b"}}});
    assert!(prune(&schema, &mut object).is_empty());
    assert_eq!(object["metadata"], json!({"name": "n", "labels": {"a": "b"}}));
}

#[test]
fn definitions_are_judged_too() {
    let mut bad = definition(
        &json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "map"}}}),
    );
    bad["metadata"]["name"] = json!("other.example.org");
    bad["spec"]["scope"] = json!("Global");
    let faults: Vec<String> = check_definition(&bad).iter().map(|f| format!("{} {}", f.path, f.detail)).collect();
    insta::assert_snapshot!(faults.join("\n"), @r#"
    metadata.name must be spec.names.plural+"."+spec.group
    spec.scope supported values: "Cluster", "Namespaced"
    spec.validation.openAPIV3Schema.properties[spec].properties[l].x-kubernetes-list-map-keys must not be empty if x-kubernetes-list-type is map
    "#);
    assert!(check_definition(&definition(&json!({"type": "object"}))).is_empty());
    let untyped = check_definition(&definition(&json!({"properties": {}})));
    assert_eq!(untyped[0].path, "spec.validation.openAPIV3Schema.properties[spec].type");
}

#[test]
fn formats_hold_for_what_they_name() {
    for (format, good, bad) in [
        ("date-time", "2024-01-02T03:04:05Z", "2024-01-02"),
        ("duration", "1h30m", "1 fortnight"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("hostname", "a.example", "-bad-"),
        ("byte", "aGVsbG8=", "no base64!"),
    ] {
        assert!(formats::holds(format, good), "{format} {good}");
        assert!(!formats::holds(format, bad), "{format} {bad}");
    }
    assert!(formats::holds("unheard-of", "anything"));
}

/// What is wrong with the rules of a definition whose `spec` is `schema`, one fault a line.
fn refused(schema: &Value) -> Vec<String> {
    let faults = check_definition(&definition(schema)).into_iter();
    faults.map(|f| f.line().replace("spec.validation.openAPIV3Schema.properties[spec].", "")).collect()
}

#[test]
fn a_rule_may_ask_for_the_type_of_a_value() {
    let custom = custom(&json!({"type": "object", "properties": {"port": {"x-kubernetes-int-or-string": true}},
        "x-kubernetes-validations": [{"rule": "type(self.port) == int ? self.port > 0 : self.port != ''", "message": "no port"}]}));
    assert!(faults(&custom, json!({"port": 80}), None).is_empty());
    assert!(faults(&custom, json!({"port": "http"}), None).is_empty());
    assert_eq!(faults(&custom, json!({"port": 0}), None), ["spec Invalid null no port"]);
    assert_eq!(faults(&custom, json!({"port": ""}), None), ["spec Invalid null no port"]);
}

#[test]
fn a_rule_that_does_not_fit_its_schema_is_refused_when_it_is_written() {
    let schema = |rule: Value| {
        json!({"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer"},
            "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "l": {"type": "array", "items": {"type": "string"}}}, "x-kubernetes-validations": [rule]})
    };
    let table = [
        (json!({"rule": "self.a == 'x'"}), ""),
        (
            json!({"rule": "self.a < 'x' && self.z"}),
            "x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.a \\u003c 'x' \\u0026\\u0026 self.z\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:21: undefined field 'z'\n | self.a < 'x' && self.z\n | ....................^",
        ),
        (json!({"rule": " "}), "x-kubernetes-validations[0].rule: Required value: rule is not specified"),
        (
            json!({"rule": "true", "reason": "No"}),
            "x-kubernetes-validations[0].reason: Unsupported value: \"No\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (json!({"rule": "true", "fieldPath": ".m['k'].x"}), ""),
        (
            json!({"rule": "true", "fieldPath": ".l[0]"}),
            "x-kubernetes-validations[0].fieldPath: Invalid value: \".l[0]\": must be a valid path",
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            "x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "true", "message": "a\nb"}),
            "x-kubernetes-validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
        ),
    ];
    for (rule, wanted) in table {
        assert_eq!(refused(&schema(rule.clone())).join("\n"), wanted, "{rule}");
    }
}

#[test]
fn a_rule_finds_the_old_item_of_a_keyed_list_and_of_a_map() {
    let fixed = json!([{"rule": "self.v == oldSelf.v", "message": "v is fixed"}]);
    let custom = custom(&json!({"type": "object", "properties": {
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "string"}}, "x-kubernetes-validations": fixed}},
        "m": {"type": "object", "additionalProperties": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}));
    let old = json!({"l": [{"k": "a", "v": "1"}, {"k": "b", "v": "2"}], "m": {"x.y": "1"}});
    let moved =
        json!({"l": [{"k": "b", "v": "2"}, {"k": "c", "v": "9"}, {"k": "a", "v": "1"}], "m": {"x.y": "1", "z": "2"}});
    assert!(faults(&custom, moved, Some(old.clone())).is_empty());
    let changed = json!({"l": [{"k": "c", "v": "9"}, {"k": "a", "v": "3"}], "m": {"x.y": "2"}});
    assert_eq!(
        faults(&custom, changed, Some(old)),
        ["spec.l[1] Invalid null v is fixed", r#"spec.m[x.y] Invalid "2" failed rule: self == oldSelf"#]
    );
}

#[test]
fn an_optional_old_self_is_there_only_on_updates() {
    let custom = custom(&json!({"type": "object", "properties": {"s": {"type": "string", "x-kubernetes-validations": [
        {"rule": "oldSelf.hasValue() || self.startsWith('n')", "optionalOldSelf": true, "messageExpression": "'not ' + self"}]}}}));
    assert_eq!(faults(&custom, json!({"s": "x"}), None), [r#"spec.s Invalid "x" not x"#]);
    assert_eq!(faults(&custom, json!({"s": "x"}), Some(json!({}))), [r#"spec.s Invalid "x" not x"#]);
    assert!(faults(&custom, json!({"s": "x"}), Some(json!({"s": "nx"}))).is_empty());
}

#[test]
fn what_stops_a_rule_is_told_with_the_rule() {
    let custom = custom(
        &json!({"type": "object", "properties": {"n": {"type": "integer"}, "d": {"type": "integer"}, "ratio": {"type": "number"},
        "when": {"type": "string", "format": "date-time"}, "a-b": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "!has(self.d) || self.n / self.d > 0"}, {"rule": "!has(self.ratio) || self.ratio < 1.5"},
            {"rule": "!has(self.when) || self.when.getFullYear() > 2000"}, {"rule": "!has(self.a__dash__b) || self.a__dash__b == 'ok'"}]}),
    );
    assert_eq!(
        faults(&custom, json!({"n": 1, "d": 0}), None),
        [r#"spec Invalid "object" division by zero evaluating rule: !has(self.d) || self.n / self.d > 0"#]
    );
    assert_eq!(
        faults(&custom, json!({"d": 1}), None),
        [r#"spec Invalid "object" no such key: n evaluating rule: !has(self.d) || self.n / self.d > 0"#]
    );
    assert!(faults(&custom, json!({"ratio": 1, "when": "2024-01-02T03:04:05Z", "a-b": "ok"}), None).is_empty());
}
