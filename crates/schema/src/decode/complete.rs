//! A value as Go's JSON writer would print it: empty values that `omitempty` drops are gone, those it keeps are there.

use serde_json::{Map, Value};

use super::catalog;
use super::typed::OBJECT_META;
use crate::kinds::Kind;
use crate::types::{Native, Omit, Scalar, Shape, Struct, Ty, Union};

/// What becomes of an empty list or map that is always printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Empty {
    /// Storage does not tell it from none.
    Null,
    /// Whoever wrote it said something, and owns it.
    Stays,
}

/// Makes an object what a real server would print. Of custom resources only the metadata has a type here.
pub fn complete(kind: &Kind, object: &mut Value) {
    complete_with(kind, object, Empty::Null);
}

/// The same, for objects that are not stored yet if [`Empty::Stays`].
pub fn complete_with(kind: &Kind, object: &mut Value, empty: Empty) {
    if kind.custom.is_none() {
        walk(kind.ty(), object, empty);
    } else if let Some(metadata) = object.get_mut("metadata") {
        walk(catalog().ty(OBJECT_META).expect("the catalog holds the metadata of objects"), metadata, empty);
    }
}

/// The same for a value of any built-in type.
pub fn complete_as(ty: Ty<'_>, value: &mut Value) {
    walk(ty, value, Empty::Null);
}

fn walk(ty: Ty<'_>, value: &mut Value, empty: Empty) {
    match (ty.shape(), value) {
        (Shape::Struct(def), Value::Object(fields)) => complete_struct(ty, def, fields, empty),
        (Shape::List(list), Value::Array(items)) => {
            for item in items {
                walk(ty.to(list.item), item, empty);
            }
        }
        (Shape::Map { value, .. }, Value::Object(entries)) => {
            for item in entries.values_mut() {
                walk(ty.to(*value), item, empty);
            }
        }
        _ => {}
    }
}

fn complete_struct(ty: Ty<'_>, def: &Struct, fields: &mut Map<String, Value>, empty: Empty) {
    for (name, field) in &def.fields {
        let Some(native) = &field.native else { continue };
        let below = ty.to(field.ty);
        match fields.get_mut(name) {
            Some(Value::Null) | None => {
                fields.remove(name);
                if let Some(value) = absent(below, native) {
                    fields.insert(name.clone(), value);
                }
            }
            Some(value) => {
                complete_field(below, native, value, empty);
                if vanishes(below, native, value) {
                    fields.remove(name);
                } else if empty == Empty::Null
                    && native.omit == Omit::Never
                    && is_empty_collection(value)
                    && is_collection(below)
                {
                    *value = Value::Null;
                }
            }
        }
    }
}

fn complete_field(below: Ty<'_>, native: &Native, value: &mut Value, empty: Empty) {
    let Some(union) = native.union else { return walk(below, value, empty) };
    let (Union::OrArray(schema) | Union::OrBool(schema) | Union::OrStrings(schema)) = union;
    let schema = below.to(schema);
    match value {
        Value::Array(items) if matches!(union, Union::OrArray(_)) => {
            items.iter_mut().for_each(|item| walk(schema, item, empty));
        }
        Value::Object(_) if matches!(below.shape(), Shape::Any) => walk(schema, value, empty),
        _ => {}
    }
}

/// What is printed for a field that holds nothing.
fn absent(ty: Ty<'_>, native: &Native) -> Option<Value> {
    if native.pointer {
        return (native.omit == Omit::Never).then_some(Value::Null);
    }
    match (ty.shape(), native.omit) {
        (_, Omit::Zero) => None,
        // `omitempty` means nothing to Go structs.
        (Shape::Struct(_), _) => {
            let mut value = Value::Object(Map::new());
            complete_as(ty, &mut value);
            Some(value)
        }
        (Shape::Scalar(scalar), omit) => {
            let is_struct = matches!(
                scalar,
                Scalar::Quantity | Scalar::IntOrString | Scalar::Time | Scalar::MicroTime | Scalar::Duration
            );
            (is_struct && *scalar != Scalar::Duration || omit == Omit::Never).then(|| zero(*scalar))
        }
        (Shape::Any, Omit::Never) => Some(Value::Null),
        // RawExtension is a struct as well, and its zero value is printed.
        (Shape::Any, Omit::Empty) => native.go.is_empty().then_some(Value::Null),
        (Shape::List(_) | Shape::Map { .. }, omit) => (omit == Omit::Never).then_some(Value::Null),
    }
}

fn zero(scalar: Scalar) -> Value {
    match scalar {
        Scalar::String => "".into(),
        Scalar::Bool => false.into(),
        Scalar::Int32 | Scalar::Int64 | Scalar::Number | Scalar::IntOrString => 0.into(),
        Scalar::Quantity => "0".into(),
        Scalar::Duration => "0s".into(),
        Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::FieldsV1 => Value::Null,
    }
}

/// Whether `omitempty` drops this value.
fn vanishes(ty: Ty<'_>, native: &Native, value: &Value) -> bool {
    if native.omit == Omit::Never || native.pointer {
        return false;
    }
    match ty.shape() {
        Shape::Struct(_) | Shape::Any => false,
        Shape::List(_) | Shape::Map { .. } => is_empty_collection(value),
        Shape::Scalar(Scalar::Quantity | Scalar::IntOrString | Scalar::Time | Scalar::MicroTime) => false,
        Shape::Scalar(_) => match value {
            Value::String(text) => text.is_empty(),
            Value::Bool(b) => !b,
            Value::Number(n) => n.as_f64() == Some(0.0),
            _ => false,
        },
    }
}

fn is_empty_collection(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

fn is_collection(ty: Ty<'_>) -> bool {
    matches!(ty.shape(), Shape::List(_) | Shape::Map { .. })
}
