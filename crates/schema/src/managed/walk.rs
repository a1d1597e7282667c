//! The walks over typed values that apply is made of: which fields a value has, what differs between two values, their
//! merge, and a value without some of its fields.

mod compare;
mod fields;
mod merge;
mod remove;

pub(super) use compare::{Comparison, compare, same};
pub(super) use fields::fields;
pub(super) use merge::merge;
pub(super) use remove::remove;

use serde_json::{Map, Value};

fn as_map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn as_list(value: Option<&Value>) -> Option<&Vec<Value>> {
    value.and_then(Value::as_array)
}

/// The keys of both maps, each once, in order.
fn keys<'a>(a: Option<&'a Map<String, Value>>, b: Option<&'a Map<String, Value>>) -> Vec<&'a String> {
    let mut keys: Vec<_> = a.into_iter().flatten().map(|(key, _)| key).collect();
    keys.extend(b.into_iter().flatten().map(|(key, _)| key).filter(|key| !a.is_some_and(|a| a.contains_key(*key))));
    keys.sort();
    keys
}
