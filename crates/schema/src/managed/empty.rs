//! What an object is before its creation: the fields that are there even when nothing was written.
//!
//! A create owns what it brings into being beyond this.

use serde_json::{Value, json};

use crate::decode::complete;
use crate::kinds::Kind;
use crate::types::{Field, Omit, Scalar, Shape, Ty};

/// An object of the kind that nobody has written yet. Custom resources start from nothing.
pub(super) fn object(kind: &Kind) -> Value {
    let mut object = json!({});
    complete(kind, &mut object);
    object
}

/// What a key of a list item is when the item does not say it, because its field is always there.
pub(super) fn key(ty: Ty<'_>, field: &Field) -> Option<Value> {
    field.native.filter(|native| !native.pointer && native.omit == Omit::Never)?;
    match ty.to(field.ty).shape() {
        Shape::Scalar(Scalar::String) => Some(json!("")),
        Shape::Scalar(Scalar::Bool) => Some(json!(false)),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Number) => Some(json!(0)),
        _ => None,
    }
}
