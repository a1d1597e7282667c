//! The schemas of a document: every type that its kinds are made of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Dialect;
use super::prose::Prose;
use crate::Catalog;
use crate::crd::Custom;
use crate::kinds::Kind;
use crate::types::{Field, ListKind, Omit, Scalar, Shape, Struct, Ty, Union};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
const RAW: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

pub(super) struct Schemas<'p> {
    dialect: Dialect,
    prose: &'p Prose,
    done: Map<String, Value>,
    /// Types that were referred to and are still to be described.
    open: BTreeSet<String>,
    /// Which kinds a type is.
    kinds: BTreeMap<String, Vec<Value>>,
}

/// The name under which a kind is published: of its Go type, or for custom resources its group backwards.
pub(super) fn published(kind: &Kind) -> String {
    match kind.ty().as_struct() {
        Some(def) if kind.custom.is_none() => def.name.clone(),
        _ => custom_name(kind, &kind.kind),
    }
}

pub(super) fn published_list(kind: &Kind) -> String {
    match &kind.custom {
        None => format!("{}List", published(kind)),
        Some(_) => custom_name(kind, &kind.list_kind),
    }
}

fn custom_name(kind: &Kind, name: &str) -> String {
    let backwards: Vec<&str> = kind.group.rsplit('.').collect();
    format!("{}.{}.{name}", backwards.join("."), kind.version)
}

fn gvk(kind: &Kind, name: &str) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": name})
}

impl<'p> Schemas<'p> {
    pub(super) fn new(dialect: Dialect, prose: &'p Prose) -> Self {
        let mut schemas = Self { dialect, prose, done: Map::new(), open: BTreeSet::new(), kinds: BTreeMap::new() };
        for name in ["Status", "DeleteOptions", "Patch"] {
            schemas.open.insert(format!("{META}.{name}"));
        }
        schemas.kinds.insert(format!("{META}.Status"), vec![json!({"group": "", "version": "v1", "kind": "Status"})]);
        schemas
    }

    pub(super) fn add_kind(&mut self, kind: &Kind) {
        let options = json!({"group": kind.group, "version": kind.version, "kind": "DeleteOptions"});
        let known = self.kinds.entry(format!("{META}.DeleteOptions")).or_default();
        if !known.contains(&options) {
            known.push(options);
        }
        let (name, list) = (published(kind), published_list(kind));
        self.kinds.entry(name.clone()).or_default().push(gvk(kind, &kind.kind));
        if kind.allows("list") {
            self.kinds.entry(list.clone()).or_default().push(gvk(kind, &kind.list_kind));
        }
        match &kind.custom {
            Some(custom) => {
                let schema = self.custom(custom);
                self.done.insert(name.clone(), schema);
                let schema = self.custom_list(kind, &name);
                self.done.insert(list, schema);
            }
            None => {
                self.open.insert(name);
                if kind.allows("list") {
                    self.open.insert(list);
                }
                for sub in kind.subresources.iter().filter(|sub| !sub.version.is_empty()) {
                    self.add_body(&sub.group, &sub.version, &sub.kind);
                }
            }
        }
        if kind.custom.is_some() && kind.subresource("scale").is_some() {
            self.add_body("autoscaling", "v1", "Scale");
        }
    }

    fn add_body(&mut self, group: &str, version: &str, kind: &str) {
        let body = Catalog::builtin().body(group, version, kind);
        let Some(name) = body.and_then(Ty::as_struct).map(|def| def.name.clone()) else { return };
        let known = self.kinds.entry(name.clone()).or_default();
        let gvk = json!({"group": group, "version": version, "kind": kind});
        if !known.contains(&gvk) {
            known.push(gvk);
        }
        self.open.insert(name);
    }

    /// Describes everything that was referred to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(name) = self.open.pop_first() {
            if !self.done.contains_key(&name) {
                let schema = self.schema(&name);
                self.done.insert(name, schema);
            }
        }
        for (name, kinds) in &self.kinds {
            if let Some(schema) = self.done.get_mut(name) {
                schema["x-kubernetes-group-version-kind"] = json!(kinds);
            }
        }
        self.done
    }

    fn schema(&mut self, name: &str) -> Value {
        let mut schema = match Catalog::builtin().ty(name) {
            Some(ty) => match ty.as_struct() {
                Some(def) => self.structure(ty, def),
                None => json!({}),
            },
            None => special(self.dialect, name),
        };
        if let Some(text) = self.prose.of_type(name) {
            schema["description"] = text.into();
        }
        if let Some(unions) = self.prose.unions(name) {
            schema["x-kubernetes-unions"] = unions.clone();
        }
        schema
    }

    fn structure(&mut self, ty: Ty<'_>, def: &Struct) -> Value {
        let mut schema = json!({"type": "object"});
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (name, field) in &def.fields {
            let mut property = self.field(ty, def, field);
            match self.prose.of_field(&def.name, name) {
                Some(text) => property["description"] = text.into(),
                None => property = unwrap(property),
            }
            if field.required {
                required.push(name.as_str());
            }
            properties.insert(name.clone(), property);
        }
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if def.atomic {
            schema["x-kubernetes-map-type"] = "atomic".into();
        }
        schema
    }

    fn field(&mut self, owner: Ty<'_>, def: &Struct, field: &Field) -> Value {
        let ty = owner.to(field.ty);
        let native = field.native;
        let union = native.and_then(|native| native.union);
        let in_schema = def.name.ends_with(".JSONSchemaProps");
        let mut property = self.value(ty, union, in_schema);
        if let (Dialect::V3, Some(native)) = (self.dialect, native) {
            let default = field.default.clone().or_else(|| (!native.pointer).then(|| zero(ty, native.omit)).flatten());
            if let Some(default) = default {
                property = with_default(property, default);
            }
        }
        match ty.shape() {
            Shape::List(list) => match &list.kind {
                // Lists without a type of their own are atomic, and published without saying so where none was given.
                ListKind::Atomic => property["x-kubernetes-list-type"] = "atomic".into(),
                ListKind::Set => property["x-kubernetes-list-type"] = "set".into(),
                ListKind::Map(keys) => {
                    property["x-kubernetes-list-type"] = "map".into();
                    property["x-kubernetes-list-map-keys"] = json!(keys);
                }
            },
            Shape::Map { atomic: true, .. } => property["x-kubernetes-map-type"] = "atomic".into(),
            _ => {}
        }
        let patch = &field.patch;
        let strategies = [(patch.merge, "merge"), (patch.replace, "replace"), (patch.retain_keys, "retainKeys")];
        let strategies: Vec<&str> = strategies.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        if !strategies.is_empty() {
            property["x-kubernetes-patch-strategy"] = strategies.join(",").into();
        }
        if let Some(key) = &patch.merge_key {
            property["x-kubernetes-patch-merge-key"] = key.as_str().into();
        }
        property
    }

    fn value(&mut self, ty: Ty<'_>, union: Option<Union>, in_schema: bool) -> Value {
        match ty.shape() {
            Shape::Struct(def) => self.reference(&def.name),
            Shape::List(list) => {
                let item = ty.to(list.item);
                let mut items = self.value(item, None, in_schema);
                if self.dialect == Dialect::V3 {
                    items = default_of_item(items, item);
                }
                json!({"type": "array", "items": items})
            }
            Shape::Map { value, .. } => {
                let value = ty.to(*value);
                let mut values = self.value(value, union, in_schema);
                if self.dialect == Dialect::V3 {
                    values = default_of_item(values, value);
                }
                json!({"type": "object", "additionalProperties": values})
            }
            Shape::Any => match union {
                Some(Union::OrArray(_)) => self.reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrArray")),
                Some(Union::OrBool(_)) => self.reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrBool")),
                Some(Union::OrStrings(_)) => self.reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray")),
                None if in_schema => self.reference(&format!("{EXTENSIONS}.JSON")),
                None => self.reference(RAW),
            },
            Shape::Scalar(scalar) => match scalar {
                Scalar::String => json!({"type": "string"}),
                Scalar::Bool => json!({"type": "boolean"}),
                Scalar::Int32 => json!({"type": "integer", "format": "int32"}),
                Scalar::Int64 => json!({"type": "integer", "format": "int64"}),
                Scalar::Number => json!({"type": "number", "format": "double"}),
                Scalar::Bytes => json!({"type": "string", "format": "byte"}),
                Scalar::Quantity => self.reference(QUANTITY),
                Scalar::IntOrString => self.reference(INT_OR_STRING),
                Scalar::Time => self.reference(&format!("{META}.Time")),
                Scalar::MicroTime => self.reference(&format!("{META}.MicroTime")),
                Scalar::Duration => self.reference(&format!("{META}.Duration")),
                Scalar::FieldsV1 => self.reference(&format!("{META}.FieldsV1")),
            },
        }
    }

    /// Beside a reference nothing else may stand in version 3, so it is wrapped where there is more to say.
    fn reference(&mut self, name: &str) -> Value {
        self.open.insert(name.to_owned());
        let reference = json!({"$ref": self.dialect.reference(name)});
        match self.dialect {
            Dialect::V2 => reference,
            Dialect::V3 => json!({"allOf": [reference]}),
        }
    }

    /// A custom resource: its own schema, with what every object has.
    fn custom(&mut self, custom: &Custom) -> Value {
        let mut schema = custom.open_api.clone();
        if !schema.is_object() {
            schema = json!({});
        }
        if self.dialect == Dialect::V2 {
            restrict(&mut schema);
        }
        schema["type"] = "object".into();
        if !schema["properties"].is_object() {
            schema["properties"] = json!({});
        }
        let object = published_type_of_objects();
        for field in ["apiVersion", "kind"] {
            let text = self.prose.of_field(object, field).unwrap_or_default();
            schema["properties"][field] = json!({"type": "string", "description": text});
        }
        let mut metadata = self.reference(&format!("{META}.ObjectMeta"));
        metadata["description"] = self.prose.of_field(object, "metadata").unwrap_or_default().into();
        schema["properties"]["metadata"] = metadata;
        schema
    }

    fn custom_list(&mut self, kind: &Kind, item: &str) -> Value {
        let reference = json!({"$ref": self.dialect.reference(item)});
        let mut metadata = self.reference(&format!("{META}.ListMeta"));
        metadata["description"] = "Standard list metadata.".into();
        json!({
            "type": "object",
            "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": metadata,
                "items": {"type": "array", "description": format!("List of {}.", kind.plural), "items": reference},
            },
        })
    }
}

/// Whose descriptions of `kind`, `apiVersion` and `metadata` custom resources borrow.
fn published_type_of_objects() -> &'static str {
    "io.k8s.api.core.v1.ConfigMap"
}

/// What Go prints for a field that is not there.
fn zero(ty: Ty<'_>, omit: Omit) -> Option<Value> {
    match (ty.shape(), omit) {
        (Shape::Struct(_), _) => Some(json!({})),
        (Shape::Scalar(scalar), Omit::Never) => match scalar {
            Scalar::String => Some("".into()),
            Scalar::Bool => Some(false.into()),
            Scalar::Int32 | Scalar::Int64 | Scalar::Number => Some(0.into()),
            _ => None,
        },
        _ => None,
    }
}

fn default_of_item(schema: Value, item: Ty<'_>) -> Value {
    match zero(item, Omit::Never) {
        Some(default) => with_default(schema, default),
        // A bare reference needs no wrapping.
        None => unwrap(schema),
    }
}

fn with_default(mut schema: Value, default: Value) -> Value {
    schema["default"] = default;
    schema
}

/// `{allOf: [X]}` alone is `X`.
fn unwrap(mut schema: Value) -> Value {
    match schema.as_object().map(serde_json::Map::len) {
        Some(1) if schema["allOf"].is_array() => schema["allOf"][0].take(),
        _ => schema,
    }
}

/// Types whose JSON is no object of fields.
fn special(dialect: Dialect, name: &str) -> Value {
    match (name.rsplit('.').next().unwrap_or_default(), dialect) {
        ("Quantity", Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        ("Quantity", Dialect::V2) => json!({"type": "string"}),
        ("IntOrString", Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        ("IntOrString", Dialect::V2) => json!({"format": "int-or-string", "type": "string"}),
        ("Time" | "MicroTime", _) => json!({"type": "string", "format": "date-time"}),
        ("Duration", _) => json!({"type": "string"}),
        ("FieldsV1" | "RawExtension" | "Patch", _) => json!({"type": "object"}),
        _ => json!({}),
    }
}

/// What version 2 cannot say is left out; where that leaves a wrong type, the type goes too.
fn restrict(schema: &mut Value) {
    const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
    let Some(fields) = schema.as_object_mut() else { return };
    if !fields.get("type").and_then(Value::as_str).is_some_and(|kind| TYPES.contains(&kind)) {
        fields.remove("type");
    }
    for unknown in ["oneOf", "anyOf", "allOf", "not", "nullable", "default", "x-kubernetes-validations"] {
        fields.remove(unknown);
    }
    let free = ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string", "x-kubernetes-embedded-resource"];
    if free.iter().any(|mark| fields.get(*mark) == Some(&Value::Bool(true))) {
        for shape in ["type", "items", "properties", "additionalProperties", "required"] {
            fields.remove(shape);
        }
    }
    for (key, value) in fields.iter_mut() {
        match key.as_str() {
            "properties" => value.as_object_mut().into_iter().flatten().for_each(|(_, schema)| restrict(schema)),
            "items" | "additionalProperties" => restrict(value),
            _ => {}
        }
    }
}
