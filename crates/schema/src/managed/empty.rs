//! What an object is before its creation: the fields that are there even when nothing was written.
//!
//! A create owns what it brings into being beyond this.

use serde_json::{Map, Value, json};

use crate::kinds::Kind;
use crate::types::{Field, Native, Omit, Scalar, Shape, Ty};

/// An object of the kind that nobody has written yet. Custom resources start from nothing.
pub(super) fn object(kind: &Kind) -> Value {
    if kind.custom.is_some() {
        return json!({});
    }
    structure(kind.ty())
}

/// The zero value of a field that is always there; nothing for one that can be absent.
pub(super) fn zero(ty: Ty<'_>, field: &Field) -> Option<Value> {
    let native = field.native?;
    let below = ty.to(field.ty);
    if native.pointer || native.omit == Omit::Zero {
        return (native.omit == Omit::Never).then_some(Value::Null);
    }
    match below.shape() {
        Shape::Struct(_) => Some(structure(below)),
        Shape::Scalar(Scalar::IntOrString) => Some(json!(0)),
        Shape::Scalar(Scalar::Quantity) => Some(json!("0")),
        Shape::Scalar(Scalar::Time | Scalar::MicroTime) => Some(Value::Null),
        shape => always(native).then(|| zero_of(shape)),
    }
}

fn always(native: Native) -> bool {
    native.omit == Omit::Never
}

fn structure(ty: Ty<'_>) -> Value {
    let fields = ty.as_struct().into_iter().flat_map(|def| &def.fields);
    let fields = fields.filter_map(|(name, field)| Some((name.clone(), zero(ty, field)?)));
    Value::Object(Map::from_iter(fields))
}

fn zero_of(shape: &Shape) -> Value {
    match shape {
        Shape::Scalar(Scalar::String | Scalar::Duration) => json!(""),
        Shape::Scalar(Scalar::Bool) => json!(false),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Number) => json!(0),
        _ => Value::Null,
    }
}
