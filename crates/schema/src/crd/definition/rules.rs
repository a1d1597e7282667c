//! Judges the rules of a schema: each must say what it means, and its expressions must fit the types around it.

use serde_json::{Value, json};

use super::{Faults, text};
use crate::crd::rules::{Rule, type_of};
use crate::crd::schema::Schema;

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Judges the rules of a whole schema.
pub(super) fn check(schema: &Value, path: &str, faults: &mut Faults) {
    let read = Schema::read(schema, false);
    if read.any_rules() {
        node(schema, &read, path, None, faults);
    }
}

/// `loose` is the list above whose items cannot be told apart, so that none has an old self.
fn node(schema: &Value, read: &Schema, path: &str, loose: Option<&str>, faults: &mut Faults) {
    for (n, rule) in Rule::read_all(schema).iter().enumerate() {
        let path = format!("{path}.x-kubernetes-validations[{n}]");
        written(rule, schema, &path, faults);
        if !rule.rule.trim().is_empty() {
            expressions(rule, read, &path, loose, faults);
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some(read) = read.properties.get(name).filter(|read| read.any_rules()) else { continue };
        node(property, read, &format!("{path}.properties[{name}]"), loose, faults);
    }
    if let Some(read) = read.additional.as_deref().filter(|read| read.any_rules()) {
        node(&schema["additionalProperties"], read, &format!("{path}.additionalProperties"), loose, faults);
    }
    if let Some(items) = read.items.as_deref().filter(|items| items.any_rules()) {
        let keyed = read.list_type.as_deref() == Some("map");
        let loose = loose.or((!keyed).then_some(path));
        node(&schema["items"], items, &format!("{path}.items"), loose, faults);
    }
}

/// What can be said without reading the expressions.
fn written(rule: &Rule, schema: &Value, path: &str, faults: &mut Faults) {
    let breaks = |text: &str| text.contains(['\n', '\r']);
    let message = rule.message.trim();
    let message_path = format!("{path}.message");
    if rule.rule.trim().is_empty() {
        faults.required(&format!("{path}.rule"), "rule is not specified");
    } else if !rule.message.is_empty() && message.is_empty() {
        faults.invalid(&message_path, json!(rule.message), "must be non-empty if specified");
    } else if breaks(message) {
        faults.invalid(&message_path, json!(rule.message), "must not contain line breaks");
    } else if breaks(rule.rule.trim()) && message.is_empty() {
        faults.required(&message_path, "message must be specified if rule contains line breaks");
    }
    if !rule.message_expression.is_empty() && rule.message_expression.trim().is_empty() {
        faults.required(&format!("{path}.messageExpression"), "must be non-empty if specified");
    }
    if let Some(reason) = rule.reason.as_deref().filter(|reason| !REASONS.contains(reason)) {
        faults.unsupported(&format!("{path}.reason"), reason, &REASONS);
    }
    if !rule.field_path.is_empty() && !leads_somewhere(schema, &rule.field_path) {
        faults.invalid(&format!("{path}.fieldPath"), json!(rule.field_path), "must be a valid path");
    }
}

fn expressions(rule: &Rule, read: &Schema, path: &str, loose: Option<&str>, faults: &mut Faults) {
    let Some(of) = type_of(read) else { return };
    let uses_old = match rule.compile(&of) {
        Ok(compiled) => compiled.uses_old,
        Err(wrong) => {
            let sound = wrong.rule.is_none();
            for (field, why) in [("rule", wrong.rule), ("messageExpression", wrong.message_expression)] {
                if let Some(why) = why {
                    faults.shown(&format!("{path}.{field}"), &rule.printed(), &why);
                }
            }
            // What is not understood uses nothing.
            sound && rule.rule.contains("oldSelf")
        }
    };
    match (uses_old, loose) {
        (true, Some(list)) => {
            let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
            faults.invalid(&format!("{path}.rule"), json!(rule.rule), &why);
        }
        (false, _) => {
            if let Some(set) = rule.optional_old_self {
                let why = "may not be set if oldSelf is not used in rule";
                faults.invalid(&format!("{path}.optionalOldSelf"), json!(set), why);
            }
        }
        _ => {}
    }
}

/// Whether a field path, `.a.b['c']`, names something that the schema knows; it may not enter lists.
fn leads_somewhere(schema: &Value, path: &str) -> bool {
    if path.is_empty() {
        return true;
    }
    let step = match path.strip_prefix("['") {
        Some(rest) => rest.split_once("']"),
        None => path.strip_prefix('.').map(|rest| rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()))),
    };
    let Some((name, rest)) = step.filter(|(name, _)| !name.is_empty()) else { return false };
    let below = match schema["properties"].get(name) {
        Some(property) => property,
        None if schema["additionalProperties"].is_object() => &schema["additionalProperties"],
        None => return false,
    };
    text(&below["type"]) != "array" && leads_somewhere(below, rest) || rest.is_empty()
}
