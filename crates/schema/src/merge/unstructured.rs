//! What does not fit a Go type, in the words of the conversion that a real API server uses after a strategic merge patch and
//! after an apply. (A body that comes as JSON is refused in other words: see `decode`.)

use serde_json::Value;
use sluice_model::quantity::Quantity;

use super::go::go_type;
use crate::decode::canonical_base64;
use crate::types::{Field, Scalar, Shape, Ty};

/// The first thing in `object` that cannot become a value of `ty`. Unknown fields are no fault.
pub fn unstructured_fault(ty: Ty<'_>, object: &Value) -> Option<String> {
    fault(ty, None, object)
}

fn fault(ty: Ty<'_>, field: Option<&Field>, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match ty.shape() {
        Shape::Struct(def) => {
            let Value::Object(map) = value else { return Some(format!("cannot restore struct from: {}", sort(value))) };
            map.iter().find_map(|(name, value)| {
                let field = def.fields.get(name)?;
                fault(ty.to(field.ty), Some(field), value)
            })
        }
        Shape::Map { value: item, .. } => {
            let Value::Object(map) = value else { return Some(format!("cannot restore map from {}", sort(value))) };
            map.values().find_map(|value| fault(ty.to(*item), None, value))
        }
        Shape::List(list) => {
            let Value::Array(items) = value else { return Some(format!("cannot restore slice from {}", sort(value))) };
            items.iter().find_map(|value| fault(ty.to(list.item), None, value))
        }
        Shape::Scalar(scalar) => scalar_fault(*scalar, field, value),
        Shape::Any => None,
    }
}

/// Times, durations and ints-or-strings are left to the decoding that follows.
fn scalar_fault(scalar: Scalar, field: Option<&Field>, value: &Value) -> Option<String> {
    let (fits, plain) = match scalar {
        Scalar::String => (value.is_string(), "string"),
        Scalar::Bool => (value.is_boolean(), "bool"),
        Scalar::Int32 => (is_whole(value), "int32"),
        Scalar::Int64 => (is_whole(value), "int64"),
        Scalar::Number => (value.is_number(), "float64"),
        Scalar::Bytes => return bytes_fault(value),
        Scalar::Quantity => return quantity_fault(value),
        Scalar::IntOrString | Scalar::Time | Scalar::MicroTime | Scalar::Duration | Scalar::FieldsV1 => return None,
    };
    if fits {
        return None;
    }
    // Only numbers become something else at all, and of these only whole ones become text.
    let convertible = match scalar {
        Scalar::String => value.is_i64() || value.is_u64(),
        _ => value.is_number(),
    };
    if !convertible || scalar == Scalar::Bool {
        return Some(format!("unrecognized type: {plain}"));
    }
    let named = field.and_then(|field| field.native).map(|native| native.go).filter(|name| !name.is_empty());
    Some(format!("cannot convert {} to {}", go_type(value), named.unwrap_or(plain)))
}

fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|float| float.fract() == 0.0)
}

fn bytes_fault(value: &Value) -> Option<String> {
    let Value::String(text) = value else { return Some(format!("cannot restore slice from {}", sort(value))) };
    canonical_base64(text).err().map(|why| format!("error decoding from json: {why}"))
}

fn quantity_fault(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return Some(format!("cannot restore struct from: {}", sort(other))),
    };
    text.parse::<Quantity>().err().map(|why| why.to_string())
}

/// The name of what Go's reflection calls the kind of a value.
fn sort(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
        scalar => go_type(scalar),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Catalog;

    #[track_caller]
    fn check(kind: &str, object: &Value, expected: Option<&str>) {
        let kind = Catalog::builtin().kind("", "v1", kind).expect("a built-in kind");
        assert_eq!(unstructured_fault(kind.ty(), object).as_deref(), expected, "{object}");
    }

    #[test]
    fn the_first_misfit_is_named_as_go_names_it() {
        check("ConfigMap", &json!({"data": {"a": "1"}, "nope": 1}), None);
        check("ConfigMap", &json!({"data": "x"}), Some("cannot restore map from string"));
        check("ConfigMap", &json!({"data": {"a": 5}}), Some("cannot convert int64 to string"));
        check("Pod", &json!({"spec": {"containers": "x"}}), Some("cannot restore slice from string"));
        check("Pod", &json!({"spec": "x"}), Some("cannot restore struct from: string"));
        check("Pod", &json!({"spec": {"priority": 1.5}}), Some("cannot convert float64 to int32"));
        check("Pod", &json!({"spec": {"priority": 1.0}}), None);
        check("Pod", &json!({"spec": {"priority": "1"}}), Some("unrecognized type: int32"));
        check("Pod", &json!({"spec": {"hostNetwork": 1}}), Some("unrecognized type: bool"));
        check("Pod", &json!({"spec": {"hostname": ["a"]}}), Some("unrecognized type: string"));
        check("Pod", &json!({"spec": {"dnsPolicy": 1}}), Some("cannot convert int64 to v1.DNSPolicy"));
        let base64 = "error decoding from json: illegal base64 data at input byte 3";
        check("Secret", &json!({"data": {"a": "not base64!"}}), Some(base64));
        let rule = "quantities must match the regular expression \
                    '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
        check("Pod", &json!({"spec": {"overhead": {"cpu": "banana"}}}), Some(rule));
    }
}
