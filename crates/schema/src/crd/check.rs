//! Judges an object by its schema, in the words of a real API server.
//!
//! What an update leaves as it was is not judged again: a definition that became stricter must not make old objects
//! uneditable.

use std::collections::BTreeSet;

use serde_json::{Number, Value};

use super::Custom;
use super::formats;
use super::rules;
use super::schema::Schema;
use crate::fault::{Fault, FaultKind};

/// What is wrong, and what would be wrong if it were new.
#[derive(Debug, Default)]
pub struct Verdict {
    pub faults: Vec<Fault>,
    pub warnings: Vec<String>,
}

/// The path of faults that belong to no field.
const NOWHERE: &str = "<nil>";
/// Faults of these kinds keep the rules from running: they could not rely on the types.
const BLOCKING: [FaultKind; 5] =
    [FaultKind::NotSupported, FaultKind::Required, FaultKind::TooLong, FaultKind::TooMany, FaultKind::TypeInvalid];
const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// Judges `object`, which replaces `old` on an update.
pub fn check(custom: &Custom, object: &Value, old: Option<&Value>) -> Verdict {
    let mut walk = Walk::default();
    walk.value(&custom.schema, object, old, "");
    walk.lists(&custom.schema, object, old, "");
    let mut faults = walk.faults;
    let mut warnings = Vec::new();
    if custom.schema.any_rules() {
        if faults.iter().any(|f| BLOCKING.contains(&f.kind)) {
            faults.push(fault(NOWHERE, FaultKind::Invalid, Some(Value::Null), UNCHECKED));
        } else {
            let rules = custom.rules.get_or_init(|| rules::Rules::compile(&custom.open_api, &custom.schema));
            rules.check(&custom.schema, object, old, &mut faults, &mut warnings);
        }
    }
    Verdict { faults, warnings }
}

pub(super) fn fault(path: &str, kind: FaultKind, value: Option<Value>, detail: impl Into<String>) -> Fault {
    Fault { path: path.to_owned(), kind, value, detail: detail.into() }
}

/// Judges a value by a part of a schema, as if it stood alone.
pub(super) fn faults_of_part(schema: &Schema, value: &Value) -> Vec<Fault> {
    Walk::faults_of(schema, value, "")
}

#[derive(Default)]
struct Walk {
    faults: Vec<Fault>,
}

impl Walk {
    fn add(&mut self, path: &str, kind: FaultKind, value: impl Into<Value>, detail: impl Into<String>) {
        self.faults.push(fault(path, kind, Some(value.into()), detail));
    }

    fn value(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        if old == Some(value) {
            return;
        }
        if !self.is_of_type(schema, value, path) || value.is_null() {
            return;
        }
        self.combinators(schema, value, path);
        match value {
            Value::String(text) => self.string(schema, text, path),
            Value::Number(number) => self.number(schema, number, path),
            Value::Array(items) => self.array(schema, items, old, path),
            _ => {}
        }
        self.allowed(schema, value, path);
        if let Value::Object(fields) = value {
            self.object(schema, fields, old, path);
        }
    }

    fn is_of_type(&mut self, schema: &Schema, value: &Value, path: &str) -> bool {
        if value.is_null() && schema.nullable {
            return true;
        }
        let wanted = if schema.int_or_string { "integer,string" } else { schema.kind.as_str() };
        let found = type_name(value);
        let fits = wanted.is_empty()
            || wanted.split(',').any(|w| w == found || (w == "number" && found == "integer"))
            || (value.is_null() && path.is_empty());
        if !fits {
            self.add(
                path,
                FaultKind::TypeInvalid,
                found,
                format!("{path} in body must be of type {wanted}: \"{found}\""),
            );
        }
        fits
    }

    fn string(&mut self, schema: &Schema, text: &str, path: &str) {
        let limits = &schema.limits;
        let length = text.chars().count() as u64;
        if let Some(most) = limits.max_length.filter(|most| length > *most) {
            self.faults.push(fault(path, FaultKind::TooLong, None, format!("may not be more than {most} bytes")));
        }
        if let Some(least) = limits.min_length.filter(|least| length < *least) {
            self.add(path, FaultKind::Invalid, text, format!("{path} in body should be at least {least} chars long"));
        }
        if let Some(pattern) = &limits.pattern
            && !pattern.allows(text)
        {
            self.add(path, FaultKind::Invalid, text, format!("{path} in body should match '{}'", pattern.text));
        }
        if !formats::holds(&limits.format, text) {
            let format = &limits.format;
            self.add(
                path,
                FaultKind::TypeInvalid,
                text,
                format!("{path} in body must be of type {format}: \"{text}\""),
            );
        }
    }

    fn number(&mut self, schema: &Schema, number: &Number, path: &str) {
        let limits = &schema.limits;
        let value = as_f64(number);
        let shown = Value::Number(number.clone());
        if let Some(factor) = &limits.multiple_of {
            let times = value / as_f64(factor);
            if (times - times.round()).abs() > 1e-9 {
                self.add(
                    path,
                    FaultKind::Invalid,
                    shown.clone(),
                    format!("{path} in body should be a multiple of {factor}"),
                );
            }
        }
        if let Some(most) = &limits.maximum {
            let over = if limits.exclusive_maximum { value >= as_f64(most) } else { value > as_f64(most) };
            let words = if limits.exclusive_maximum { "less than" } else { "less than or equal to" };
            if over {
                self.add(path, FaultKind::Invalid, shown.clone(), format!("{path} in body should be {words} {most}"));
            }
        }
        if let Some(least) = &limits.minimum {
            let under = if limits.exclusive_minimum { value <= as_f64(least) } else { value < as_f64(least) };
            let words = if limits.exclusive_minimum { "greater than" } else { "greater than or equal to" };
            if under {
                self.add(path, FaultKind::Invalid, shown, format!("{path} in body should be {words} {least}"));
            }
        }
    }

    fn array(&mut self, schema: &Schema, items: &[Value], old: Option<&Value>, path: &str) {
        if let Some(item_schema) = &schema.items {
            for (n, item) in items.iter().enumerate() {
                let before = old.and_then(|old| counterpart(schema, old, item));
                self.value(item_schema, item, before, &format!("{path}[{n}]"));
            }
        }
        let limits = &schema.limits;
        let count = items.len() as u64;
        if let Some(least) = limits.min_items.filter(|least| count < *least) {
            self.add(path, FaultKind::Invalid, count, format!("{path} in body should have at least {least} items"));
        }
        if let Some(most) = limits.max_items.filter(|most| count > *most) {
            self.add(path, FaultKind::TooMany, count, format!("must have at most {most} items"));
        }
        if limits.unique_items && has_duplicates(items) {
            self.add(path, FaultKind::Invalid, Value::Null, format!("{path} in body shouldn't contain duplicates"));
        }
    }

    fn allowed(&mut self, schema: &Schema, value: &Value, path: &str) {
        let allowed = &schema.limits.allowed;
        if allowed.is_empty() || allowed.iter().any(|a| equal(a, value)) {
            return;
        }
        let names: Vec<String> = allowed.iter().map(|a| format!("\"{}\"", plain(a))).collect();
        self.add(path, FaultKind::NotSupported, value.clone(), format!("supported values: {}", names.join(", ")));
    }

    fn object(&mut self, schema: &Schema, fields: &serde_json::Map<String, Value>, old: Option<&Value>, path: &str) {
        let limits = &schema.limits;
        let count = fields.len() as u64;
        if let Some(least) = limits.min_properties.filter(|least| count < *least) {
            self.add(
                path,
                FaultKind::Invalid,
                count,
                format!("{path} in body should have at least {least} properties"),
            );
        }
        if let Some(most) = limits.max_properties.filter(|most| count > *most) {
            self.add(path, FaultKind::TooMany, count, format!("must have at most {most} items"));
        }
        for (name, value) in fields {
            if let Some(schema) = schema.below(name) {
                self.value(schema, value, old.and_then(|o| o.get(name)), &join(path, name));
            }
        }
        for name in schema.required.iter().filter(|name| !fields.contains_key(*name)) {
            self.add(&join(path, name), FaultKind::Required, "", "");
        }
    }

    fn combinators(&mut self, schema: &Schema, value: &Value, path: &str) {
        let outcomes = |schemas: &[Schema]| -> Vec<Vec<Fault>> {
            schemas.iter().map(|s| Self::faults_of(s, value, path)).collect()
        };
        if !schema.any_of.is_empty() {
            let outcomes = outcomes(&schema.any_of);
            if !outcomes.iter().any(Vec::is_empty) {
                self.nowhere(format!("\"{path}\" must validate at least one schema (anyOf)"));
                self.faults.extend(shortest(outcomes));
            }
        }
        if !schema.one_of.is_empty() {
            let outcomes = outcomes(&schema.one_of);
            match outcomes.iter().filter(|o| o.is_empty()).count() {
                1 => {}
                0 => {
                    self.nowhere(format!("\"{path}\" must validate one and only one schema (oneOf). Found none valid"));
                    self.faults.extend(shortest(outcomes));
                }
                n => self.nowhere(format!(
                    "\"{path}\" must validate one and only one schema (oneOf). Found {n} valid alternatives"
                )),
            }
        }
        if !schema.all_of.is_empty() {
            let outcomes = outcomes(&schema.all_of);
            let valid = outcomes.iter().filter(|o| o.is_empty()).count();
            if valid < outcomes.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                self.faults.extend(outcomes.into_iter().flatten());
                self.nowhere(format!("\"{path}\" must validate all the schemas (allOf){none}"));
            }
        }
        if schema.not.as_deref().is_some_and(|not| Self::faults_of(not, value, path).is_empty()) {
            self.nowhere(format!("\"{path}\" must not validate the schema (not)"));
        }
    }

    fn nowhere(&mut self, detail: String) {
        self.add(NOWHERE, FaultKind::Invalid, "", detail);
    }

    fn faults_of(schema: &Schema, value: &Value, path: &str) -> Vec<Fault> {
        let mut walk = Self::default();
        walk.value(schema, value, None, path);
        walk.faults
    }

    /// Sets and keyed lists may not hold the same thing twice.
    fn lists(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        if old == Some(value) {
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(schema) = schema.below(name) {
                        self.lists(schema, value, old.and_then(|o| o.get(name)), &join(path, name));
                    }
                }
            }
            Value::Array(items) => {
                let keyed = matches!(schema.list_type.as_deref(), Some("set" | "map"));
                let mut seen = BTreeSet::new();
                for (n, item) in items.iter().enumerate().filter(|_| keyed) {
                    let key = identity(schema, item);
                    if !seen.insert(key.to_string()) {
                        self.add(&format!("{path}[{n}]"), FaultKind::Duplicate, key, "");
                    }
                }
                if let Some(item_schema) = &schema.items {
                    for (n, item) in items.iter().enumerate() {
                        let before = old.and_then(|old| counterpart(schema, old, item));
                        self.lists(item_schema, item, before, &format!("{path}[{n}]"));
                    }
                }
            }
            _ => {}
        }
    }
}

/// The item of an old list that is the same one as `item`: by key or value. Items of atomic lists have none.
pub(super) fn counterpart<'a>(schema: &Schema, old: &'a Value, item: &Value) -> Option<&'a Value> {
    schema.list_type.as_deref().filter(|kind| *kind == "map" || *kind == "set")?;
    let wanted = identity(schema, item);
    old.as_array()?.iter().find(|candidate| identity(schema, candidate) == wanted)
}

/// What tells an item apart: its keys in a keyed list (with their defaults), itself in a set.
fn identity(schema: &Schema, item: &Value) -> Value {
    if schema.list_type.as_deref() != Some("map") {
        return item.clone();
    }
    let default = |key: &str| schema.items.as_deref().and_then(|i| i.properties.get(key)?.default.clone());
    let keys = schema.list_map_keys.iter();
    keys.filter_map(|key| Some((key.clone(), item.get(key).cloned().or_else(|| default(key))?))).collect()
}

/// Of several alternatives that all failed, the one that came closest.
fn shortest(outcomes: Vec<Vec<Fault>>) -> Vec<Fault> {
    outcomes.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

fn has_duplicates(items: &[Value]) -> bool {
    items.iter().enumerate().any(|(n, item)| items[..n].iter().any(|other| equal(other, item)))
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => as_f64(a) == as_f64(b),
        _ => a == b,
    }
}

fn as_f64(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

/// A scalar without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() => "integer",
        Value::Number(n) if n.as_f64().is_some_and(|f| f.fract() == 0.0 && f.abs() < 9.2e18) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
