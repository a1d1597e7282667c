//! Label selectors, the nodes' selectors, and how messages print them.

use serde_json::{Map, Value};

use super::check::{Faults, in_order};
use super::cursor::At;
use super::names;
use crate::fault::go_json;

const OPERATOR: &str = "not a valid selector operator";
const NEEDS_VALUES: &str = "must be specified when `operator` is 'In' or 'NotIn'";
const TAKES_NO_VALUES: &str = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";

/// A `LabelSelector`, if there is one.
pub(crate) fn label_selector(f: &mut Faults, at: &At<'_>) {
    if !at.is_set() {
        return;
    }
    super::meta::labels(f, &at.get("matchLabels"));
    for requirement in at.get("matchExpressions").items() {
        let (values, operator) = (requirement.get("values"), requirement.get("operator"));
        match operator.str() {
            "In" | "NotIn" if values.is_zero() => f.required(&values, NEEDS_VALUES),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_zero() => f.forbidden(&values, TAKES_NO_VALUES),
            "Exists" | "DoesNotExist" => {}
            unknown => f.invalid_value(&operator, unknown, OPERATOR),
        }
        f.format(&requirement.get("key"), names::qualified);
        for value in values.items() {
            f.format(&value, names::label_value);
        }
    }
}

/// Whether a well-formed selector selects these labels. One without any requirement selects everything.
pub(crate) fn selects(selector: &Value, labels: Option<&Map<String, Value>>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let exact = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let expressions = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    exact.into_iter().all(|(key, value)| label(key) == value.as_str())
        && expressions.into_iter().all(|requirement| {
            let requirement = At::root(requirement);
            let found = label(requirement.text("key"));
            let listed = |found: &str| requirement.get("values").list().iter().any(|value| value == found);
            match requirement.text("operator") {
                "In" => found.is_some_and(listed),
                "NotIn" => !found.is_some_and(listed),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// Whether a selector has no requirement at all.
pub(crate) fn is_empty(selector: &At<'_>) -> bool {
    selector.get("matchLabels").is_zero() && selector.get("matchExpressions").is_zero()
}

/// Whether a selector can be parsed: its operators are known and have the values they need.
pub(crate) fn is_well_formed(selector: &At<'_>) -> bool {
    let mut faults = Faults::default();
    label_selector(&mut faults, selector);
    faults.is_empty()
}

/// A selector as messages print it.
pub(crate) fn show(selector: &Value) -> String {
    let Some(map) = selector.as_object() else { return go_json(selector) };
    let mut parts = Vec::new();
    if let Some(labels) = map.get("matchLabels") {
        parts.push(format!("\"matchLabels\":{}", go_json(labels)));
    }
    if let Some(expressions) = map.get("matchExpressions").and_then(Value::as_array) {
        let shown: Vec<String> =
            expressions.iter().map(|requirement| in_order(requirement, &["key", "operator", "values"])).collect();
        parts.push(format!("\"matchExpressions\":[{}]", shown.join(",")));
    }
    format!("{{{}}}", parts.join(","))
}

/// A `NodeSelector`.
pub(crate) fn node_selector(f: &mut Faults, at: &At<'_>) {
    let terms = at.get("nodeSelectorTerms");
    if terms.is_zero() {
        f.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(f, &term);
    }
}

pub(crate) fn node_selector_term(f: &mut Faults, term: &At<'_>) {
    for requirement in term.get("matchExpressions").items() {
        let (values, operator) = (requirement.get("values"), requirement.get("operator"));
        match operator.str() {
            "In" | "NotIn" if values.is_zero() => f.required(&values, NEEDS_VALUES),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_zero() => f.forbidden(&values, TAKES_NO_VALUES),
            "Exists" | "DoesNotExist" => {}
            "Gt" | "Lt" if values.list().len() != 1 => {
                f.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "Gt" | "Lt" => {}
            unknown => f.invalid_value(&operator, unknown, OPERATOR),
        }
        f.format(&requirement.get("key"), names::qualified);
        for value in values.items() {
            f.format(&value, names::label_value);
        }
    }
    for requirement in term.get("matchFields").items() {
        let (values, operator) = (requirement.get("values"), requirement.get("operator"));
        match operator.str() {
            "In" | "NotIn" if values.list().len() != 1 => {
                f.required(
                    &values,
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                );
            }
            "In" | "NotIn" => {}
            unknown => f.invalid_value(&operator, unknown, OPERATOR),
        }
        let key = requirement.get("key");
        if key.str() == "metadata.name" {
            for value in values.items() {
                f.format(&value, names::subdomain);
            }
        } else {
            f.invalid_value(&key, key.str(), "not a valid field selector key");
        }
    }
}
