//! How the real server prints its own types: by their Go field names, in their order, with everything that is absent.
//!
//! Only messages need this, and only a few of them; the shapes of those types are a table ([`TYPES`]).

mod diff;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use crate::fault::go_json;
pub(crate) use diff::diff;

/// One struct a line: `Name: Field:type Field=jsonName:type ...`. Types are `s i b` for what is printed as its zero value
/// when absent, `*` for what is printed as null, `*Name` and `[]Name` for structs behind a pointer or in a list, `Name`
/// for one by value, `-Name` for one whose fields Go prints among its parent's, `j` for what is printed as it is and `?` for
/// what is left out when absent. A `jsonName` may be `parent/name`, or `.` for the parent itself.
const TYPES: &str = include_str!("go/types.txt");

pub(crate) const SECURITY_CONTEXT: &str = "SecurityContext";

struct Field {
    name: &'static str,
    json: String,
    kind: &'static str,
}

static STRUCTS: LazyLock<BTreeMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let parse_field = |text: &'static str| {
        let (name, kind) = text.split_once(':')?;
        let (name, json) = match name.split_once('=') {
            Some((name, json)) => (name, json.to_owned()),
            None => (name, lower_first(name)),
        };
        Some(Field { name, json, kind })
    };
    TYPES
        .lines()
        .filter_map(|line| {
            let (name, fields) = line.split_once(": ")?;
            Some((name, fields.split_whitespace().filter_map(parse_field).collect()))
        })
        .collect()
});

fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase().to_string() + chars.as_str()).unwrap_or_default()
}

/// The JSON of a value of the struct `name` as Go prints its internal type.
pub(crate) fn print(name: &str, value: &Value) -> String {
    let mut out = String::new();
    write_struct(&mut out, name, value);
    out
}

fn write_struct(out: &mut String, name: &str, value: &Value) {
    out.push('{');
    write_fields(out, name, value);
    out.push('}');
}

fn write_fields(out: &mut String, name: &str, value: &Value) {
    let Some(fields) = STRUCTS.get(name) else { return };
    for field in fields {
        let found = find(value, &field.json).filter(|value| !value.is_null());
        if let Some(inlined) = field.kind.strip_prefix('-') {
            write_fields(out, inlined, found.unwrap_or(&Value::Null));
            continue;
        }
        if field.kind == "?" && found.is_none() {
            continue;
        }
        separate(out);
        out.push_str(&format!("\"{}\":", field.name));
        write_value(out, field.kind, found);
    }
}

/// The value at `.` (here), `name`, or `parent/name`.
fn find<'v>(value: &'v Value, place: &str) -> Option<&'v Value> {
    if place == "." { Some(value) } else { place.split('/').try_fold(value, |value, field| value.get(field)) }
}

fn separate(out: &mut String) {
    if !out.ends_with('{') {
        out.push(',');
    }
}

fn write_value(out: &mut String, kind: &str, found: Option<&Value>) {
    match (kind, found) {
        ("s", None) => out.push_str("\"\""),
        ("i", None) => out.push('0'),
        ("b", None) => out.push_str("false"),
        ("s" | "i" | "b" | "*" | "j" | "?", Some(value)) => out.push_str(&go_json(value)),
        ("*" | "j", None) => out.push_str("null"),
        (kind, found) => match (kind.strip_prefix("[]"), kind.strip_prefix('*'), found) {
            (Some(_), _, None) | (_, Some(_), None) => out.push_str("null"),
            (Some(item), _, Some(value)) => {
                out.push('[');
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write_struct(out, item, value);
                }
                out.push(']');
            }
            (_, Some("Selector"), Some(value)) => out.push_str(&crate::validate::show_selector(value)),
            (_, Some(name), Some(value)) => write_struct(out, name, value),
            (None, None, found) => write_struct(out, kind, found.unwrap_or(&Value::Null)),
        },
    }
}
