//! The merge of an applied value into the live one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{as_list, as_map, keys};
use crate::managed::element::Element;
use crate::managed::place::{Atom, KeyedList, Place};

/// Everything `applied` says, and what only `live` has.
pub(in crate::managed) fn merge(place: Place<'_>, live: &Value, applied: &Value) -> Value {
    pair(place, Some(live), Some(applied)).unwrap_or_default()
}

/// Nothing where both hold nothing.
fn pair(place: Place<'_>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let atom = place.atom(if applied.is_some() { applied } else { live });
    let empty_lists = || as_list(live).is_none_or(Vec::is_empty) && as_list(applied).is_none_or(Vec::is_empty);
    let empty_maps = || as_map(live).is_none_or(Map::is_empty) && as_map(applied).is_none_or(Map::is_empty);
    match atom {
        Atom::List(list) if !empty_lists() => items(list, as_list(live), as_list(applied)),
        Atom::Map if !empty_maps() => map(place, as_map(live), as_map(applied)),
        _ => applied.or(live).cloned(),
    }
}

fn map(place: Place<'_>, live: Option<&Map<String, Value>>, applied: Option<&Map<String, Value>>) -> Option<Value> {
    let mut merged = Map::new();
    for key in keys(live, applied) {
        let below = place.field(key).unwrap_or(Place::Untyped);
        if let Some(value) = pair(below, live.and_then(|map| map.get(key)), applied.and_then(|map| map.get(key))) {
            merged.insert(key.clone(), value);
        }
    }
    (!merged.is_empty()).then_some(Value::Object(merged))
}

/// One list with the names of its items.
struct Items<'a> {
    elements: Vec<(Element, &'a Value)>,
    /// Names that stand for one item only.
    single: BTreeMap<Element, Option<&'a Value>>,
}

impl<'a> Items<'a> {
    fn new(list: KeyedList<'_>, items: Option<&'a Vec<Value>>) -> Self {
        let named = items.into_iter().flatten().filter_map(|item| Some((list.element(item).ok()?, item)));
        let elements: Vec<_> = named.collect();
        let mut single = BTreeMap::new();
        for (element, item) in &elements {
            single.entry(element.clone()).and_modify(|item| *item = None).or_insert(Some(*item));
        }
        Self { elements, single }
    }

    fn has(&self, element: &Element) -> bool {
        self.single.contains_key(element)
    }

    /// The item of that name, unless there are several.
    fn get(&self, element: &Element) -> Option<&'a Value> {
        self.single.get(element).copied().flatten()
    }
}

/// Items of both lists merge by their names. The applied items keep their order, and so do those that only the live list
/// has; these stand before the applied item that they preceded in the live list.
fn items(list: KeyedList<'_>, live: Option<&Vec<Value>>, applied: Option<&Vec<Value>>) -> Option<Value> {
    let (live, applied) = (Items::new(list, live), Items::new(list, applied));
    let mut shared = applied.elements.iter().map(|(element, _)| element).filter(|element| live.has(element));
    let mut next_shared = shared.next();
    let mut taken = BTreeSet::new();
    let mut merged = Vec::new();
    let mut lives = live.elements.iter().peekable();
    let mut applieds = applied.elements.iter().peekable();
    loop {
        match (lives.peek(), applieds.peek()) {
            (None, None) => break,
            (Some((theirs, _)), Some((ours, _))) if theirs == ours => {
                merged.extend(pair(list.item(), live.get(ours), applied.get(ours)));
                taken.insert(ours);
                lives.next();
                applieds.next();
                next_shared = shared.next();
                continue;
            }
            // Shared, but its turn comes later.
            (Some((theirs, _)), Some(_)) if applied.has(theirs) && next_shared.is_some_and(|next| next != theirs) => {
                lives.next();
                continue;
            }
            _ => {}
        }
        if let Some((element, item)) = lives.peek() {
            if !applied.has(element) {
                merged.extend(pair(list.item(), Some(item), None));
                lives.next();
                continue;
            }
            if taken.contains(element) {
                lives.next();
            }
        }
        if let Some((element, _)) = applieds.next() {
            merged.extend(pair(list.item(), live.get(element), applied.get(element)));
            taken.insert(element);
            if next_shared == Some(element) {
                next_shared = shared.next();
            }
        }
    }
    (!merged.is_empty()).then_some(Value::Array(merged))
}
