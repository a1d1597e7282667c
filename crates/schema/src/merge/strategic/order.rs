//! The order of merged lists.
//!
//! Items that the patch (or its `$setElementOrder` list) names stand in the order it names them; items that only the live
//! list has are put between them where the live order allows, else behind.

use serde_json::Value;

use super::{DIRECTIVE, Object, SET_ELEMENT_ORDER, below, lists, no_merge_key};
use crate::merge::PatchError;
use crate::merge::go::{go_print, go_type};
use crate::types::{Patch, Ty};

/// Merges the lists that come with a `$setElementOrder` and takes both out of the patch.
pub(super) fn ordered_lists(ty: Option<Ty<'_>>, live: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = patch.remove(&directive).unwrap_or_default();
        let order = list(order)?;
        let Some(name) = directive.strip_prefix(SET_ELEMENT_ORDER).and_then(|rest| rest.strip_prefix('/')) else {
            return Err(wrong_format());
        };
        let old = live.get(name).cloned().map(list).transpose()?;
        let (ty, strategy) = below(ty, name)?;
        if let Some(new) = patch.get(name) {
            check(new, &order, strategy.merge_key.as_deref())?;
        }
        let new = patch.get(name).cloned().map(list).transpose()?;
        if old.is_none() && new.is_none() {
            continue;
        }
        let merged = merged(ty, &strategy, old.as_ref(), new.as_ref())?;
        lists::of_maps(old.as_deref().unwrap_or_default(), new.as_deref().unwrap_or_default())?;
        let merged = arrange(merged, &order, old.as_deref().unwrap_or_default(), strategy.merge_key.as_deref())?;
        live.insert(name.to_owned(), Value::Array(merged));
        patch.remove(name);
    }
    Ok(())
}

fn merged(
    ty: Option<Ty<'_>>,
    strategy: &Patch,
    old: Option<&Vec<Value>>,
    new: Option<&Vec<Value>>,
) -> Result<Vec<Value>, PatchError> {
    match (old, new) {
        (Some(old), Some(new)) => lists::merge(ty, strategy, old.clone(), new.clone(), false),
        (Some(only), None) => Ok(only.clone()),
        (None, Some(only)) => Ok(only.iter().filter(|item| !deleted(item)).cloned().map(super::fresh).collect()),
        (None, None) => Ok(Vec::new()),
    }
}

fn list(value: Value) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(items) => Ok(items),
        other => {
            let text = format!("expected a []interface {{}}, but received a {}", go_type(&other));
            Err(PatchError::Internal(text))
        }
    }
}

fn wrong_format() -> PatchError {
    PatchError::BadRequest("invalid patch format of setElementOrder list".into())
}

fn deleted(item: &Value) -> bool {
    item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete")
}

/// The items of the patch must stand in the order list, in its order.
fn check(patch: &Value, order: &[Value], key: Option<&str>) -> Result<(), PatchError> {
    let items = patch.as_array().ok_or_else(wrong_format)?;
    let mut expected = order.iter();
    for item in items.iter().filter(|item| key.is_none() || !deleted(item)) {
        let name = name_of(item, key)?;
        let mut found = false;
        for candidate in expected.by_ref() {
            if name_of(candidate, key)? == name {
                found = true;
                break;
            }
        }
        if !found {
            let (patch, order) = (go_print(patch), go_print(&Value::Array(order.to_vec())));
            let text =
                format!("The order in patch list:\n{patch}\n doesn't match {SET_ELEMENT_ORDER} list:\n{order}\n");
            return Err(PatchError::Internal(text));
        }
    }
    Ok(())
}

/// Puts `merged` in order: what `first` names by its order, the rest by the order of `live`.
pub(super) fn arrange(
    merged: Vec<Value>,
    first: &[Value],
    live: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let first = names(first, key)?;
    let live = names(live, key)?;
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in merged {
        let name = name_of(&item, key)?.clone();
        match first.iter().position(|n| **n == name) {
            Some(place) => named.push((place, name, item)),
            None => others.push((live.iter().position(|n| **n == name).unwrap_or(usize::MAX), item)),
        }
    }
    named.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(place, _)| *place);
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, name, item) in named {
        if let Some(place) = live.iter().position(|n| **n == name) {
            while let Some((_, other)) = others.next_if(|(at, _)| *at < place) {
                arranged.push(other);
            }
        }
        arranged.push(item);
    }
    arranged.extend(others.map(|(_, item)| item));
    Ok(arranged)
}

fn names<'a>(items: &'a [Value], key: Option<&str>) -> Result<Vec<&'a Value>, PatchError> {
    items.iter().map(|item| name_of(item, key)).collect()
}

/// What an item is known by: the value under the merge key, or the scalar itself.
fn name_of<'a>(item: &'a Value, key: Option<&str>) -> Result<&'a Value, PatchError> {
    let Some(key) = key else { return Ok(item) };
    if !item.is_object() {
        let text = format!("expected a map[string]interface {{}}, but received a {}", go_type(item));
        return Err(PatchError::Internal(text));
    }
    item.get(key).ok_or_else(|| no_merge_key(item, key))
}
