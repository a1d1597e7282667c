//! What differs between two values.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{as_list, as_map, keys};
use crate::managed::element::Element;
use crate::managed::place::{Atom, KeyedList, Place};
use crate::managed::set::{Node, Set};

/// The paths that one value has and the other has not, or has otherwise.
#[derive(Debug, Default)]
pub(in crate::managed) struct Comparison {
    pub(in crate::managed) added: Set,
    pub(in crate::managed) modified: Set,
    pub(in crate::managed) removed: Set,
}

impl Comparison {
    pub(in crate::managed) fn without(&self, fields: &Set) -> Self {
        Self {
            added: self.added.without(fields),
            modified: self.modified.without(fields),
            removed: self.removed.without(fields),
        }
    }

    /// What the newer value says that the older one does not.
    pub(in crate::managed) fn written(&self) -> Set {
        self.modified.union(&self.added)
    }
}

pub(in crate::managed) fn compare(place: Place<'_>, old: &Value, new: &Value) -> Comparison {
    let changes = changes(place, Some(old), Some(new));
    Comparison { added: changes.added.below, modified: changes.modified.below, removed: changes.removed.below }
}

/// A [`Comparison`] of one place: the place itself and all below it.
#[derive(Default)]
struct Changes {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Changes {
    fn put(&mut self, element: &Element, below: Self) {
        self.added.below.put(element.clone(), below.added);
        self.modified.below.put(element.clone(), below.modified);
        self.removed.below.put(element.clone(), below.removed);
    }

    /// Notes that a place came or went.
    fn presence(&mut self, old: Option<&Value>, new: Option<&Value>) {
        self.added.member |= old.is_none();
        self.removed.member |= new.is_none();
    }
}

fn changes(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> Changes {
    let mut changes = Changes::default();
    let (before, after) = (place.atom(old), place.atom(new));
    match (old, new) {
        (_, None) => by_atom(place, before, old, new, &mut changes),
        (Some(_), Some(_)) if !before.same_sort(&after) => {
            by_atom(place, before, old, new, &mut changes);
            by_atom(place, after, old, new, &mut changes);
        }
        _ => by_atom(place, after, old, new, &mut changes),
    }
    changes
}

fn by_atom(place: Place<'_>, atom: Atom<'_>, old: Option<&Value>, new: Option<&Value>, changes: &mut Changes) {
    let no_items = as_list(old).is_none_or(Vec::is_empty) && as_list(new).is_none_or(Vec::is_empty);
    let no_keys =
        as_map(old).is_none_or(serde_json::Map::is_empty) && as_map(new).is_none_or(serde_json::Map::is_empty);
    match atom {
        Atom::Scalar(_) | Atom::AtomicList | Atom::AtomicMap => leaf(old, new, changes),
        Atom::List(_) if no_items => leaf(old, new, changes),
        Atom::Map if no_keys => leaf(old, new, changes),
        Atom::List(list) => {
            items(list, as_list(old), as_list(new), changes);
            changes.presence(old, new);
        }
        Atom::Map => {
            let (before, after) = (as_map(old), as_map(new));
            for key in keys(before, after) {
                let below = self::changes(
                    place.field(key).unwrap_or(Place::Untyped),
                    before.and_then(|map| map.get(key)),
                    after.and_then(|map| map.get(key)),
                );
                changes.put(&Element::field(key), below);
            }
            changes.presence(old, new);
        }
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>, changes: &mut Changes) {
    match (old, new) {
        (Some(old), Some(new)) => changes.modified.member |= !same(old, new),
        _ => changes.presence(old, new),
    }
}

/// Items by their keys; the order of the list is not looked at. Items that share a key are compared as one value.
fn items(list: KeyedList<'_>, old: Option<&Vec<Value>>, new: Option<&Vec<Value>>, changes: &mut Changes) {
    let mut pairs: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in old.into_iter().flatten() {
        if let Ok(element) = list.element(item) {
            pairs.entry(element).or_default().0.push(item);
        }
    }
    for item in new.into_iter().flatten() {
        if let Ok(element) = list.element(item) {
            pairs.entry(element).or_default().1.push(item);
        }
    }
    for (element, (old, new)) in pairs {
        let item = |old: Option<&Value>, new: Option<&Value>| self::changes(list.item(), old, new);
        let mut below = match (old.as_slice(), new.as_slice()) {
            ([] | [_], [] | [_]) => item(old.first().copied(), new.first().copied()),
            ([_, _, ..], [_, _, ..]) => Changes::default(),
            ([_, _, ..], [only]) => item(None, Some(only)),
            ([only], _) => item(Some(only), None),
            _ => Changes::default(),
        };
        match (old.len() > 1, new.len() > 1) {
            (true, true) => below.modified.member |= old.len() != new.len() || !all_same(&old, &new),
            (true, false) => below.removed.member = true,
            (false, true) => below.added.member = true,
            (false, false) => {}
        }
        changes.put(&element, below);
    }
}

fn all_same(old: &[&Value], new: &[&Value]) -> bool {
    old.iter().zip(new).all(|(old, new)| same(old, new))
}

/// Equal as JSON, where 1 and 1.0 are one number.
pub(in crate::managed) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.is_f64() != b.is_f64() && a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (a, b) => a == b,
    }
}
