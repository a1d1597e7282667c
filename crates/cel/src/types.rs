//! Types of expressions, as far as they are known before an expression is run.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The fields of an object whose schema is known.
pub type Fields = BTreeMap<String, Type>;

#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// Known only when the expression is run.
    Dyn,
    /// Of a part that is wrong: nothing more is said about it.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Box<Self>),
    Map(Box<Self>, Box<Self>),
    Object(Arc<Fields>),
    Optional(Box<Self>),
    /// The type of a type.
    Type(Box<Self>),
    /// A type of a library, `net.IP`.
    Opaque(String),
    /// Stands for any one type in a declaration; the number tells uses apart.
    Param(String, usize),
}

impl Type {
    pub fn list(of: Self) -> Self {
        Self::List(Box::new(of))
    }

    pub fn map(of: Self) -> Self {
        Self::Map(Box::new(Self::String), Box::new(of))
    }

    pub fn optional(of: Self) -> Self {
        Self::Optional(Box::new(of))
    }

    /// The type that a name of CEL's own stands for.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "null_type" => Self::Null,
            "list" => Self::list(Self::Dyn),
            "map" => Self::Map(Box::new(Self::Dyn), Box::new(Self::Dyn)),
            "type" => Self::Type(Box::new(Self::Dyn)),
            "optional_type" => Self::optional(Self::Dyn),
            "google.protobuf.Timestamp" => Self::Timestamp,
            "google.protobuf.Duration" => Self::Duration,
            "net.IP"
            | "net.CIDR"
            | "kubernetes.URL"
            | "kubernetes.Quantity"
            | "kubernetes.Semver"
            | "kubernetes.NamedFormat" => Self::Opaque(name.to_owned()),
            _ => return None,
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Object(_) => f.write_str("object"),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Type(of) => write!(f, "type({of})"),
            Self::Opaque(name) => f.write_str(name),
            Self::Param(name, _) => f.write_str(name),
        }
    }
}

/// What the parameters of declarations turned out to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bindings {
    known: BTreeMap<(String, usize), Type>,
    uses: usize,
}

impl Bindings {
    /// A number for one more use of a declaration.
    pub(crate) fn next_use(&mut self) -> usize {
        self.uses += 1;
        self.uses
    }

    /// A type that nothing is known of yet.
    pub(crate) fn unknown(&mut self) -> Type {
        Type::Param("?".into(), self.next_use())
    }

    /// Whether a value of type `found` may stand where `wanted` is declared; binds parameters.
    pub(crate) fn fits(&mut self, found: &Type, wanted: &Type) -> bool {
        use Type::{Dyn, Error, List, Map, Null, Optional, Param};
        let (found, wanted) = (self.look(found), self.look(wanted));
        match (&found, &wanted) {
            _ if found == wanted => true,
            (Param(..), _) => self.bind(&found, &wanted),
            (_, Param(..)) => self.bind(&wanted, &found),
            (Dyn | Error, _) | (_, Dyn | Error) => true,
            (Null, other) | (other, Null) => is_nullable(other),
            (List(a), List(b)) | (Optional(a), Optional(b)) => self.fits(a, b),
            (Map(ak, av), Map(bk, bv)) => self.fits(ak, bk) && self.fits(av, bv),
            (Type::Type(_), Type::Type(_)) => true,
            _ => false,
        }
    }

    fn bind(&mut self, param: &Type, to: &Type) -> bool {
        let Type::Param(name, number) = param else { return false };
        if self.holds(to, param) {
            return false;
        }
        self.known.insert((name.clone(), *number), to.clone());
        true
    }

    fn holds(&self, inside: &Type, param: &Type) -> bool {
        match self.look(inside) {
            Type::List(of) | Type::Optional(of) | Type::Type(of) => self.holds(&of, param),
            Type::Map(key, value) => self.holds(&key, param) || self.holds(&value, param),
            other => other == *param,
        }
    }

    /// What stands at the outside of a type.
    pub(crate) fn look(&self, of: &Type) -> Type {
        let mut found = of;
        while let Type::Param(name, number) = found {
            match self.known.get(&(name.clone(), *number)) {
                Some(next) => found = next,
                None => break,
            }
        }
        found.clone()
    }

    /// A type with every known parameter replaced; what stays unknown may be anything.
    pub(crate) fn resolve(&self, of: &Type) -> Type {
        let inside = |of: &Type| Box::new(self.resolve(of));
        match self.look(of) {
            Type::List(of) => Type::List(inside(&of)),
            Type::Optional(of) => Type::Optional(inside(&of)),
            Type::Type(of) => Type::Type(inside(&of)),
            Type::Map(key, value) => Type::Map(inside(&key), inside(&value)),
            Type::Param(..) => Type::Dyn,
            other => other,
        }
    }
}

fn is_nullable(of: &Type) -> bool {
    matches!(of, Type::Object(_) | Type::Timestamp | Type::Duration | Type::Optional(_) | Type::Opaque(_))
}
