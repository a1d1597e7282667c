//! Where validation is: a value and the path that leads to it.

use std::fmt;
use std::rc::Rc;

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// A value (null where the object has none) and its path. Cheap to clone; the path is only written out for a fault.
#[derive(Clone)]
pub(crate) struct At<'v> {
    pub(crate) value: &'v Value,
    path: Path<'v>,
}

#[derive(Clone, Default)]
struct Path<'v>(Option<Rc<Step<'v>>>);

struct Step<'v> {
    parent: Path<'v>,
    segment: Segment<'v>,
}

enum Segment<'v> {
    Field(&'v str),
    Index(usize),
    Key(&'v str),
}

impl<'v> At<'v> {
    pub(crate) fn root(value: &'v Value) -> Self {
        Self { value, path: Path::default() }
    }

    /// The field `name`, which may be absent.
    pub(crate) fn get(&self, name: &'v str) -> Self {
        self.step(self.value.get(name).unwrap_or(&NULL), Segment::Field(name))
    }

    /// The field below several others.
    pub(crate) fn dig(&self, names: &[&'v str]) -> Self {
        names.iter().fold(self.clone(), |at, name| at.get(name))
    }

    /// The entry `key` of a map, written `path[key]`.
    pub(crate) fn key(&self, key: &'v str) -> Self {
        self.step(self.value.get(key).unwrap_or(&NULL), Segment::Key(key))
    }

    /// The same path with another value.
    pub(crate) fn with(&self, value: &'v Value) -> Self {
        Self { value, path: self.path.clone() }
    }

    /// The items of a list, none if there is no list.
    pub(crate) fn items(&self) -> impl ExactSizeIterator<Item = Self> + use<'v> {
        let path = self.path.clone();
        self.list().iter().enumerate().map(move |(index, value)| Self {
            value,
            path: Path(Some(Rc::new(Step { parent: path.clone(), segment: Segment::Index(index) }))),
        })
    }

    /// The entries of a map in the order of their keys.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'v str, Self)> + use<'v> {
        let path = self.path.clone();
        let map = self.value.as_object();
        map.into_iter().flatten().map(move |(key, value)| {
            let at =
                Self { value, path: Path(Some(Rc::new(Step { parent: path.clone(), segment: Segment::Key(key) }))) };
            (key.as_str(), at)
        })
    }

    fn step(&self, value: &'v Value, segment: Segment<'v>) -> Self {
        Self { value, path: Path(Some(Rc::new(Step { parent: self.path.clone(), segment }))) }
    }

    pub(crate) fn path(&self) -> String {
        self.path.to_string()
    }

    // ---- the value in Go's eyes: what is absent is zero ----

    /// Whether the field is there at all.
    pub(crate) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether the field is absent, `""`, `0`, `false`, or has no entries.
    pub(crate) fn is_zero(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
        }
    }

    pub(crate) fn str(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }

    pub(crate) fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub(crate) fn int_or(&self, absent: i64) -> i64 {
        self.int().unwrap_or(absent)
    }

    pub(crate) fn bool(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }

    pub(crate) fn list(&self) -> &'v [Value] {
        self.value.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn map(&self) -> Option<&'v Map<String, Value>> {
        self.value.as_object()
    }

    /// The field `name` as text, `""` if there is none.
    pub(crate) fn text(&self, name: &str) -> &'v str {
        self.value.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some_and(|value| !value.is_null())
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(step) = &self.0 else { return Ok(()) };
        step.parent.fmt(f)?;
        match step.segment {
            Segment::Field(name) if step.parent.0.is_none() => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[{key}]"),
        }
    }
}
