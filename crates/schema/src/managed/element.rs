//! One step of a path: a field, an item of a keyed list, a member of a set, or an index.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Number, Value};

/// A step of a path, in the order in which messages and entries list them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    Field(String),
    /// The keys of the item, sorted by name.
    Key(Vec<(String, Scalar)>),
    Value(Scalar),
    Index(i64),
}

/// A JSON value with an order: numbers, strings, booleans, lists, maps, null.
#[derive(Debug, Clone)]
pub(super) struct Scalar(Value);

impl Element {
    pub(super) fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    pub(super) fn key(mut keys: Vec<(String, Scalar)>) -> Self {
        keys.sort();
        Self::Key(keys)
    }

    /// Reads `f:name`, `k:{..}`, `v:..` or `i:0`. Kinds of steps that are not known yet read as nothing.
    pub(super) fn decode(text: &str) -> Result<Option<Self>, String> {
        let wrong = || format!("`{text}` is no path element");
        let (kind, rest) = text.split_once(':').filter(|(kind, _)| kind.len() == 1).ok_or_else(wrong)?;
        Ok(Some(match kind {
            "f" => Self::field(rest),
            "k" => {
                let keys: serde_json::Map<String, Value> = serde_json::from_str(rest).map_err(|_| wrong())?;
                Self::key(keys.into_iter().map(|(name, value)| (name, Scalar::new(value))).collect())
            }
            "v" => Self::Value(Scalar::new(serde_json::from_str(rest).map_err(|_| wrong())?)),
            "i" => Self::Index(rest.parse().map_err(|_| wrong())?),
            _ => return Ok(None),
        }))
    }

    pub(super) fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let keys: serde_json::Map<_, _> = keys.iter().map(|(n, v)| (n.clone(), v.0.clone())).collect();
                format!("k:{}", Value::Object(keys))
            }
            Self::Value(value) => format!("v:{}", value.0),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

/// As messages print it: `.name`, `[name="a",port=1]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Scalar {
    /// Whole numbers are one and the same however they are written.
    pub(super) fn new(value: Value) -> Self {
        match value.as_f64() {
            Some(float) if value.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
                let whole = float as i64;
                Self(Value::Number(Number::from(whole)))
            }
            _ => Self(value),
        }
    }

    fn rank(&self) -> u8 {
        match self.0 {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
            },
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Null, Value::Null) => Ordering::Equal,
            (a, b) if self.rank() == other.rank() => a.to_string().cmp(&b.to_string()),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}
