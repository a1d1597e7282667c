//! Reads the generated text. It is part of the program, so a line that cannot be read is a bug and panics.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Catalog;
use crate::kinds::{GroupVersionKind, Kind, Subresource};
use crate::types::{Arena, Field, List, ListKind, Native, Omit, Patch, Scalar, Shape, Struct, TypeId, Union};

pub(crate) const TYPES: &str = include_str!("../../data/types.txt");
pub(crate) const KINDS: &str = include_str!("../../data/kinds.txt");
const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

pub(super) fn load() -> Catalog {
    let mut reader = Types::default();
    reader.declare();
    reader.define();
    let arena = Arc::new(reader.arena);
    let (kinds, bodies) = kinds(&arena, &reader.names);
    let types = reader.names.into_iter().map(|(name, id)| (name.to_owned(), id)).collect();
    Catalog { arena, kinds, bodies, types }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

/// The arena while it grows; equal shapes without a name are kept once.
#[derive(Default)]
struct Types {
    arena: Arena,
    names: HashMap<&'static str, TypeId>,
    shapes: HashMap<String, TypeId>,
}

impl Types {
    /// Gives every struct its place first, so that types can refer to each other in any order.
    fn declare(&mut self) {
        for line in lines(TYPES) {
            if let Some(head) = line.strip_prefix("@ ") {
                let name = head.split(' ').next().expect("a type has a name");
                let id = self.arena.add(Shape::Any);
                self.names.insert(name, id);
            }
        }
    }

    fn define(&mut self) {
        let mut open: Option<(TypeId, Struct)> = None;
        for line in lines(TYPES) {
            if let Some(head) = line.strip_prefix("@ ") {
                self.close(open.take());
                open = Some(self.head(head));
            } else {
                let (name, field) = self.field(line);
                let (_, def) = open.as_mut().expect("fields follow the line of their type");
                def.fields.insert(name.to_owned(), field);
            }
        }
        self.close(open);
    }

    fn close(&mut self, finished: Option<(TypeId, Struct)>) {
        if let Some((id, def)) = finished {
            self.arena.types[id.0 as usize] = Shape::Struct(def);
        }
    }

    fn head(&self, head: &'static str) -> (TypeId, Struct) {
        let mut words = head.split(' ');
        let name = words.next().expect("a type has a name");
        let mut def = Struct { name: name.to_owned(), ..Struct::default() };
        for word in words {
            match word.strip_prefix("inline=").and_then(|rest| rest.split_once(':')) {
                Some((tag, inner)) => def.inlines.push((number(tag), self.names[inner])),
                None => def.atomic = word == "atomic",
            }
        }
        (self.names[name], def)
    }

    fn field(&mut self, line: &'static str) -> (&'static str, Field) {
        let (line, default) = match line.split_once(" default=") {
            Some((line, json)) => (line, Some(serde_json::from_str(json).expect("defaults are JSON"))),
            None => (line, None),
        };
        let mut words = line.split(' ');
        let mut next = || words.next().expect("a field has a name, a tag and a shape");
        let (name, tag, shape) = (next(), number(next()), next());
        let mut native = Native { tag, pointer: false, omit: Omit::Never, go: "", via: "", union: self.union(shape) };
        let mut field = Field { ty: TypeId(0), required: false, patch: Patch::default(), default, native: None };
        let mut list = None;
        for word in words {
            match word.split_once('=') {
                None if word == "*" => native.pointer = true,
                None if word == "e" => native.omit = Omit::Empty,
                None if word == "z" => native.omit = Omit::Zero,
                None if word == "r" => field.required = true,
                Some(("go", go)) => native.go = go,
                Some(("via", via)) => native.via = via,
                Some(("list", kind)) => list = Some(kind),
                Some(("patch", text)) => field.patch = patch(text),
                _ => panic!("a field cannot carry `{word}`"),
            }
        }
        field.native = Some(native);
        field.ty = self.shape(shape, list);
        (name, field)
    }

    fn union(&self, shape: &str) -> Option<Union> {
        let schema = || self.names[SCHEMA];
        match shape.trim_start_matches("{}") {
            "schemaOrArray" => Some(Union::OrArray(schema())),
            "schemaOrBool" => Some(Union::OrBool(schema())),
            "schemaOrStrings" => Some(Union::OrStrings(schema())),
            _ => None,
        }
    }

    fn shape(&mut self, text: &'static str, list: Option<&str>) -> TypeId {
        if let Some(name) = text.strip_prefix('@') {
            let id = self.names[name];
            // A field may be atomic where its type is not; none of the built-in ones is.
            assert!(list.is_none(), "`{text}` cannot be `{list:?}`");
            return id;
        }
        let key = format!("{text} {}", list.unwrap_or_default());
        if let Some(id) = self.shapes.get(&key) {
            return *id;
        }
        let shape = if let Some(item) = text.strip_prefix("[]") {
            Shape::List(List { item: self.shape(item, None), kind: list_kind(list) })
        } else if let Some(value) = text.strip_prefix("{}") {
            Shape::Map { value: self.shape(value, None), atomic: list == Some("atomic") }
        } else {
            scalar(text)
        };
        let id = self.arena.add(shape);
        self.shapes.insert(key, id);
        id
    }
}

fn number(text: &str) -> u32 {
    text.parse().expect("tags are numbers")
}

fn list_kind(text: Option<&str>) -> ListKind {
    match text {
        None | Some("atomic") => ListKind::Atomic,
        Some("set") => ListKind::Set,
        Some(text) => {
            let keys = text.strip_prefix("map:").expect("lists are atomic, sets or maps");
            ListKind::Map(keys.split(',').map(str::to_owned).collect())
        }
    }
}

fn patch(text: &str) -> Patch {
    let (strategies, key) = text.split_once(':').expect("a strategy and a key, either may be empty");
    let has = |name| strategies.split(',').any(|s| s == name);
    let merge_key = (!key.is_empty()).then(|| key.to_owned());
    Patch { merge: has("merge"), retain_keys: has("retainKeys"), replace: has("replace"), merge_key }
}

fn scalar(text: &str) -> Shape {
    Shape::Scalar(match text {
        "string" => Scalar::String,
        "bool" => Scalar::Bool,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "float64" => Scalar::Number,
        "bytes" => Scalar::Bytes,
        "quantity" => Scalar::Quantity,
        "intOrString" => Scalar::IntOrString,
        "time" => Scalar::Time,
        "microTime" => Scalar::MicroTime,
        "duration" => Scalar::Duration,
        "fieldsV1" => Scalar::FieldsV1,
        "raw" | "json" | "schemaOrArray" | "schemaOrBool" | "schemaOrStrings" => return Shape::Any,
        _ => panic!("`{text}` is no shape"),
    })
}

type Bodies = Vec<(GroupVersionKind, TypeId)>;

fn kinds(arena: &Arc<Arena>, names: &HashMap<&'static str, TypeId>) -> (Vec<Arc<Kind>>, Bodies) {
    let mut kinds: Vec<Kind> = Vec::new();
    let mut bodies = Vec::new();
    for line in lines(KINDS) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["kind", gv, kind, plural, singular, scope, ty, verbs, rest @ ..] => {
                let (group, version) = group_version(gv);
                let rest: BTreeMap<&str, &str> = rest.iter().filter_map(|word| word.split_once('=')).collect();
                let (storage_group, storage_version) = rest["storage"].split_once('/').expect("a group and a version");
                kinds.push(Kind {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    kind: (*kind).to_owned(),
                    list_kind: format!("{kind}List"),
                    plural: (*plural).to_owned(),
                    singular: (*singular).to_owned(),
                    short_names: rest.get("short").map(|text| split(text)).unwrap_or_default(),
                    categories: rest.get("categories").map(|text| split(text)).unwrap_or_default(),
                    namespaced: *scope == "namespaced",
                    verbs: split(verbs),
                    subresources: Vec::new(),
                    storage_version_hash: rest.get("hash").map(ToString::to_string).unwrap_or_default(),
                    storage_version: storage_version.to_owned(),
                    storage_group: storage_group.to_owned(),
                    arena: Arc::clone(arena),
                    root: names[ty],
                    custom: None,
                });
            }
            ["sub", name, gv, kind, verbs] => {
                let (group, version) = if *gv == "-" { ("", "") } else { group_version(gv) };
                kinds.last_mut().expect("subresources follow their kind").subresources.push(Subresource {
                    name: (*name).to_owned(),
                    group: group.to_owned(),
                    version: version.to_owned(),
                    kind: (*kind).to_owned(),
                    verbs: split(verbs),
                });
            }
            ["body", gv, kind, ty] => {
                let (group, version) = group_version(gv);
                let gvk =
                    GroupVersionKind { group: group.to_owned(), version: version.to_owned(), kind: (*kind).to_owned() };
                bodies.push((gvk, names[ty]));
            }
            _ => panic!("`{line}` is no line of kinds"),
        }
    }
    (kinds.into_iter().map(Arc::new).collect(), bodies)
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn group_version(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("", text))
}
