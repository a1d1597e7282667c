//! Types as data: one arena of definitions that every generic algorithm walks, for built-in kinds and custom ones alike.
//!
//! [`Ty`] is the cursor everything uses: a `Copy` pair of arena and index. Recursive types (`JSONSchemaProps`) are plain
//! cycles of indices.

use std::collections::BTreeMap;

/// Index of a definition inside its [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u32);

/// All definitions that belong together: the built-in ones, or those of one version of a custom resource.
#[derive(Debug, Default)]
pub struct Arena {
    pub types: Vec<Shape>,
}

/// What a JSON value of a type looks like.
#[derive(Debug, Clone)]
pub enum Shape {
    Scalar(Scalar),
    Struct(Struct),
    /// String keys that the user chooses.
    Map {
        value: TypeId,
        atomic: bool,
    },
    List(List),
    /// Anything at all, kept as it is: RawExtension, JSON, preserved unknown fields.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    String,
    Bool,
    Int32,
    Int64,
    /// Any JSON number.
    Number,
    /// Base64 in JSON, raw in protobuf.
    Bytes,
    Quantity,
    IntOrString,
    /// RFC 3339, whole seconds.
    Time,
    /// RFC 3339 with six digits.
    MicroTime,
    /// Go's duration notation, `1m30s`.
    Duration,
    /// `managedFields[].fieldsV1`.
    FieldsV1,
}

#[derive(Debug, Clone, Default)]
pub struct Struct {
    /// The published name, `io.k8s.api.apps.v1.DeploymentSpec`; empty for anonymous parts of custom resources.
    pub name: String,
    pub fields: BTreeMap<String, Field>,
    /// `x-kubernetes-map-type: atomic`: one owner, replaced as a whole.
    pub atomic: bool,
    /// Custom resources: fields outside `fields` are kept.
    pub preserve_unknown: bool,
    /// Custom resources: `additionalProperties` beside `properties`.
    pub additional: Option<TypeId>,
    /// Built-in types: embedded structs that have a protobuf message of their own, by its tag. Their fields stand in
    /// `fields` too.
    pub inlines: Vec<(u32, TypeId)>,
}

#[derive(Debug, Clone)]
pub struct Field {
    pub ty: TypeId,
    pub required: bool,
    /// The strategic-merge strategy and key of this field.
    pub patch: Patch,
    /// Only where the published definitions or a custom schema carry one. The defaults of built-in kinds are code, in
    /// `defaults`.
    pub default: Option<serde_json::Value>,
    /// What only fields of built-in types have.
    pub native: Option<Native>,
}

/// What the Go type behind a field of a built-in kind decides: how the field travels and when it is printed.
#[derive(Debug, Clone, Copy)]
pub struct Native {
    /// The protobuf field number; 0 for fields that are not in the message itself.
    pub tag: u32,
    /// Kept apart from its zero value.
    pub pointer: bool,
    pub omit: Omit,
    /// The name of the Go type where it does not follow from the shape; empty otherwise.
    pub go: &'static str,
    /// The embedded structs the field comes from, `VolumeSource`, as decoding errors print them.
    pub via: &'static str,
    /// Either a schema or something else, as `JSONSchemaProps.items` is: the [`Shape::Any`] of the field hides this.
    pub union: Option<Union>,
}

/// When a field is left out of the JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omit {
    Never,
    /// `omitempty`: a nil pointer, an empty list or map, a zero scalar; never a struct.
    Empty,
    /// `omitzero`: a zero struct too.
    Zero,
}

/// The fields of `JSONSchemaProps` that have two forms: a schema (the type named here), or what the variant says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Union {
    OrArray(TypeId),
    OrBool(TypeId),
    OrStrings(TypeId),
}

/// `x-kubernetes-patch-strategy` and `-merge-key`, as strategic merge patch reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patch {
    pub merge: bool,
    pub retain_keys: bool,
    pub replace: bool,
    pub merge_key: Option<String>,
}

#[derive(Debug, Clone)]
pub struct List {
    pub item: TypeId,
    pub kind: ListKind,
}

/// `x-kubernetes-list-type`, as server-side apply reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    /// Items are identified by these keys, in the published order.
    Map(Vec<String>),
}

/// A place in the types: where an algorithm is while it walks a value.
#[derive(Clone, Copy, Debug)]
pub struct Ty<'a> {
    pub arena: &'a Arena,
    pub id: TypeId,
}

impl Arena {
    pub fn add(&mut self, shape: Shape) -> TypeId {
        self.types.push(shape);
        TypeId(u32::try_from(self.types.len() - 1).expect("an arena holds fewer than 2^32 types"))
    }

    pub fn at(&self, id: TypeId) -> Ty<'_> {
        Ty { arena: self, id }
    }
}

impl<'a> Ty<'a> {
    pub fn shape(self) -> &'a Shape {
        &self.arena.types[self.id.0 as usize]
    }

    pub fn to(self, id: TypeId) -> Ty<'a> {
        Ty { arena: self.arena, id }
    }

    pub fn as_struct(self) -> Option<&'a Struct> {
        match self.shape() {
            Shape::Struct(def) => Some(def),
            _ => None,
        }
    }

    pub fn as_list(self) -> Option<&'a List> {
        match self.shape() {
            Shape::List(list) => Some(list),
            _ => None,
        }
    }

    /// The definition of a field of a struct.
    pub fn field_def(self, name: &str) -> Option<&'a Field> {
        self.as_struct()?.fields.get(name)
    }

    /// The type below `name`: a field of a struct, or the value of a map.
    pub fn field(self, name: &str) -> Option<Ty<'a>> {
        match self.shape() {
            Shape::Struct(def) => def.fields.get(name).map(|f| f.ty).or(def.additional).map(|id| self.to(id)),
            Shape::Map { value, .. } => Some(self.to(*value)),
            _ => None,
        }
    }

    /// The type of a list's items.
    pub fn item(self) -> Option<Ty<'a>> {
        self.as_list().map(|list| self.to(list.item))
    }
}
