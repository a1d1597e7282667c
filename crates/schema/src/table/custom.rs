//! The columns that definitions of custom resources ask for.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells::{Object, since};
use super::{jsonpath, standard};
use crate::crd::{Column, Custom};

pub(super) fn columns(custom: &Custom) -> Value {
    let mut columns = vec![standard("Name")];
    if custom.columns.is_empty() {
        let mut age = standard("Age");
        age["type"] = "date".into();
        columns.push(age);
    }
    for column in &custom.columns {
        let description = match column.description.as_str() {
            "" => format!("Custom resource definition column (in JSONPath format): {}", column.json_path),
            text => text.to_owned(),
        };
        columns.push(json!({"name": column.name, "type": column.kind, "format": column.format,
            "description": description, "priority": column.priority}));
    }
    Value::Array(columns)
}

pub(super) fn cells(custom: &Custom, object: Object<'_>) -> Vec<Value> {
    let mut cells = vec![object.name()];
    if custom.columns.is_empty() {
        cells.push(object.age());
    }
    cells.extend(custom.columns.iter().map(|column| cell(column, object)));
    cells
}

/// Null where there is no value, or one of another type.
fn cell(column: &Column, object: Object<'_>) -> Value {
    let Some(found) = jsonpath::first(&column.json_path, object.value) else { return Value::Null };
    match (column.kind.as_str(), found) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(n)) => {
            n.as_i64().or_else(|| n.as_f64().map(|float| float.trunc() as i64)).map_or(Value::Null, Value::from)
        }
        ("number", number @ Value::Number(_)) => number.clone(),
        ("boolean", flag @ Value::Bool(_)) => flag.clone(),
        ("date", Value::String(text)) => date(text, object.now),
        _ => Value::Null,
    }
}

fn date(text: &str, now: Timestamp) -> Value {
    match text {
        "" => "<unknown>".into(),
        text if text.parse::<Timestamp>().is_ok() => since(&text.into(), now).into(),
        _ => "<invalid>".into(),
    }
}
