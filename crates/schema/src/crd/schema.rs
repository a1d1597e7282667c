//! A structural schema, read once from JSON into what the algorithms need.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use crate::types::{Arena, Field, List, ListKind, Patch, Scalar, Shape, Struct, TypeId};

/// Schemas nested deeper than this are read as "anything": definitions that deep are refused before.
const MAX_DEPTH: usize = 64;

/// One node of a structural schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// `type`; empty where it is absent.
    pub kind: String,
    pub nullable: bool,
    pub default: Option<Value>,
    /// Boxed, as a node of the map has room for eleven.
    pub properties: BTreeMap<String, Box<Schema>>,
    /// `additionalProperties` with a schema; `true` is a schema without constraints.
    pub additional: Option<Box<Schema>>,
    pub items: Option<Box<Schema>>,
    pub required: Vec<String>,
    pub preserve_unknown: bool,
    pub int_or_string: bool,
    pub embedded: bool,
    pub list_type: Option<String>,
    pub list_map_keys: Vec<String>,
    pub map_type: Option<String>,
    pub limits: Limits,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
    pub has_rules: bool,
}

/// The value validations of one node.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    pub format: String,
    pub pattern: Option<Pattern>,
    pub allowed: Vec<Value>,
    pub minimum: Option<serde_json::Number>,
    pub exclusive_minimum: bool,
    pub maximum: Option<serde_json::Number>,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<serde_json::Number>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub unique_items: bool,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Pattern {
    pub text: String,
    /// Compiled on first use: most patterns of most definitions never meet a value.
    regex: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: String) -> Self {
        Self { text, regex: OnceLock::new() }
    }

    /// Whether a text matches. What is not a pattern we can run forbids nothing: such definitions are refused before.
    pub fn allows(&self, text: &str) -> bool {
        let regex = self.regex.get_or_init(|| Regex::new(&self.text).ok());
        regex.as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

impl Schema {
    /// Reads the schema of a whole object; `apiVersion`, `kind` and `metadata` are always known at its top.
    pub fn read(json: &Value, preserve_root: bool) -> Self {
        let mut root = Self::node(json, 0);
        root.preserve_unknown |= preserve_root;
        root.embedded = true;
        root
    }

    /// Reads a part of a schema on its own.
    pub fn part(json: &Value) -> Self {
        Self::node(json, 0)
    }

    fn node(json: &Value, depth: usize) -> Self {
        if depth > MAX_DEPTH || !json.is_object() {
            return Self { preserve_unknown: true, ..Self::default() };
        }
        let below = |json: &Value| Self::node(json, depth + 1);
        let list = |json: &Value| json.as_array().into_iter().flatten().map(below).collect();
        let extension = |name: &str| &json[format!("x-kubernetes-{name}")];
        Self {
            kind: text(&json["type"]).unwrap_or_default(),
            nullable: json["nullable"] == true,
            default: json.get("default").cloned(),
            properties: json["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(k, v)| (k.clone(), Box::new(below(v))))
                .collect(),
            additional: match &json["additionalProperties"] {
                Value::Object(_) => Some(Box::new(below(&json["additionalProperties"]))),
                Value::Bool(true) => Some(Box::new(Self { preserve_unknown: true, ..Self::default() })),
                _ => None,
            },
            items: json["items"].is_object().then(|| Box::new(below(&json["items"]))),
            required: texts(&json["required"]),
            preserve_unknown: *extension("preserve-unknown-fields") == true,
            int_or_string: *extension("int-or-string") == true,
            embedded: *extension("embedded-resource") == true,
            list_type: text(extension("list-type")),
            list_map_keys: texts(extension("list-map-keys")),
            map_type: text(extension("map-type")),
            limits: Limits::read(json),
            all_of: list(&json["allOf"]),
            any_of: list(&json["anyOf"]),
            one_of: list(&json["oneOf"]),
            not: json["not"].is_object().then(|| Box::new(below(&json["not"]))),
            has_rules: extension("validations").as_array().is_some_and(|rules| !rules.is_empty()),
        }
    }

    /// The schema of a field, be it a property or an entry of a map.
    pub fn below(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).map(Box::as_ref).or(self.additional.as_deref())
    }

    /// Whether a rule stands here or anywhere below.
    pub fn any_rules(&self) -> bool {
        self.has_rules
            || self.properties.values().any(|property| property.any_rules())
            || self.additional.as_deref().is_some_and(Self::any_rules)
            || self.items.as_deref().is_some_and(Self::any_rules)
    }

    /// The same as types, for the algorithms that built-in kinds share.
    pub fn types(&self) -> (Arena, TypeId) {
        let mut arena = Arena::default();
        let string = arena.add(Shape::Scalar(Scalar::String));
        let any = arena.add(Shape::Any);
        let mut builder = Builder { arena, string, any };
        let metadata = builder.metadata();
        let root = builder.object(self, Some(metadata));
        (builder.arena, root)
    }
}

impl Limits {
    fn read(json: &Value) -> Self {
        let number = |name: &str| json[name].as_number().cloned();
        let count = |name: &str| json[name].as_u64();
        Self {
            format: text(&json["format"]).unwrap_or_default(),
            pattern: text(&json["pattern"]).map(Pattern::new),
            allowed: json["enum"].as_array().cloned().unwrap_or_default(),
            minimum: number("minimum"),
            exclusive_minimum: json["exclusiveMinimum"] == true,
            maximum: number("maximum"),
            exclusive_maximum: json["exclusiveMaximum"] == true,
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: json["uniqueItems"] == true,
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
        }
    }
}

struct Builder {
    arena: Arena,
    string: TypeId,
    any: TypeId,
}

impl Builder {
    fn add(&mut self, schema: &Schema) -> TypeId {
        if schema.int_or_string {
            return self.arena.add(Shape::Scalar(Scalar::IntOrString));
        }
        match schema.kind.as_str() {
            "string" => self.string,
            "boolean" => self.arena.add(Shape::Scalar(Scalar::Bool)),
            "integer" => self.arena.add(Shape::Scalar(Scalar::Int64)),
            "number" => self.arena.add(Shape::Scalar(Scalar::Number)),
            "array" => self.list(schema),
            "object" if schema.embedded => {
                let metadata = self.metadata();
                self.object(schema, Some(metadata))
            }
            "object" => self.object(schema, None),
            _ => self.any,
        }
    }

    fn list(&mut self, schema: &Schema) -> TypeId {
        let item = schema.items.as_deref().map_or(self.any, |items| self.add(items));
        let kind = match schema.list_type.as_deref() {
            Some("set") => ListKind::Set,
            Some("map") => ListKind::Map(schema.list_map_keys.clone()),
            _ => ListKind::Atomic,
        };
        self.arena.add(Shape::List(List { item, kind }))
    }

    /// A struct, a map, or anything, by what the schema says of its fields; `metadata` makes it a whole object.
    fn object(&mut self, schema: &Schema, metadata: Option<TypeId>) -> TypeId {
        let atomic = schema.map_type.as_deref() == Some("atomic");
        if metadata.is_none() && schema.properties.is_empty() {
            return match &schema.additional {
                Some(value) => {
                    let value = self.add(value);
                    self.arena.add(Shape::Map { value, atomic })
                }
                None if schema.preserve_unknown => self.any,
                None => self.arena.add(Shape::Struct(Struct { atomic, ..Struct::default() })),
            };
        }
        let mut fields = BTreeMap::new();
        for (name, property) in &schema.properties {
            let field = Field {
                ty: self.add(property),
                required: schema.required.contains(name),
                patch: Patch::default(),
                default: property.default.clone(),
                native: None,
            };
            fields.insert(name.clone(), field);
        }
        if let Some(metadata) = metadata {
            fields.insert("apiVersion".into(), plain(self.string));
            fields.insert("kind".into(), plain(self.string));
            fields.insert("metadata".into(), plain(metadata));
        }
        let additional = schema.additional.as_deref().map(|value| self.add(value));
        let preserve_unknown = schema.preserve_unknown;
        self.arena.add(Shape::Struct(Struct { fields, atomic, preserve_unknown, additional, ..Struct::default() }))
    }

    /// `metav1.ObjectMeta`, as far as ownership of its fields goes.
    fn metadata(&mut self) -> TypeId {
        let texts = self.arena.add(Shape::Map { value: self.string, atomic: false });
        let finalizers = self.arena.add(Shape::List(List { item: self.string, kind: ListKind::Set }));
        let boolean = self.arena.add(Shape::Scalar(Scalar::Bool));
        let integer = self.arena.add(Shape::Scalar(Scalar::Int64));
        let time = self.arena.add(Shape::Scalar(Scalar::Time));
        let string = self.string;
        let owner = [("apiVersion", string), ("kind", string), ("name", string), ("uid", string)]
            .into_iter()
            .chain([("controller", boolean), ("blockOwnerDeletion", boolean)])
            .map(|(name, ty)| (name.to_owned(), plain(ty)))
            .collect();
        let owner = self.arena.add(Shape::Struct(Struct { atomic: true, fields: owner, ..Struct::default() }));
        let owners = self.arena.add(Shape::List(List { item: owner, kind: ListKind::Map(vec!["uid".into()]) }));
        let managed = self.arena.add(Shape::List(List { item: self.any, kind: ListKind::Atomic }));
        let fields = [
            ("name", string),
            ("generateName", string),
            ("namespace", string),
            ("selfLink", string),
            ("uid", string),
            ("resourceVersion", string),
            ("generation", integer),
            ("creationTimestamp", time),
            ("deletionTimestamp", time),
            ("deletionGracePeriodSeconds", integer),
            ("labels", texts),
            ("annotations", texts),
            ("finalizers", finalizers),
            ("ownerReferences", owners),
            ("managedFields", managed),
        ];
        let fields = fields.into_iter().map(|(name, ty)| (name.to_owned(), plain(ty))).collect();
        let name = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta".to_owned();
        self.arena.add(Shape::Struct(Struct { name, fields, ..Struct::default() }))
    }
}

fn plain(ty: TypeId) -> Field {
    Field { ty, required: false, patch: Patch::default(), default: None, native: None }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}
