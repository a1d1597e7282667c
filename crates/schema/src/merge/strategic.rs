//! Strategic merge patch: a merge patch that knows which lists are merged by a key, with directives in the patch.
//!
//! | directive | where | meaning |
//! | --- | --- | --- |
//! | `$patch: replace` / `delete` | in a map, or in an item of a merged list | replace, empty, or take the item out |
//! | `$retainKeys: [..]` | in a map | drop the live keys that are not named |
//! | `$deleteFromPrimitiveList/f: [..]` | beside `f` | take values out of a list of scalars |
//! | `$setElementOrder/f: [..]` | beside `f` | the order of the merged list |

mod lists;
mod order;

use serde_json::{Map, Value};

use super::PatchError;
use super::go::{go_print, go_type};
use crate::types::{Patch, Shape, Ty};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_PRIMITIVE_LIST: &str = "$deleteFromPrimitiveList";
const SET_ELEMENT_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Merges `patch` into `target`, which is a value of the type `ty`. Null changes nothing.
pub fn strategic(ty: Ty<'_>, target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let patch = match patch {
        Value::Null => return Ok(()),
        Value::Object(patch) => patch.clone(),
        other => {
            let found = if other.is_array() { "array" } else { go_type(other) };
            let text = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
            return Err(PatchError::BadRequest(text));
        }
    };
    let live = target.as_object_mut().map(std::mem::take).unwrap_or_default();
    *target = Value::Object(merge_map(Some(ty), live, patch)?);
    Ok(())
}

/// Merges two maps. `ty` is unknown below what the types do not describe; there maps merge and lists are replaced.
fn merge_map(ty: Option<Ty<'_>>, mut live: Object, mut patch: Object) -> Result<Object, PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut live, &mut patch)?;
    order::ordered_lists(ty, &mut live, &mut patch)?;
    for (key, value) in patch {
        merge_key(ty, &mut live, key, value)?;
    }
    Ok(live)
}

fn merge_key(ty: Option<Ty<'_>>, live: &mut Object, key: String, value: Value) -> Result<(), PatchError> {
    let (key, deletes) = match key.strip_prefix(DELETE_FROM_PRIMITIVE_LIST) {
        None => (key, false),
        Some(rest) => match rest.strip_prefix('/') {
            None => return Err(PatchError::BadRequest("invalid patch format of primitive list".into())),
            Some("") => return Ok(()),
            Some(name) => (name.to_owned(), true),
        },
    };
    if value.is_null() {
        live.remove(&key);
        return Ok(());
    }
    let Some(old) = live.get_mut(&key) else {
        if !deletes {
            live.insert(key, fresh(value));
        }
        return Ok(());
    };
    match (old, value) {
        (Value::Object(old), Value::Object(new)) => {
            let (ty, strategy) = below(ty, &key)?;
            let old = std::mem::take(old);
            let merged = if strategy.replace { new } else { merge_map(ty, old, new)? };
            live.insert(key, Value::Object(merged));
        }
        (Value::Array(old), Value::Array(new)) => {
            let (ty, strategy) = below(ty, &key)?;
            let old = std::mem::take(old);
            let merged = lists::merge(ty, &strategy, old, new, deletes)?;
            live.insert(key, Value::Array(merged));
        }
        (old, new) if same_scalar_type(old, &new) => *old = new,
        (old, new) if !deletes => *old = fresh(new),
        _ => {}
    }
    Ok(())
}

fn same_scalar_type(a: &Value, b: &Value) -> bool {
    go_type(a) == go_type(b)
}

/// The type and merge strategy of what stands below `key`.
fn below<'a>(ty: Option<Ty<'a>>, key: &str) -> Result<(Option<Ty<'a>>, Patch), PatchError> {
    let Some(ty) = ty else { return Ok((None, Patch::default())) };
    if let Some(field) = ty.field_def(key) {
        return Ok((Some(ty.to(field.ty)), field.patch.clone()));
    }
    match ty.shape() {
        Shape::Struct(def) if def.additional.is_none() && !def.preserve_unknown => {
            let name = def.name.rsplit('.').next().unwrap_or_default();
            let text = format!("unable to find api field in struct {name} for the json field {key:?}");
            Err(PatchError::Internal(text))
        }
        _ => Ok((ty.field(key), Patch::default())),
    }
}

fn retain_keys(live: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let wrong = || PatchError::BadRequest("invalid patch format of retainKeys".into());
    let keys = keys.as_array().ok_or_else(wrong)?;
    let retained = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    let exempt = |key: &str| key.starts_with(DELETE_FROM_PRIMITIVE_LIST) || key.starts_with(SET_ELEMENT_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !exempt(key) && !retained(key)) {
        return Err(wrong());
    }
    live.retain(|key, _| retained(key));
    Ok(())
}

/// A part of the patch that meets nothing in the live object: without nulls and directives.
fn fresh(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let is_directive = |key: &str| {
                key == DIRECTIVE
                    || key == RETAIN_KEYS
                    || key.starts_with(DELETE_FROM_PRIMITIVE_LIST)
                    || key.starts_with(SET_ELEMENT_ORDER)
            };
            let kept = map.into_iter().filter(|(key, value)| !value.is_null() && !is_directive(key));
            Value::Object(kept.map(|(key, value)| (key, fresh(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(fresh).collect()),
        scalar => scalar,
    }
}

fn unknown_directive(directive: &Value, patch: &Object) -> PatchError {
    let printed = match directive {
        Value::String(text) => text.clone(),
        Value::Null => "%!s(<nil>)".to_owned(),
        other if other.is_array() || other.is_object() => go_print(other),
        other => format!("%!s({}={})", go_type(other), go_print(other)),
    };
    let patch = go_print(&Value::Object(patch.clone()));
    PatchError::Internal(format!("unknown patch type: {printed} in map: {patch}"))
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    PatchError::Internal(format!("map: {} does not contain declared merge key: {key}", go_print(item)))
}
