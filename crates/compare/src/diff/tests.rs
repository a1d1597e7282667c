use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::answer::Tee;

fn rules(terms: &Value) -> Rules {
    let mut all = json!({"sample": "100%"});
    all.as_object_mut().expect("an object").extend(terms.as_object().expect("an object").clone());
    Rules::read(&serde_json::from_value(all).expect("terms")).expect("rules")
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Answer { status, headers, body: Body::Kept(body.as_bytes().to_vec()) }
}

fn told(comparison: &Comparison) -> Vec<String> {
    let each = comparison.differences.iter();
    each.map(|Difference { path, kind, stable, candidate }| format!("{path} {kind:?} {stable} | {candidate}")).collect()
}

fn json_differs(ours: &Value, theirs: &Value, terms: &Value) -> Vec<String> {
    let of = |value: &Value| answer(200, &[("content-type", "application/json")], &value.to_string());
    told(&compare(&of(ours), &of(theirs), &rules(terms)))
}

#[test]
fn documents_differ_by_place_and_kind() {
    for (ours, theirs, terms, expected) in [
        (json!({"a": 1}), json!({"a": 2}), json!({}), vec!["json:$.a Value 1 | 2"]),
        (json!({"a": 1}), json!({"a": "1"}), json!({}), vec!["json:$.a Type 1 | \"1\""]),
        (json!({"a": 1}), json!({}), json!({}), vec!["json:$.a Missing 1 | "]),
        (json!({}), json!({"a": {"b": 1}}), json!({}), vec!["json:$.a Extra  | {b:1}"]),
        (json!([1, 2]), json!([1]), json!({}), vec!["json:$ Length 2 items | 1 items"]),
        (json!({"l": [1, 2]}), json!({"l": [2, 1]}), json!({}), vec!["json:$.l Order  | "]),
        (json!([1, 2]), json!([2, 1]), json!({"ignore": ["order:$"]}), vec![]),
        (json!([1, 2]), json!([3, 1]), json!({"ignore": ["order:$"]}), vec!["json:$[*] Value 2 | 3"]),
        (
            json!([{"id": 1, "n": 1}, {"id": 2, "n": 2}]),
            json!([{"id": 3, "n": 2}, {"id": 4, "n": 1}]),
            json!({"ignore": ["json:$..id", "order:$"]}),
            vec![],
        ),
        (
            json!({"a": 1, "b": {"c": 2}}),
            json!({"a": 2, "b": {"c": 3}}),
            json!({"ignore": ["json:$.b"]}),
            vec!["json:$.a Value 1 | 2"],
        ),
        (json!({"a": 1}), json!({}), json!({"ignore": ["json:$.a"]}), vec![]),
        (json!({"a": 1}), json!({"a": 1.0}), json!({}), vec![]),
        (json!({"a": 100.0}), json!({"a": 100.9}), json!({"tolerance": "1%"}), vec![]),
        (json!({"a": 100}), json!({"a": 102}), json!({"tolerance": "1%"}), vec!["json:$.a Value 100 | 102"]),
        (json!([1.0, 200.0]), json!([200.1, 1.0]), json!({"tolerance": "1%", "ignore": ["order:$"]}), vec![]),
        (
            json!({"password": "a"}),
            json!({"password": "b"}),
            json!({}),
            vec!["json:$.password Value <redacted> | <redacted>"],
        ),
        (
            json!({"auth": {"Token": {"v": [1]}}}),
            json!({"auth": {"Token": {"v": [2]}}}),
            json!({}),
            vec!["json:$.auth.Token.v[*] Value <redacted> | <redacted>"],
        ),
        (
            json!({"email": "a@b"}),
            json!({"email": "c@d"}),
            json!({"redact": ["email"]}),
            vec!["json:$.email Value <redacted> | <redacted>"],
        ),
        (json!({"u100000001": 1}), json!({"u100000001": 2}), json!({}), vec!["json:$.* Value 1 | 2"]),
        (json!({"a": 1}), json!({"a": 2}), json!({"ignore": ["body"]}), vec![]),
    ] {
        assert_eq!(json_differs(&ours, &theirs, &terms), expected, "{ours} {theirs} {terms}");
    }
}

#[test]
fn answers_differ_by_more_than_their_documents() {
    let text = [("content-type", "text/html; charset=utf-8")];
    let json = [("content-type", "application/problem+json")];
    let image = [("content-type", "image/png")];
    for (ours, theirs, terms, expected) in [
        (answer(200, &[], ""), answer(500, &[], ""), json!({}), vec!["status Value 200 | 500"]),
        (answer(200, &[], ""), answer(500, &[], ""), json!({"ignore": ["status"]}), vec![]),
        (
            answer(200, &text, "a"),
            answer(200, &image, "a"),
            json!({}),
            vec!["header:content-type Value text/html; charset=utf-8 | image/png"],
        ),
        (
            answer(200, &[], ""),
            answer(302, &[("location", "/in?code=1")], ""),
            json!({"ignore": ["status"]}),
            vec!["header:location Extra  | /in?<redacted>"],
        ),
        (answer(200, &[("etag", "1")], ""), answer(200, &[("etag", "2")], ""), json!({}), vec![]),
        (
            answer(200, &[("set-cookie", "a=1"), ("date", "now")], ""),
            answer(200, &[("date", "then")], ""),
            json!({"headers": ["*"]}),
            vec!["header:set-cookie Missing <redacted> | "],
        ),
        (
            answer(200, &text, "one\ntwo\n"),
            answer(200, &text, "one\r\ntwo"),
            json!({}),
            vec!["text Value 8 bytes, line 3 of 3 differs | 8 bytes, line 3 of 2 differs"],
        ),
        (answer(200, &text, "one\ntwo"), answer(200, &text, "one\r\ntwo"), json!({}), vec![]),
        (answer(200, &image, "one"), answer(200, &image, "two"), json!({}), vec!["bytes Value 3 bytes | 3 bytes"]),
        (answer(200, &json, "{\"a\":1}"), answer(200, &json, "{ \"a\": 1 }"), json!({}), vec![]),
        (answer(200, &json, "{\"a\":1}"), answer(200, &json, "oops"), json!({}), vec!["json:$ Type JSON | not JSON"]),
        (answer(200, &[], "{\"a\":1}"), answer(200, &[], "{\"a\":2}"), json!({}), vec!["json:$.a Value 1 | 2"]),
        (answer(200, &[], "one"), answer(200, &[], "two"), json!({}), vec!["bytes Value 3 bytes | 3 bytes"]),
    ] {
        assert_eq!(told(&compare(&ours, &theirs, &rules(&terms))), expected, "{ours:?} {theirs:?} {terms}");
    }
}

#[test]
fn long_bodies_are_compared_by_their_fingerprint() {
    let long = |last: u8| {
        let mut tee = Tee::new(100);
        tee.push(&[7; 1000]);
        tee.push(&[last]);
        Answer { body: tee.finish(), ..answer(200, &[], "") }
    };
    assert_eq!(told(&compare(&long(1), &long(1), &Rules::default())), Vec::<String>::new());
    let found = told(&compare(&long(1), &long(2), &Rules::default()));
    assert!(found[0].starts_with("bytes Value 1001 bytes, sha256 "), "{found:?}");
    let short = answer(200, &[], "x");
    assert_eq!(compare(&long(1), &short, &Rules::default()).differences[0].candidate, "1 bytes");
    let coded = Answer { headers: vec![("content-encoding".into(), b"br".to_vec())], ..long(1) };
    let found = compare(&coded, &short, &Rules::default());
    assert_eq!((found.differences.len(), found.is_partial), (0, true), "nobody can tell");
}

/// Documents without lists: what an ignored place takes away can be told one by one.
fn plain() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..4i64).prop_map(Value::from),
        "[ab]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop::collection::btree_map("[abc]", inner, 0..4).prop_map(|fields| json!(fields))
    })
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::btree_map("[abc]{1,2}", inner.clone(), 0..5).prop_map(|fields| json!(fields)),
            prop::collection::vec(inner, 0..6).prop_map(Value::from),
        ]
    })
}

proptest! {
    #[test]
    fn equal_answers_never_differ(document in document(), unordered in any::<bool>()) {
        let terms = if unordered { json!({"ignore": ["order:$", "order:$.a"]}) } else { json!({}) };
        prop_assert_eq!(json_differs(&document, &document, &terms), Vec::<String>::new());
    }

    #[test]
    fn what_differs_is_told(one in document(), other in document()) {
        let found = json_differs(&one, &other, &json!({}));
        // Numbers that are equal may be written in two ways.
        let equal = found.is_empty();
        prop_assert!(!equal || one.to_string().replace(".0", "") == other.to_string().replace(".0", "") || one == other, "{} {}", one, other);
    }

    #[test]
    fn an_ignored_place_takes_its_differences_away_and_no_other(one in plain(), other in plain(), key in "[abc]") {
        let all = json_differs(&one, &other, &json!({}));
        let place = format!("json:$.{key}");
        let left = json_differs(&one, &other, &json!({"ignore": [place.clone()]}));
        let is_below = |told: &&String| {
            let rest = told.strip_prefix(place.as_str());
            rest.is_some_and(|rest| rest.starts_with([' ', '.', '[']))
        };
        let expected: Vec<String> = all.iter().filter(|told| !is_below(told)).cloned().collect();
        prop_assert_eq!(left, expected);
    }

    #[test]
    fn a_list_without_an_order_equals_any_of_its_permutations(items in prop::collection::vec(document(), 0..12), seed in any::<u64>()) {
        let mut permuted = items.clone();
        let mut state = seed | 1;
        for at in (1..permuted.len()).rev() {
            state ^= state << 13; state ^= state >> 7; state ^= state << 17;
            permuted.swap(at, (state % (at as u64 + 1)) as usize);
        }
        let (one, other) = (json!({"l": items}), json!({"l": permuted}));
        prop_assert_eq!(json_differs(&one, &other, &json!({"ignore": ["order:$.l"]})), Vec::<String>::new());
        let kinds = json_differs(&one, &other, &json!({}));
        prop_assert!(kinds.is_empty() || kinds == ["json:$.l Order  | "], "{:?}", kinds);
    }

    #[test]
    fn anything_can_be_compared(one in prop::collection::vec(any::<u8>(), 0..200), other in prop::collection::vec(any::<u8>(), 0..200), kind in 0..4usize) {
        let headers = vec![("content-type".to_owned(), ["application/json", "text/plain", "", "x"][kind].into()), ("content-encoding".to_owned(), ["", "gzip", "deflate", "br"][kind].into())];
        let of = |body: &Vec<u8>| Answer { status: 200, headers: headers.clone(), body: Body::Kept(body.clone()) };
        prop_assert_eq!(compare(&of(&one), &of(&one), &Rules::default()), Comparison::default());
        let found = compare(&of(&one), &of(&other), &Rules::default());
        prop_assert!(found.differences.len() <= MOST_DIFFERENCES);
    }
}

#[test]
fn hostile_documents_come_to_an_end() {
    let wide = |n: u32| json!((0..n).collect::<Vec<_>>());
    let (mut one, mut other) = (wide(2000), json!((0..2000).rev().collect::<Vec<_>>()));
    for _ in 0..100 {
        (one, other) = (json!([one, 1]), json!([other, 2]));
    }
    let found = json_differs(&one, &other, &json!({"tolerance": "0.01%", "ignore": ["order:$..[*]", "order:$"]}));
    assert!(found.len() <= MOST_DIFFERENCES);
    let many = |n: i64| Value::Object((0..5000).map(|at| (format!("k{at}"), json!(n))).collect());
    assert_eq!(json_differs(&many(1), &many(2), &json!({})).len(), MOST_DIFFERENCES);
    let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(5000), "]".repeat(5000));
    let of = |body: &str| answer(200, &[("content-type", "application/json")], body);
    assert_eq!(compare(&of(&deep("1")), &of(&deep("2")), &Rules::default()).differences.len(), 1);
}
