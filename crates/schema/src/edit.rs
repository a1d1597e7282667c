//! Short ways to change a JSON object field by field. Everything that is no object, or not there, stays as it is.

use serde_json::{Map, Value};

pub(crate) trait Edit {
    fn fields(&mut self) -> Option<&mut Map<String, Value>>;

    /// Sets a field that is absent, null or an empty text.
    fn default(&mut self, field: &str, value: impl Into<Value>);

    fn put(&mut self, field: &str, value: impl Into<Value>);

    /// Takes a field away.
    fn cut(&mut self, field: &str) -> Option<Value>;

    /// The object in a field, if it has one.
    fn child(&mut self, field: &str) -> Option<&mut Value>;

    /// The object in a field, made if it has none.
    fn ensure(&mut self, field: &str) -> &mut Value;

    /// The items of the list in a field.
    fn each(&mut self, field: &str) -> std::slice::IterMut<'_, Value>;

    /// The text in a field, `""` if there is none.
    fn text(&self, field: &str) -> &str;

    fn has(&self, field: &str) -> bool;

    /// Whether the field holds anything but its zero value.
    fn holds(&self, field: &str) -> bool;
}

impl Edit for Value {
    fn fields(&mut self) -> Option<&mut Map<String, Value>> {
        self.as_object_mut()
    }

    fn default(&mut self, field: &str, value: impl Into<Value>) {
        if !self.has(field) || self.get(field).is_some_and(|found| found == "") {
            self.put(field, value);
        }
    }

    fn put(&mut self, field: &str, value: impl Into<Value>) {
        if let Some(fields) = self.fields() {
            fields.insert(field.to_owned(), value.into());
        }
    }

    fn cut(&mut self, field: &str) -> Option<Value> {
        self.fields()?.remove(field)
    }

    fn child(&mut self, field: &str) -> Option<&mut Value> {
        self.fields()?.get_mut(field).filter(|value| value.is_object())
    }

    fn ensure(&mut self, field: &str) -> &mut Value {
        if self.child(field).is_none() {
            self.put(field, Value::Object(Map::new()));
        }
        &mut self[field]
    }

    fn each(&mut self, field: &str) -> std::slice::IterMut<'_, Value> {
        match self.fields().and_then(|fields| fields.get_mut(field)) {
            Some(Value::Array(items)) => items.iter_mut(),
            _ => [].iter_mut(),
        }
    }

    fn text(&self, field: &str) -> &str {
        self.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn has(&self, field: &str) -> bool {
        self.get(field).is_some_and(|value| !value.is_null())
    }

    fn holds(&self, field: &str) -> bool {
        match self.get(field) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
        }
    }
}
