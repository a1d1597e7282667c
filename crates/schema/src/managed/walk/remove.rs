//! A value without some of its fields.

use serde_json::{Map, Value};

use crate::managed::element::Element;
use crate::managed::place::{Atom, Place};
use crate::managed::set::Set;

/// Takes the paths of `fields` out of a value, each with all that lies below it. What is emptied becomes null.
pub(in crate::managed) fn remove(place: Place<'_>, value: &Value, fields: &Set) -> Value {
    match (place.atom(Some(value)), value) {
        (Atom::List(list), Value::Array(items)) => {
            let kept = items.iter().filter_map(|item| {
                let element = list.element(item).ok();
                keep(list.item(), element.as_ref(), item, fields)
            });
            let kept: Vec<Value> = kept.collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        (Atom::Map | Atom::AtomicMap, Value::Object(map)) => {
            let mut kept = Map::new();
            for (key, value) in map {
                let below = place.field(key).unwrap_or(Place::Untyped);
                if let Some(value) = keep(below, Some(&Element::field(key)), value, fields) {
                    kept.insert(key.clone(), value);
                }
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (_, value) => value.clone(),
    }
}

fn keep(place: Place<'_>, element: Option<&Element>, value: &Value, fields: &Set) -> Option<Value> {
    let Some(node) = element.and_then(|element| fields.node(element)) else { return Some(value.clone()) };
    if node.member {
        return None;
    }
    Some(remove(place, value, &node.below))
}
