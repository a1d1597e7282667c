//! A document becomes a value of a type, with the errors of Go's JSON decoder.
//!
//! Like Go, reading goes on after a wrong type and the first error counts. Nulls and unknown fields are dropped; empty
//! values are left for `complete`.

use serde_json::{Map, Value};
use sluice_model::quantity::Quantity;

use super::envelope::Expected;
use super::node::{Node, number};
use super::{MAX_DEPTH, base64, catalog, time};
use crate::types::{Field, Scalar, Shape, Struct, Ty, Union};

/// As many unknown and duplicate fields are noticed, then no more.
const MAX_NOTICES: usize = 100;

pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Reads a whole object.
pub(super) fn read(expected: &Expected<'_>, node: Node, mut reader: Reader<'_>) -> Result<Value, String> {
    let value = if expected.custom { reader.custom(node) } else { reader.root(expected.ty, node) };
    match reader.error {
        None => Ok(value),
        Some(text) => Err(text),
    }
}

/// Where the reader is: what errors and notices print.
pub(super) struct Reader<'n> {
    notices: &'n mut Vec<String>,
    error: Option<String>,
    /// The name of the innermost struct.
    owner: String,
    /// Names of fields alone, as errors print them.
    fields: Vec<String>,
    /// With indices and keys, as notices print them.
    path: String,
    depth: usize,
}

impl<'n> Reader<'n> {
    pub(super) fn new(notices: &'n mut Vec<String>) -> Self {
        Self { notices, error: None, owner: String::new(), fields: Vec::new(), path: String::new(), depth: 0 }
    }

    fn root(&mut self, ty: Ty<'_>, node: Node) -> Value {
        match ty.as_struct() {
            Some(def) => self.object_or_nothing(ty, def, node, ""),
            None => self.free(node),
        }
    }

    /// A custom resource: only its metadata has a type here, the rest is the business of its schema.
    fn custom(&mut self, node: Node) -> Value {
        let Node::Object(fields) = node else { return self.free(node) };
        let meta = catalog().ty(OBJECT_META).expect("the catalog holds the metadata of objects");
        let mut object = Map::new();
        for (name, value) in fields {
            self.at(&name, |reader| {
                let duplicate = object.contains_key(&name);
                reader.notice_duplicate(duplicate);
                let value = if name == "metadata" {
                    // Read on its own, so that errors know of no field above it.
                    let def = meta.as_struct().expect("metadata is a struct");
                    reader.object_or_nothing(meta, def, value, "v1.ObjectMeta")
                } else {
                    reader.free(value)
                };
                object.insert(name.clone(), value);
            });
        }
        Value::Object(object)
    }

    fn fail(&mut self, text: impl FnOnce() -> String) {
        if self.error.is_none() {
            self.error = Some(text());
        }
    }

    fn wrong(&mut self, found: &str, go: &str) {
        let place = match (self.owner.as_str(), self.fields.join(".")) {
            ("", fields) if fields.is_empty() => "value".to_owned(),
            (owner, fields) => format!("struct field {owner}.{fields}"),
        };
        self.fail(|| format!("json: cannot unmarshal {found} into Go {place} of type {go}"));
    }

    fn notice(&mut self, text: String) {
        if self.notices.len() < MAX_NOTICES && !self.notices.contains(&text) {
            self.notices.push(text);
        }
    }

    fn notice_duplicate(&mut self, duplicate: bool) {
        if duplicate {
            self.notice(format!("duplicate field \"{}\"", self.path));
        }
    }

    /// Goes to a field or key below the current place.
    fn at<T>(&mut self, name: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let done = act(self);
        self.path.truncate(before);
        done
    }

    fn at_index<T>(&mut self, index: usize, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let done = act(self);
        self.path.truncate(before);
        done
    }

    /// A value without a type: nulls stay, duplicates are noticed.
    pub(super) fn free(&mut self, node: Node) -> Value {
        match node {
            Node::Null => Value::Null,
            Node::Bool(b) => Value::Bool(b),
            Node::Number(text) => number(&text),
            Node::String(text) => Value::String(text),
            Node::Array(items) => Value::Array(
                items.into_iter().enumerate().map(|(i, item)| self.at_index(i, |r| r.free(item))).collect(),
            ),
            Node::Object(fields) => {
                let mut object = Map::new();
                for (name, value) in fields {
                    self.at(&name, |reader| {
                        reader.notice_duplicate(object.contains_key(&name));
                        object.insert(name.clone(), reader.free(value));
                    });
                }
                Value::Object(object)
            }
        }
    }

    /// The value of `node` as `ty`; `None` for a null that leaves nothing.
    fn value(&mut self, ty: Ty<'_>, node: Node, go: &str, union: Option<Union>) -> Option<Value> {
        if self.depth >= MAX_DEPTH {
            self.fail(|| "exceeded max depth".to_owned());
            return None;
        }
        self.depth += 1;
        let value = match (ty.shape(), node) {
            (Shape::Any, node) => self.any(ty, node, union),
            (_, Node::Null) => None,
            (Shape::Scalar(scalar), node) => self.scalar(*scalar, node, go),
            (Shape::Struct(def), node) => Some(self.object_or_nothing(ty, def, node, go)),
            (Shape::Map { value, .. }, Node::Object(entries)) => Some(self.map(ty.to(*value), entries, go)),
            (Shape::List(list), Node::Array(items)) => Some(self.list(ty.to(list.item), items, go)),
            (Shape::Map { .. } | Shape::List(_), node) => {
                self.wrong(node.word(), go);
                None
            }
        };
        self.depth -= 1;
        value
    }

    /// Raw JSON, or one of the two-formed fields of schemas. Their own readers notice nothing.
    fn any(&mut self, ty: Ty<'_>, node: Node, union: Option<Union>) -> Option<Value> {
        let mut unheard = Vec::new();
        let mut inner = Reader::new(&mut unheard);
        inner.depth = self.depth;
        let value = match (union, node) {
            (Some(_), Node::Null) => return None,
            (Some(Union::OrArray(schema)), Node::Array(items)) => {
                Value::Array(items.into_iter().map(|item| inner.root(ty.to(schema), item)).collect())
            }
            (
                Some(Union::OrArray(schema) | Union::OrBool(schema) | Union::OrStrings(schema)),
                node @ Node::Object(_),
            ) => inner.root(ty.to(schema), node),
            (_, node) => inner.free(node),
        };
        if let Some(text) = inner.error {
            self.fail(|| text);
        }
        Some(value)
    }

    fn object_or_nothing(&mut self, ty: Ty<'_>, def: &Struct, node: Node, go: &str) -> Value {
        match node {
            Node::Object(entries) => self.object(ty, def, entries),
            Node::Null => Value::Object(Map::new()),
            other => {
                self.wrong(other.word(), go);
                Value::Null
            }
        }
    }

    fn object(&mut self, ty: Ty<'_>, def: &Struct, entries: Vec<(String, Node)>) -> Value {
        let owner = def.name.rsplit('.').next().unwrap_or_default().to_owned();
        let outer = std::mem::replace(&mut self.owner, owner);
        let mut object = Map::new();
        let mut seen: Vec<String> = Vec::new();
        for (name, node) in entries {
            let Some(field) = def.fields.get(&name) else {
                self.at(&name, |reader| reader.notice(format!("unknown field \"{}\"", reader.path)));
                continue;
            };
            self.at(&name, |reader| {
                let duplicate = seen.contains(&name);
                reader.notice_duplicate(duplicate);
                match reader.field(ty, field, &name, node) {
                    Some(value) => drop(object.insert(name.clone(), value)),
                    None => drop(object.remove(&name)),
                }
            });
            seen.push(name);
        }
        self.owner = outer;
        Value::Object(object)
    }

    fn field(&mut self, ty: Ty<'_>, field: &Field, name: &str, node: Node) -> Option<Value> {
        let native = field.native;
        let via = native.map_or("", |n| n.via);
        let before = self.fields.len();
        if !via.is_empty() {
            self.fields.push(via.to_owned());
        }
        self.fields.push(name.to_owned());
        let below = ty.to(field.ty);
        let go = match native.map_or("", |n| n.go) {
            "" => go_name(below),
            go => go.to_owned(),
        };
        let value = self.value(below, node, &go, native.and_then(|n| n.union));
        self.fields.truncate(before);
        value
    }

    fn map(&mut self, value: Ty<'_>, entries: Vec<(String, Node)>, go: &str) -> Value {
        let go = go.strip_prefix("map[string]").map_or_else(|| go_name(value), str::to_owned);
        let mut map = Map::new();
        for (key, node) in entries {
            self.at(&key, |reader| {
                reader.notice_duplicate(map.contains_key(&key));
                let value = reader.value(value, node, &go, None).unwrap_or_else(|| empty(value));
                map.insert(key.clone(), value);
            });
        }
        Value::Object(map)
    }

    fn list(&mut self, item: Ty<'_>, items: Vec<Node>, go: &str) -> Value {
        let go = go.strip_prefix("[]").map_or_else(|| go_name(item), str::to_owned);
        let read =
            |(i, node)| self.at_index(i, |reader| reader.value(item, node, &go, None).unwrap_or_else(|| empty(item)));
        Value::Array(items.into_iter().enumerate().map(read).collect())
    }

    fn scalar(&mut self, scalar: Scalar, node: Node, go: &str) -> Option<Value> {
        match (scalar, node) {
            (Scalar::String, Node::String(text)) => Some(Value::String(text)),
            (Scalar::Bool, Node::Bool(b)) => Some(Value::Bool(b)),
            (Scalar::Int32, Node::Number(text)) => self.integer(&text, text.parse::<i32>().ok().map(Value::from), go),
            (Scalar::Int64, Node::Number(text)) => self.integer(&text, text.parse::<i64>().ok().map(Value::from), go),
            (Scalar::Number, Node::Number(text)) => Some(number(&text)),
            (Scalar::Bytes, Node::String(text)) => self.parsed(base64::canonical(&text)),
            (Scalar::IntOrString, Node::String(text)) => Some(Value::String(text)),
            (Scalar::IntOrString, Node::Number(text)) => {
                self.integer(&text, text.parse::<i32>().ok().map(Value::from), "int32")
            }
            (Scalar::IntOrString, node) => self.mistyped(&node, "int32"),
            (Scalar::Quantity, node) => self.quantity(&node),
            (Scalar::Time, Node::String(text)) => self.parsed(time::time(&text)),
            (Scalar::MicroTime, Node::String(text)) => self.parsed(time::micro_time(&text)),
            (Scalar::Duration, Node::String(text)) => self.parsed(time::duration(&text)),
            (Scalar::Time | Scalar::MicroTime | Scalar::Duration, node) => self.mistyped(&node, "string"),
            (Scalar::FieldsV1, node) => Some(Reader::new(&mut Vec::new()).free(node)),
            (_, node) => self.mistyped(&node, go),
        }
    }

    fn mistyped(&mut self, node: &Node, go: &str) -> Option<Value> {
        self.wrong(node.word(), go);
        None
    }

    fn integer(&mut self, text: &str, parsed: Option<Value>, go: &str) -> Option<Value> {
        if parsed.is_none() {
            self.wrong(&format!("number {text}"), go);
        }
        parsed
    }

    fn parsed(&mut self, result: Result<String, String>) -> Option<Value> {
        match result {
            Ok(text) => Some(Value::String(text)),
            Err(text) => {
                self.fail(|| text);
                None
            }
        }
    }

    /// Numbers and strings alike; anything else is no quantity.
    fn quantity(&mut self, node: &Node) -> Option<Value> {
        let text = match node {
            Node::String(text) | Node::Number(text) => text.trim(),
            _ => "not a quantity",
        };
        self.parsed(text.parse::<Quantity>().map(|q| q.to_string()).map_err(|e| e.to_string()))
    }
}

/// What a null becomes where something must stand: an item of a list, a value of a map.
fn empty(ty: Ty<'_>) -> Value {
    match ty.shape() {
        Shape::Struct(_) => Value::Object(Map::new()),
        Shape::Map { .. } | Shape::List(_) | Shape::Any => Value::Null,
        Shape::Scalar(scalar) => match scalar {
            Scalar::String | Scalar::Bytes => "".into(),
            Scalar::Bool => false.into(),
            Scalar::Int32 | Scalar::Int64 | Scalar::Number | Scalar::IntOrString => 0.into(),
            Scalar::Quantity => "0".into(),
            Scalar::Duration => "0s".into(),
            Scalar::Time | Scalar::MicroTime | Scalar::FieldsV1 => Value::Null,
        },
    }
}

/// The Go type of a place that has no name of its own.
fn go_name(ty: Ty<'_>) -> String {
    match ty.shape() {
        Shape::Struct(def) => {
            let mut parts = def.name.rsplit('.');
            let name = parts.next().unwrap_or_default();
            format!("{}.{name}", parts.next().unwrap_or_default())
        }
        Shape::Map { value, .. } => format!("map[string]{}", go_name(ty.to(*value))),
        Shape::List(list) => format!("[]{}", go_name(ty.to(list.item))),
        Shape::Any => "runtime.RawExtension".to_owned(),
        Shape::Scalar(scalar) => match scalar {
            Scalar::String => "string",
            Scalar::Bool => "bool",
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Number => "float64",
            Scalar::Bytes => "[]uint8",
            Scalar::Quantity => "resource.Quantity",
            Scalar::IntOrString => "intstr.IntOrString",
            Scalar::Time => "v1.Time",
            Scalar::MicroTime => "v1.MicroTime",
            Scalar::Duration => "v1.Duration",
            Scalar::FieldsV1 => "v1.FieldsV1",
        }
        .to_owned(),
    }
}
