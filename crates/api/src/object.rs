//! Objects as JSON: the parts of their metadata that the API itself reads and writes.

use serde_json::{Map, Value, json};

/// Reading and writing the metadata of an object.
pub(crate) trait Object {
    fn text(&self, pointer: &str) -> &str;
    /// The metadata, made if it is not there.
    fn meta_mut(&mut self) -> &mut Map<String, Value>;
    fn set_meta(&mut self, field: &str, value: impl Into<Value>);
    fn drop_meta(&mut self, field: &str);

    fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    fn resource_version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    fn finalizers(&self) -> Vec<String>;
    fn being_deleted(&self) -> bool;
}

impl Object for Value {
    fn text(&self, pointer: &str) -> &str {
        self.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn meta_mut(&mut self) -> &mut Map<String, Value> {
        map_at(self, "metadata")
    }

    fn set_meta(&mut self, field: &str, value: impl Into<Value>) {
        self.meta_mut().insert(field.to_owned(), value.into());
    }

    fn drop_meta(&mut self, field: &str) {
        self.meta_mut().remove(field);
    }

    fn finalizers(&self) -> Vec<String> {
        let list = self.pointer("/metadata/finalizers").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn being_deleted(&self) -> bool {
        self.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null())
    }
}

/// The map at `field`, made if there is none.
pub(crate) fn map_at<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    let slot = &mut value[field];
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("it was just made an object")
}

/// An object as bytes, all but its revision: the store knows that only while it commits.
///
/// The order is fixed - `{"kind":..,"apiVersion":..,"metadata":{"resourceVersion":"` and so on - so that lists can be
/// glued together from stored bytes.
#[derive(Debug)]
pub(crate) struct Encoded {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Encoded {
    pub(crate) fn of(object: &Value) -> Self {
        let empty = Map::new();
        let fields = object.as_object().unwrap_or(&empty);
        let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
        let mut head = Vec::with_capacity(128);
        head.extend(prefix(object.text("/kind"), object.text("/apiVersion")).into_bytes());
        head.extend(b"\"metadata\":{\"resourceVersion\":\"");
        let mut tail = Vec::with_capacity(1024);
        tail.push(b'"');
        write_fields(&mut tail, metadata, &["resourceVersion"]);
        tail.push(b'}');
        write_fields(&mut tail, fields, &["kind", "apiVersion", "metadata"]);
        tail.push(b'}');
        Self { head, tail }
    }

    pub(crate) fn at(&self, revision: u64) -> bytes::Bytes {
        let revision = revision.to_string();
        [self.head.as_slice(), revision.as_bytes(), self.tail.as_slice()].concat().into()
    }
}

/// How the bytes of every stored object of a kind begin.
pub(crate) fn prefix(kind: &str, api_version: &str) -> String {
    format!("{{\"kind\":{},\"apiVersion\":{},", Value::from(kind), Value::from(api_version))
}

fn write_fields(out: &mut Vec<u8>, fields: &Map<String, Value>, except: &[&str]) {
    for (key, value) in fields.iter().filter(|(key, _)| !except.contains(&key.as_str())) {
        out.push(b',');
        serde_json::to_writer(&mut *out, key).expect("writing to memory cannot fail");
        out.push(b':');
        serde_json::to_writer(&mut *out, value).expect("writing to memory cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_leaves_room_for_the_revision() {
        let object = json!({"kind": "A", "apiVersion": "v1", "metadata": {"name": "x", "resourceVersion": "1"}, "data": {"a": "b"}});
        let bytes = Encoded::of(&object).at(7);
        let mut expected = object;
        expected.set_meta("resourceVersion", "7");
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
        assert!(bytes.starts_with(prefix("A", "v1").as_bytes()));
    }
}
