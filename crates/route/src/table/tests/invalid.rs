//! Routes that are wrong in one place: what is said of them, what becomes of their requests, and that a neighbour does not notice.

use serde_json::{Value, json};

use super::Town;

/// A Gateway with the route `shop` of namespace `default`, and the route `bad` of another with these rules.
fn town(rules: &Value) -> Town {
    let mut town = Town::with_gateway();
    let shop = json!({"hostnames": ["shop"], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]});
    town.service("s", &["p"]).route("shop", shop).service("other/s", &["q"]);
    town.route("other/bad", json!({"hostnames": ["bad", "shop"], "rules": rules}));
    town
}

fn to(path: &Value, more: Value) -> Value {
    let mut rule = json!({"matches": [{"path": path}], "backendRefs": [{"name": "s", "port": 80}]});
    if let (Some(rule), Value::Object(more)) = (rule.as_object_mut(), more) {
        rule.extend(more);
    }
    rule
}

#[test]
fn what_is_wrong_in_one_rule_is_said_and_costs_that_rule_alone() {
    let prefix = |value: &str| json!({"type": "PathPrefix", "value": value});
    let regex = |value: &str| json!({"type": "RegularExpression", "value": value});
    let large = "(a{1000}){1000}";
    for (what, rule, answer, says) in [
        ("an expression that is none", to(&regex("("), json!({})), "404 no-route", "UnsupportedValue"),
        ("an expression that is too large", to(&regex(large), json!({})), "404 no-route", "UnsupportedValue"),
        (
            "a kind of match",
            to(&json!({"type": "Glob", "value": "/x*"}), json!({})),
            "404 no-route",
            "UnsupportedValue",
        ),
        (
            "a kind of filter",
            to(&prefix("/x"), json!({"filters": [{"type": "Magic"}]})),
            "500 unusable-rule",
            "UnsupportedValue",
        ),
        (
            "a filter of a backend",
            to(&prefix("/x"), json!({"backendRefs": [{"name": "s", "port": 80, "filters": [{"type": "Magic"}]}]})),
            "500 unusable-rule",
            "UnsupportedValue",
        ),
        (
            "no Service",
            to(&prefix("/x"), json!({"backendRefs": [{"name": "gone", "port": 80}]})),
            "500 invalid-backend",
            "BackendNotFound",
        ),
        (
            "no port",
            to(&prefix("/x"), json!({"backendRefs": [{"name": "s"}]})),
            "500 invalid-backend",
            "BackendNotFound",
        ),
        (
            "somebody else's Service",
            to(&prefix("/x"), json!({"backendRefs": [{"name": "s", "namespace": "default", "port": 80}]})),
            "500 invalid-backend",
            "RefNotPermitted",
        ),
    ] {
        let mut town = town(&json!([rule, to(&prefix("/ok"), json!({}))]));
        town.check(&[("GET bad/x", answer), ("GET bad/ok", "bad -> s")]);
        assert!(town.says("route other/bad").contains(says), "{what}: {}", town.says("route other/bad"));
        assert!(town.says("route other/bad").starts_with("Accepted"), "{what}: the other rule is served");
        // The neighbour's host is the neighbour's, too: but only where it claims no more than was claimed before.
        assert_eq!(town.ask("GET shop/"), "shop -> s", "{what}");
        assert_eq!(town.says("route shop"), "Accepted ResolvedRefs", "{what}");
    }
}

#[test]
fn a_route_without_a_rule_that_can_be_served_is_not_accepted() {
    let mut town = town(&json!([to(&json!({"type": "RegularExpression", "value": "["}), json!({}))]));
    assert_eq!(town.says("route other/bad"), "!Accepted/UnsupportedValue ResolvedRefs");
    town.check(&[("GET bad/", "404 no-route"), ("GET shop/", "shop -> s")]);
}

#[test]
fn a_rule_that_became_wrong_is_served_again_when_it_is_right() {
    let mut town = town(&json!([to(&json!({"type": "PathPrefix", "value": "/x"}), json!({}))]));
    town.check(&[("GET bad/x", "bad -> s")]);
    for (path, answer) in [
        (json!({"type": "RegularExpression", "value": "["}), "404 no-route"),
        (json!({"type": "RegularExpression", "value": "/x.*"}), "bad -> s"),
    ] {
        town.route("other/bad", json!({"hostnames": ["bad"], "rules": [to(&path, json!({}))]}));
        town.check(&[("GET bad/x", answer), ("GET shop/", "shop -> s")]);
    }
}
