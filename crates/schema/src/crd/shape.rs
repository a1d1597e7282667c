//! What comes in is brought into the schema's shape: unknown fields and nulls out, defaults in.

use serde_json::{Map, Value};

use super::schema::Schema;

/// The fields every object has at its top, and every embedded one.
const ALWAYS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Drops what the schema does not know, and returns the paths of what was dropped, sorted.
pub fn prune(schema: &Schema, object: &mut Value) -> Vec<String> {
    let mut dropped = Vec::new();
    prune_value(schema, object, "", &mut dropped);
    dropped.sort();
    dropped
}

fn prune_value(schema: &Schema, value: &mut Value, path: &str, dropped: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if !schema.preserve_unknown && schema.additional.is_none() {
                fields.retain(|name, _| {
                    let known =
                        schema.properties.contains_key(name) || (schema.embedded && ALWAYS.contains(&name.as_str()));
                    if !known {
                        dropped.push(join(path, name));
                    }
                    known
                });
            }
            for (name, value) in fields.iter_mut() {
                if let Some(schema) = below(schema, name) {
                    prune_value(schema, value, &join(path, name), dropped);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for (n, item) in items.iter_mut().enumerate() {
                    prune_value(schema, item, &format!("{path}[{n}]"), dropped);
                }
            }
        }
        _ => {}
    }
}

/// Drops nulls of fields that may not be null. Lists keep theirs: they are faults of type.
pub fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                !value.is_null()
                    || below(schema, name).is_none_or(|s| s.nullable || (s.preserve_unknown && s.kind.is_empty()))
            });
            for (name, value) in fields.iter_mut() {
                if let Some(schema) = below(schema, name) {
                    drop_nulls(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|item| drop_nulls(schema, item));
            }
        }
        _ => {}
    }
}

/// Fills in defaults where their parent exists.
pub fn apply_defaults(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in schema.properties.iter().filter(|(name, _)| below(schema, name).is_some()) {
                if let Some(default) = &property.default
                    && needs_default(fields, name, property)
                {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                if let Some(schema) = below(schema, name) {
                    apply_defaults(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                items.iter_mut().for_each(|item| apply_defaults(schema, item));
            }
        }
        _ => {}
    }
}

fn needs_default(fields: &Map<String, Value>, name: &str, property: &Schema) -> bool {
    match fields.get(name) {
        None => true,
        Some(value) => value.is_null() && !property.nullable,
    }
}

/// The schema of a field, be it a property or an entry of a map. Metadata has the server's shape whatever a schema says.
fn below<'a>(schema: &'a Schema, name: &str) -> Option<&'a Schema> {
    if schema.embedded && ALWAYS.contains(&name) {
        return None;
    }
    schema.below(name)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
