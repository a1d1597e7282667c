//! Schemas as types of CEL, and objects as its values.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};
use sluice_cel::{Fields, Key, Map, Type, Value as Cel, is_keyword};

use crate::crd::schema::Schema;

/// What rules may see of metadata.
const METADATA: [&str; 2] = ["name", "generateName"];

/// The type of a node; `None` where rules can say nothing of it.
pub(in crate::crd) fn type_of(schema: &Schema) -> Option<Type> {
    if schema.int_or_string {
        return Some(Type::Dyn);
    }
    match (schema.kind.as_str(), schema.limits.format.as_str()) {
        ("string", "byte") => Some(Type::Bytes),
        ("string", "duration") => Some(Type::Duration),
        ("string", "date" | "date-time") => Some(Type::Timestamp),
        ("string", _) => Some(Type::String),
        ("boolean", _) => Some(Type::Bool),
        ("integer", _) => Some(Type::Int),
        ("number", _) => Some(Type::Double),
        ("array", _) => schema.items.as_deref().and_then(type_of).map(Type::list),
        ("object", _) => match &schema.additional {
            Some(value) => type_of(value).map(Type::map),
            None => Some(object_type(schema)),
        },
        _ => None,
    }
}

fn object_type(schema: &Schema) -> Type {
    let known = schema.properties.iter().filter_map(|(name, property)| Some((escaped(name), type_of(property)?)));
    let mut fields: Fields = known.collect();
    if schema.embedded {
        let metadata: Fields = METADATA.map(|name| (name.to_owned(), Type::String)).into_iter().collect();
        fields.insert("apiVersion".into(), Type::String);
        fields.insert("kind".into(), Type::String);
        fields.insert("metadata".into(), Type::Object(Arc::new(metadata)));
    }
    Type::Object(Arc::new(fields))
}

/// A value as rules see it.
pub(super) fn value_of(schema: &Schema, json: &Value) -> Cel {
    match json {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => number_of(schema, number),
        Value::String(text) => text_of(schema, text),
        Value::Array(items) => {
            let below = |item| schema.items.as_deref().map_or_else(|| plain(item), |s| value_of(s, item));
            Cel::List(Arc::new(items.iter().map(below).collect()))
        }
        Value::Object(fields) => {
            let below = |(name, value): (&String, &Value)| match (schema.properties.get(name), &schema.additional) {
                _ if schema.embedded && name == "metadata" => (Key::from(name.as_str()), metadata(value)),
                (Some(property), _) => (Key::from(escaped(name)), value_of(property, value)),
                (None, Some(any)) => (Key::from(name.as_str()), value_of(any, value)),
                (None, None) => (Key::from(escaped(name)), plain(value)),
            };
            map(fields.iter().map(below).collect())
        }
    }
}

fn metadata(json: &Value) -> Cel {
    let seen = METADATA.into_iter().filter_map(|name| Some((Key::from(name), plain(json.get(name)?))));
    map(seen.collect())
}

/// A value that no schema describes.
fn plain(json: &Value) -> Cel {
    value_of(&Schema::default(), json)
}

fn map(fields: HashMap<Key, Cel>) -> Cel {
    Cel::Map(Map { map: Arc::new(fields) })
}

fn number_of(schema: &Schema, number: &Number) -> Cel {
    let real = number.as_f64().unwrap_or(f64::NAN);
    match (schema.kind.as_str(), number.as_i64()) {
        ("number", _) => Cel::Float(real),
        (_, Some(whole)) => Cel::Int(whole),
        ("integer", None) => Cel::Int(real as i64),
        _ => Cel::Float(real),
    }
}

fn text_of(schema: &Schema, text: &str) -> Cel {
    let typed = match schema.limits.format.as_str() {
        _ if schema.int_or_string => None,
        "byte" => STANDARD.decode(text).ok().map(|bytes| Cel::Bytes(Arc::new(bytes))),
        "duration" => sluice_cel::duration_from_text(text),
        "date" | "date-time" => sluice_cel::timestamp_from_text(text),
        _ => None,
    };
    typed.unwrap_or_else(|| Cel::String(Arc::new(text.to_owned())))
}

/// The name by which a rule asks for a field.
pub(super) fn escaped(name: &str) -> String {
    if is_keyword(name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}
