//! Which fields a value has: what an applier owns of its own body.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{as_list, as_map};
use crate::managed::element::Element;
use crate::managed::place::{Atom, KeyedList, Place};
use crate::managed::set::{Node, Set};

pub(in crate::managed) fn fields(place: Place<'_>, value: &Value) -> Set {
    node(place, value).below
}

fn node(place: Place<'_>, value: &Value) -> Node {
    match place.atom(Some(value)) {
        Atom::Scalar(_) | Atom::AtomicList | Atom::AtomicMap => Node { member: true, below: Set::default() },
        Atom::Map => Node { member: false, below: of_map(place, value) },
        Atom::List(list) => Node { member: false, below: of_list(list, value) },
    }
}

fn of_map(place: Place<'_>, value: &Value) -> Set {
    let mut set = Set::default();
    for (name, value) in as_map(Some(value)).into_iter().flatten() {
        let mut child = node(place.field(name).unwrap_or(Place::Untyped), value);
        let holds_nothing = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
        // Keys that a user chose are owned themselves, and so is what is there but empty.
        child.member |= holds_nothing || !place.declares(name);
        set.put(Element::field(name), child);
    }
    set
}

/// Items that share a key are owned as one, without their fields.
fn of_list(list: KeyedList<'_>, value: &Value) -> Set {
    let mut items: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for item in as_list(Some(value)).into_iter().flatten() {
        if let Ok(element) = list.element(item) {
            items.entry(element).or_default().push(item);
        }
    }
    let mut set = Set::default();
    for (element, items) in items {
        let below = match items.as_slice() {
            [only] => node(list.item(), only).below,
            _ => Set::default(),
        };
        set.put(element, Node { member: true, below });
    }
    set
}
