//! A place in the types, as apply sees them: everything is a scalar, a list or a map.

use serde_json::Value;

use super::element::{Element, Scalar as Id};
use crate::types::{Field, List, ListKind, Scalar, Shape, Ty};

/// Where a walk over a value is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Typed(Ty<'a>),
    /// A struct that is one value elsewhere, but not in this field.
    Granular(Ty<'a>),
    /// Below what no type of a custom resource describes: maps merge by key, lists are one value.
    Untyped,
    /// A field of a built-in kind that holds anything: one value.
    Opaque,
}

/// The one field whose type is one value everywhere else, by its struct and name.
const GRANULAR: (&str, &str) = ("io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef");

/// What a value is at a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Atom<'a> {
    Scalar(ScalarKind),
    /// A list whose items have no owners of their own.
    AtomicList,
    List(KeyedList<'a>),
    AtomicMap,
    Map,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    String,
    Boolean,
    Numeric,
    Untyped,
}

/// A set, or a list with keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyedList<'a> {
    ty: Ty<'a>,
    list: &'a List,
}

impl<'a> Place<'a> {
    /// What `value` is here. Only where nothing is known does the value itself decide.
    pub(super) fn atom(self, value: Option<&Value>) -> Atom<'a> {
        let ty = match self {
            Self::Typed(ty) => ty,
            Self::Granular(_) => return Atom::Map,
            Self::Untyped => return untyped_atom(value),
            Self::Opaque => return opaque_atom(value),
        };
        match ty.shape() {
            Shape::Any | Shape::Scalar(Scalar::FieldsV1) => untyped_atom(value),
            Shape::Scalar(scalar) => Atom::Scalar(scalar_kind(*scalar)),
            Shape::Struct(def) if def.atomic => Atom::AtomicMap,
            Shape::Map { atomic: true, .. } => Atom::AtomicMap,
            Shape::Struct(_) | Shape::Map { .. } => Atom::Map,
            Shape::List(List { kind: ListKind::Atomic, .. }) => Atom::AtomicList,
            Shape::List(list) => Atom::List(KeyedList { ty, list }),
        }
    }

    fn ty(self) -> Option<Ty<'a>> {
        match self {
            Self::Typed(ty) | Self::Granular(ty) => Some(ty),
            Self::Untyped | Self::Opaque => None,
        }
    }

    /// Whether `name` is a field of a struct here, not only a key that a user chose.
    pub(super) fn declares(self, name: &str) -> bool {
        self.ty().is_some_and(|ty| ty.field_def(name).is_some())
    }

    /// Whether the types say that what stands here has one owner.
    pub(super) fn is_one_value(self) -> bool {
        matches!(self, Self::Typed(_)) && matches!(self.atom(None), Atom::AtomicList | Atom::AtomicMap)
    }

    /// The place below a key of a map; nothing where the type has no such field.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        let Some(ty) = self.ty() else { return Some(self) };
        match ty.shape() {
            Shape::Struct(def) if def.name == GRANULAR.0 && name == GRANULAR.1 => ty.field(name).map(Self::Granular),
            Shape::Struct(def) if def.fields.get(name).is_some_and(|field| is_opaque(ty, field)) => Some(Self::Opaque),
            Shape::Struct(def) if !def.fields.contains_key(name) && def.additional.is_none() => {
                def.preserve_unknown.then_some(Self::Untyped)
            }
            Shape::Any | Shape::Scalar(_) => Some(Self::Untyped),
            _ => ty.field(name).map(Self::Typed),
        }
    }

    /// The place of an item of a list.
    pub(super) fn item(self) -> Self {
        self.ty().map_or(self, |ty| ty.item().map_or(Self::Untyped, Self::Typed))
    }

    pub(super) fn step(self, element: &Element) -> Self {
        match element {
            Element::Field(name) => self.field(name).unwrap_or(Self::Untyped),
            _ => self.item(),
        }
    }
}

fn is_opaque(ty: Ty<'_>, field: &Field) -> bool {
    field.native.is_some() && matches!(ty.to(field.ty).shape(), Shape::Any)
}

fn opaque_atom<'a>(value: Option<&Value>) -> Atom<'a> {
    match untyped_atom(value) {
        Atom::Map => Atom::AtomicMap,
        atom => atom,
    }
}

/// Null has no type of its own: it is taken for a map, which then is empty.
fn untyped_atom<'a>(value: Option<&Value>) -> Atom<'a> {
    match value {
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Atom::Scalar(ScalarKind::Untyped),
        Some(Value::Array(_)) => Atom::AtomicList,
        Some(Value::Object(_) | Value::Null) | None => Atom::Map,
    }
}

fn scalar_kind(scalar: Scalar) -> ScalarKind {
    match scalar {
        Scalar::String | Scalar::Bytes | Scalar::Duration => ScalarKind::String,
        Scalar::Bool => ScalarKind::Boolean,
        Scalar::Int32 | Scalar::Int64 | Scalar::Number => ScalarKind::Numeric,
        Scalar::Quantity | Scalar::IntOrString | Scalar::Time | Scalar::MicroTime | Scalar::FieldsV1 => {
            ScalarKind::Untyped
        }
    }
}

impl Atom<'_> {
    /// Whether two values are handled the same way here.
    pub(super) fn same_sort(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl<'a> KeyedList<'a> {
    pub(super) fn item(self) -> Place<'a> {
        Place::Typed(self.ty.to(self.list.item))
    }

    /// What an item is known by.
    pub(super) fn element(self, item: &Value) -> Result<Element, String> {
        let ListKind::Map(keys) = &self.list.kind else { return set_element(item) };
        let item = match item {
            Value::Object(item) => item,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let key = |name: &String| {
            let value = item.get(name).cloned().or_else(|| self.key_default(name))?;
            Some((name.clone(), Id::new(value)))
        };
        let found: Vec<_> = keys.iter().filter_map(key).collect();
        if found.is_empty() {
            let names: Vec<String> = keys.iter().map(|name| format!("{name:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                names.join(" ")
            ));
        }
        Ok(Element::key(found))
    }

    /// The default of a key belongs to the key: a port without a protocol is a TCP port. Keys of built-in kinds that are
    /// always there are so with their zero value.
    fn key_default(self, name: &str) -> Option<Value> {
        let item = self.ty.to(self.list.item);
        let field = item.field_def(name)?;
        field.default.clone().or_else(|| super::empty::key(item, field))
    }
}

fn set_element(item: &Value) -> Result<Element, String> {
    match item {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
        scalar => Ok(Element::Value(Id::new(scalar.clone()))),
    }
}
