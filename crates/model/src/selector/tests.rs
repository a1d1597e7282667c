use serde_json::json;

use super::Selector;

/// `labels` as `a=1 b=2`; the selector must say `selected`.
#[track_caller]
fn check(selector: &str, labels: &str, selected: bool) {
    let pairs: Vec<(&str, &str)> = labels.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
    let label = |key: &str| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
    let parsed = Selector::parse(selector).unwrap_or_else(|e| panic!("{selector}: {e}"));
    assert_eq!(parsed.matches(label), selected, "{selector} on {labels}");
    let again = Selector::parse(&parsed.to_string()).unwrap_or_else(|e| panic!("{parsed}: {e}"));
    assert_eq!(again, parsed, "printed and read again");
}

#[track_caller]
fn refused(selector: &str, message: &str) {
    assert_eq!(Selector::parse(selector).expect_err(selector).to_string(), message, "{selector}");
}

#[test]
fn every_operator_decides_by_the_label() {
    check("", "", true);
    check("a=1", "a=1 b=2", true);
    check("a==1", "a=2", false);
    check("a=1", "", false);
    check("a!=1", "", true);
    check("a!=1", "a=1", false);
    check("a in (1, 2)", "a=2", true);
    check("a in (1,2)", "", false);
    check("a notin (1,2)", "", true);
    check("a notin (1,2)", "a=1", false);
    check("a", "a=", true);
    check("!a", "a=", false);
    check("! a", "b=1", true);
    check("a>3", "a=10", true);
    check("a>3", "a=ten", false);
    check("a<3", "", false);
    check("a=", "a=", true);
    check("a=,b=2", "a= b=2", true);
    check("in in (in,notin)", "in=notin", true);
    check("a in (,1)", "a=", true);
    check("a in (1,)", "a=", true);
    check("example.com/a-b_c.d=x", "example.com/a-b_c.d=x", true);
}

#[test]
fn broken_selectors_are_refused_in_the_words_of_the_real_server() {
    refused("=", "found '=', expected: !, identifier, or 'end of string'");
    refused("==", "found '==', expected: !, identifier, or 'end of string'");
    refused("a=b=c", "found '=', expected: ',' or 'end of string'");
    refused("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
    refused("a in b", "unable to parse requirement: found 'b' expected: '('");
    refused("a in (b", "unable to parse requirement: found '', expected: ',' or ')'");
    refused("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'");
    refused("a notin", "unable to parse requirement: found '' expected: '('");
    refused("!a=b", "found '=', expected: ',' or 'end of string'");
    refused("a,,b", "found ',', expected: identifier after ','");
    refused("a=b,", "found '', expected: identifier after ','");
    refused(",a=b", "found ',', expected: !, identifier, or 'end of string'");
    refused("(a)", "found '(', expected: !, identifier, or 'end of string'");
    refused("app===", "unable to parse requirement: found '=', expected: identifier");
    let integer = "for 'Gt', 'Lt' operators, the value must be an integer";
    refused("a>b", &format!("unable to parse requirement: values[0]: Invalid value: \"b\": {integer}"));
    refused("a<1,a>", &format!("unable to parse requirement: values[0]: Invalid value: \"\": {integer}"));
    let long = "x".repeat(64);
    refused(
        &format!("a={long}"),
        &format!("unable to parse requirement: values[0][a]: Invalid value: \"{long}\": must be no more than 63 bytes"),
    );
    refused(
        "-a=b",
        "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric characters, \
         '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
         '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    );
}

#[test]
fn selectors_of_objects_print_as_queries() {
    let selector = json!({
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["y", "x"]}, {"key": "d", "operator": "Exists"}],
    });
    let selector = Selector::from_object(&selector).expect("a good selector");
    assert_eq!(selector.to_string(), "a=1,b=2,c in (x,y),d");
    assert!(selector.matches_labels(&json!({"a": "1", "b": "2", "c": "x", "d": ""})));
    assert!(!selector.matches_labels(&json!({"a": "1", "b": "2", "c": "z", "d": ""})));
    assert!(Selector::from_object(&json!({})).expect("empty").matches_labels(&json!(null)));
}

#[test]
fn expressions_need_a_known_operator_and_fitting_values() {
    let refused = |expression| {
        let selector = json!({"matchExpressions": [expression]});
        Selector::from_object(&selector).expect_err("refused").to_string()
    };
    assert_eq!(refused(json!({"key": "a", "operator": "Like"})), "\"Like\" is not a valid label selector operator");
    assert_eq!(
        refused(json!({"key": "a", "operator": "In"})),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
    assert_eq!(
        refused(json!({"key": "a", "operator": "Exists", "values": ["x"]})),
        "values: Invalid value: [\"x\"]: values set must be empty for exists and does not exist"
    );
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "[a-c=!,()<> in-]{0,24}") {
        if let Ok(selector) = Selector::parse(&text) {
            proptest::prop_assert_eq!(Selector::parse(&selector.to_string()), Ok(selector));
        }
    }
}
