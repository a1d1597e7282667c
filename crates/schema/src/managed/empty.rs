//! What an object is before its creation: the fields that are there even when nothing was written.
//!
//! A create owns what it brings into being beyond this.

use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::types::{Scalar, Shape, Ty};

/// An object of the kind that nobody has written yet. Custom resources start from nothing.
pub(super) fn object(kind: &Kind) -> Value {
    if kind.custom.is_some() {
        return json!({});
    }
    structure(kind.ty())
}

fn structure(ty: Ty<'_>) -> Value {
    let mut map = Map::new();
    for (name, field) in ty.as_struct().into_iter().flat_map(|def| &def.fields) {
        let below = ty.to(field.ty);
        let always = field.required || field.default.as_ref().is_some_and(Value::is_object);
        if always {
            map.insert(name.clone(), zero(below, field.default.as_ref()));
        }
    }
    Value::Object(map)
}

fn zero(ty: Ty<'_>, default: Option<&Value>) -> Value {
    match ty.shape() {
        Shape::Struct(_) if default.is_some_and(Value::is_object) => structure(ty),
        Shape::Scalar(Scalar::String | Scalar::Bytes | Scalar::Duration) => json!(""),
        Shape::Scalar(Scalar::Bool) => json!(false),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Number | Scalar::IntOrString) => json!(0),
        _ => Value::Null,
    }
}
