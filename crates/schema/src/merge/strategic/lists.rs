//! Lists in a strategic merge patch: replaced, merged as sets of scalars, or merged by a key.

use serde_json::Value;

use super::{DIRECTIVE, merge_map, no_merge_key, order, unknown_directive};
use crate::merge::PatchError;
use crate::merge::go::{go_print, go_type};
use crate::types::{Patch, Ty};

/// Merges the list `patch` into `live`; `deletes` says that it came by `$deleteFromPrimitiveList`.
pub(super) fn merge(
    ty: Option<Ty<'_>>,
    strategy: &Patch,
    live: Vec<Value>,
    patch: Vec<Value>,
    deletes: bool,
) -> Result<Vec<Value>, PatchError> {
    if !strategy.merge && !deletes {
        return Ok(patch);
    }
    if live.is_empty() && patch.is_empty() {
        return Ok(live);
    }
    if !of_maps(&live, &patch)? {
        return Ok(merge_scalars(live, &patch, deletes));
    }
    let Some(key) = strategy.merge_key.as_deref() else {
        let name = ty.and_then(Ty::item).and_then(Ty::as_struct).map_or("", |def| def.name.as_str());
        let name = name.rsplit('.').next().unwrap_or_default();
        return Err(PatchError::Internal(format!("cannot merge lists without merge key for {name}")));
    };
    let (live, patch) = apply_item_directives(live, patch, key)?;
    let merged = merge_items(ty.and_then(Ty::item), live.clone(), &patch, key)?;
    order::arrange(merged, &patch, &live, Some(key))
}

/// Whether the items are maps; all items of both lists must be of one type.
pub(super) fn of_maps(live: &[Value], patch: &[Value]) -> Result<bool, PatchError> {
    let mut types = live.iter().chain(patch).map(go_type);
    let Some(first) = types.next() else {
        return Err(PatchError::Internal("no elements in any of the given slices".into()));
    };
    if first == "[]interface {}" {
        return Err(PatchError::Rejected { why: "lists of lists are not supported".into() });
    }
    if types.any(|t| t != first) {
        let (live, patch) = (go_print(&Value::Array(live.to_vec())), go_print(&Value::Array(patch.to_vec())));
        return Err(PatchError::Internal(format!("list element types are not identical: [{live} {patch}]")));
    }
    Ok(first == "map[string]interface {}")
}

fn merge_scalars(live: Vec<Value>, patch: &[Value], deletes: bool) -> Vec<Value> {
    if deletes {
        return live.into_iter().filter(|value| !patch.contains(value)).collect();
    }
    let mut merged: Vec<Value> = Vec::new();
    for value in live.iter().chain(patch) {
        if !merged.contains(value) {
            merged.push(value.clone());
        }
    }
    order::arrange(merged, patch, &live, None).expect("scalars have no merge key that could be missing")
}

/// Takes the items with `$patch` out of the patch and does what they say to the live list.
fn apply_item_directives(
    mut live: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut replaces = false;
    let mut plain = Vec::new();
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let name = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                live.retain(|other| other.get(key) != Some(name));
            }
            Some("replace") => replaces = true,
            Some("merge") => {
                return Err(PatchError::Internal("merging lists cannot yet be specified in the patch".into()));
            }
            _ => {
                let item = item.as_object().cloned().unwrap_or_default();
                return Err(unknown_directive(directive, &item));
            }
        }
    }
    if replaces { Ok((plain, Vec::new())) } else { Ok((live, plain)) }
}

fn merge_items(ty: Option<Ty<'_>>, mut live: Vec<Value>, patch: &[Value], key: &str) -> Result<Vec<Value>, PatchError> {
    for item in patch {
        let name = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        let new = item.as_object().cloned().unwrap_or_default();
        match live.iter_mut().find(|other| other.get(key) == Some(name)) {
            Some(Value::Object(old)) => {
                let merged = merge_map(ty, std::mem::take(old), new)?;
                *old = merged;
            }
            _ => live.push(super::fresh(item.clone())),
        }
    }
    Ok(live)
}
