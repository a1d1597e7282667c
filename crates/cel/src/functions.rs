//! Operators and functions over values. What stands here is what `kube-cel` lacks or answers otherwise than a real API server;
//! everything else is its.

use std::cmp::Ordering;
use std::sync::Arc;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{CallExpr, Expr as Node, IdedExpr};
use kube_cel::cel::objects::{Key, Opaque, OptionalValue};
use kube_cel::cel::{Context, ExecutionError, Value};
use regex::RegexBuilder;

use crate::eval::{NO_OVERLOAD, Run, key};
use crate::times::{self, duration_from_text, timestamp_from_seconds, timestamp_from_text};

/// A pattern may not grow beyond this when it is made ready to run.
const MAX_PATTERN_BYTES: usize = 1 << 20;
/// A sum of strings or lists may not grow beyond this.
const MAX_WEIGHT: usize = 1 << 22;

/// The type of a value, as a value.
#[derive(Debug, PartialEq, Eq)]
struct TypeValue(String);

impl Opaque for TypeValue {
    fn runtime_type_name(&self) -> &str {
        "type"
    }
}

pub(crate) fn type_value(name: &str) -> Value {
    Value::Opaque(Arc::new(TypeValue(name.to_owned())))
}

pub(crate) fn optional(value: &Value) -> Option<&OptionalValue> {
    match value {
        Value::Opaque(opaque) => opaque.downcast_ref(),
        _ => None,
    }
}

pub(crate) fn optional_of(value: Option<Value>) -> Value {
    Value::Opaque(Arc::new(value.map_or_else(OptionalValue::none, OptionalValue::of)))
}

/// How many steps it takes to look at a value.
pub(crate) fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() / 10,
        Value::Bytes(bytes) => bytes.len() / 10,
        Value::List(list) => list.len(),
        Value::Map(map) => map.map.len(),
        _ => 0,
    }
}

pub(crate) fn call(prefix: Option<&str>, name: &str, target: Option<Value>, args: Vec<Value>) -> Run {
    if prefix == Some("optional") {
        let value = args.into_iter().next().filter(|value| name == "of" || !value.is_zero());
        return Ok(optional_of(value));
    }
    if prefix == Some("format") && name == "named" {
        let found = library(prefix, name, target, args)?;
        return Ok(optional_of(Some(found).filter(|found| !matches!(found, Value::Null))));
    }
    if prefix.is_some() {
        return library(prefix, name, target, args);
    }
    match (name, target.as_ref(), args.as_slice()) {
        (_, None, [left, right]) if name.starts_with(['_', '@']) => operator(name, left, right),
        ("!_", None, [value]) => crate::eval::truth(value).map(|b| Value::Bool(!b)),
        ("-_", None, [value]) => negative(value),
        ("type", None, [value]) => Ok(type_value(type_name(value))),
        ("dyn", None, [value]) => Ok(value.clone()),
        ("sum", Some(Value::List(list)), []) => sum(list),
        ("size", None, [value]) | ("size", Some(value), []) => size(value),
        ("matches", None, [text, pattern]) | ("matches", Some(text), [pattern]) => matches(text, pattern),
        ("bool" | "int" | "uint" | "double" | "timestamp" | "duration" | "bytes", None, [value]) => {
            convert(name, value)
        }
        ("string", None, [value]) => string(value),
        (_, Some(of), []) if name.starts_with("get") && is_time(of) => times::part(name, of, None),
        (_, Some(of), [zone]) if name.starts_with("get") && is_time(of) => times::part(name, of, Some(zone)),
        ("hasValue", Some(target), []) => Ok(Value::Bool(optional(target).ok_or(NO_OVERLOAD)?.value().is_some())),
        ("value", Some(target), []) => {
            let found = optional(target).ok_or(NO_OVERLOAD)?.value().cloned();
            found.ok_or_else(|| "optional.none() dereference".to_owned())
        }
        _ => library(None, name, target, args),
    }
}

fn operator(name: &str, left: &Value, right: &Value) -> Run {
    let ordered = |wanted: fn(Ordering) -> bool| Ok(Value::Bool(compare(left, right)?.is_some_and(wanted)));
    match name {
        "_==_" => Ok(Value::Bool(equal(left, right))),
        "_!=_" => Ok(Value::Bool(!equal(left, right))),
        "_<_" => ordered(Ordering::is_lt),
        "_<=_" => ordered(Ordering::is_le),
        "_>_" => ordered(Ordering::is_gt),
        "_>=_" => ordered(Ordering::is_ge),
        "@in" => contained(left, right),
        "_[_]" | "_[?_]" => index(left, right, name == "_[?_]"),
        _ => arithmetic(name, left, right),
    }
}

/// Equality over all types: numbers by value, everything else only within its type.
pub(crate) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equal(a, b)),
        (Value::Map(a), Value::Map(b)) => {
            a.map.len() == b.map.len() && a.map.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (Value::Opaque(_), Value::Opaque(_)) => match (optional(left), optional(right)) {
            (Some(a), Some(b)) => match (a.value(), b.value()) {
                (Some(a), Some(b)) => equal(a, b),
                (a, b) => a.is_none() && b.is_none(),
            },
            _ => left == right,
        },
        _ => match number_order(left, right) {
            Some(order) => order == Some(Ordering::Equal),
            None => std::mem::discriminant(left) == std::mem::discriminant(right) && left == right,
        },
    }
}

/// The order of two numbers of any types; the outer `None` where they are no numbers, the inner where one is none.
fn number_order(left: &Value, right: &Value) -> Option<Option<Ordering>> {
    let real = |value: &Value| match value {
        Value::Int(n) => Some(*n as f64),
        Value::UInt(n) => Some(*n as f64),
        Value::Float(n) => Some(*n),
        _ => None,
    };
    let whole = |value: &Value| match value {
        Value::Int(n) => Some(i128::from(*n)),
        Value::UInt(n) => Some(i128::from(*n)),
        _ => None,
    };
    if let (Some(a), Some(b)) = (whole(left), whole(right)) {
        return Some(Some(a.cmp(&b)));
    }
    Some(real(left)?.partial_cmp(&real(right)?))
}

fn compare(left: &Value, right: &Value) -> Run<Option<Ordering>> {
    if let Some(order) = number_order(left, right) {
        return Ok(order);
    }
    match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => Ok(Some(a.cmp(b))),
        (Value::String(a), Value::String(b)) => Ok(Some(a.cmp(b))),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Some(a.cmp(b))),
        (Value::Duration(a), Value::Duration(b)) => Ok(Some(a.cmp(b))),
        (Value::Timestamp(a), Value::Timestamp(b)) => Ok(Some(a.cmp(b))),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

fn contained(value: &Value, inside: &Value) -> Run {
    match inside {
        Value::List(list) => Ok(Value::Bool(list.iter().any(|item| equal(item, value)))),
        Value::Map(map) => Ok(Value::Bool(key(value.clone()).is_ok_and(|key| map.get(&key).is_some()))),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

fn index(of: &Value, at: &Value, asks: bool) -> Run {
    let (inside, wrapped) = match optional(of) {
        Some(optional) => (optional.value(), true),
        None => (Some(of), asks),
    };
    let Some(inside) = inside else { return Ok(optional_of(None)) };
    let (found, missing) = match inside {
        Value::List(list) => {
            let n = whole_index(at)?;
            (usize::try_from(n).ok().and_then(|n| list.get(n)), format!("index out of bounds: {n}"))
        }
        Value::Map(map) => {
            let key: Key = key(at.clone())?;
            (map.get(&key), format!("no such key: {key}"))
        }
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    if wrapped { Ok(optional_of(found.cloned())) } else { found.cloned().ok_or(missing) }
}

fn whole_index(at: &Value) -> Run<i64> {
    match at {
        Value::Int(n) => Ok(*n),
        Value::UInt(n) => i64::try_from(*n).map_err(|_| format!("index out of bounds: {n}")),
        Value::Float(n) if n.fract() == 0.0 => Ok(*n as i64),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

fn arithmetic(name: &str, left: &Value, right: &Value) -> Run {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => whole(name, *a, *b).map(Value::Int),
        (Value::UInt(a), Value::UInt(b)) => unsigned(name, *a, *b).map(Value::UInt),
        (Value::Float(a), Value::Float(b)) => match name {
            "_+_" => Ok(Value::Float(a + b)),
            "_-_" => Ok(Value::Float(a - b)),
            "_*_" => Ok(Value::Float(a * b)),
            "_/_" => Ok(Value::Float(a / b)),
            _ => Err(NO_OVERLOAD.to_owned()),
        },
        (Value::Bytes(a), Value::Bytes(b)) if name == "_+_" => Ok(Value::Bytes(Arc::new([&a[..], &b[..]].concat()))),
        (Value::Duration(_), Value::Timestamp(_)) if name == "_+_" => arithmetic(name, right, left),
        _ if name == "_+_" && weight(left) + weight(right) > MAX_WEIGHT => Err(crate::eval::OVER_BUDGET.to_owned()),
        _ if name == "_+_" => (left.clone() + right.clone()).map_err(|error| words(&error)),
        _ if name == "_-_" => (left.clone() - right.clone()).map_err(|error| words(&error)),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

const OVERFLOW: &str = "integer overflow";

fn whole(name: &str, a: i64, b: i64) -> Run<i64> {
    let found = match name {
        "_+_" => a.checked_add(b),
        "_-_" => a.checked_sub(b),
        "_*_" => a.checked_mul(b),
        "_/_" if b == 0 => return Err("division by zero".to_owned()),
        "_/_" => a.checked_div(b),
        "_%_" if b == 0 => return Err("modulus by zero".to_owned()),
        "_%_" => a.checked_rem(b),
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    found.ok_or_else(|| OVERFLOW.to_owned())
}

fn unsigned(name: &str, a: u64, b: u64) -> Run<u64> {
    let found = match name {
        "_+_" => a.checked_add(b),
        "_-_" => a.checked_sub(b),
        "_*_" => a.checked_mul(b),
        "_/_" if b == 0 => return Err("division by zero".to_owned()),
        "_/_" => a.checked_div(b),
        "_%_" if b == 0 => return Err("modulus by zero".to_owned()),
        "_%_" => a.checked_rem(b),
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    found.ok_or_else(|| "unsigned integer overflow".to_owned())
}

fn negative(value: &Value) -> Run {
    match value {
        Value::Int(n) => n.checked_neg().map(Value::Int).ok_or_else(|| OVERFLOW.to_owned()),
        Value::Float(n) => Ok(Value::Float(-n)),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

fn type_name(value: &Value) -> &str {
    match value {
        Value::Null => "null_type",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Duration(_) => "google.protobuf.Duration",
        Value::Timestamp(_) => "google.protobuf.Timestamp",
        Value::Opaque(opaque) => match opaque.runtime_type_name() {
            "kubernetes.Format" => "kubernetes.NamedFormat",
            name => name,
        },
        Value::Function(..) => "function",
    }
}

/// Strings are as long as they have characters, not bytes.
fn size(value: &Value) -> Run {
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.map.len(),
        _ => return Err(NO_OVERLOAD.to_owned()),
    };
    Ok(Value::Int(size as i64))
}

/// Of numbers and durations; the sum of nothing is zero.
fn sum(list: &[Value]) -> Run {
    let Some((first, rest)) = list.split_first() else { return Ok(Value::Int(0)) };
    rest.iter().try_fold(first.clone(), |sum, item| arithmetic("_+_", &sum, item))
}

fn matches(text: &Value, pattern: &Value) -> Run {
    let (Value::String(text), Value::String(pattern)) = (text, pattern) else { return Err(NO_OVERLOAD.to_owned()) };
    let regex = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build();
    let regex = regex.map_err(|error| format!("error parsing regexp: {error}"))?;
    Ok(Value::Bool(regex.is_match(text)))
}

fn is_time(value: &Value) -> bool {
    matches!(value, Value::Timestamp(_) | Value::Duration(_))
}

fn convert(name: &str, value: &Value) -> Run {
    const RANGE: f64 = 9_223_372_036_854_775_807.0;
    let strange = |text: &str| format!("type conversion error from 'string' to '{name}': '{text}'");
    let parsed = |found: Option<Value>, text: &str| found.ok_or_else(|| strange(text));
    match (name, value) {
        ("bool", Value::Bool(_))
        | ("int", Value::Int(_))
        | ("uint", Value::UInt(_))
        | ("double", Value::Float(_))
        | ("timestamp", Value::Timestamp(_))
        | ("duration", Value::Duration(_))
        | ("bytes", Value::Bytes(_)) => Ok(value.clone()),
        ("bool", Value::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(strange(text)),
        },
        ("int", Value::UInt(n)) => i64::try_from(*n).map(Value::Int).map_err(|_| OVERFLOW.to_owned()),
        ("int", Value::Float(n)) if n.abs() < RANGE => Ok(Value::Int(*n as i64)),
        ("int", Value::Float(_)) => Err(OVERFLOW.to_owned()),
        ("int", Value::String(text)) => parsed(text.parse().ok().map(Value::Int), text),
        ("int", Value::Timestamp(time)) => Ok(Value::Int(time.timestamp())),
        ("int", Value::Duration(time)) => time.num_nanoseconds().map(Value::Int).ok_or_else(|| OVERFLOW.to_owned()),
        ("uint", Value::Int(n)) => {
            u64::try_from(*n).map(Value::UInt).map_err(|_| "unsigned integer overflow".to_owned())
        }
        ("uint", Value::Float(n)) if *n >= 0.0 && *n < RANGE * 2.0 => Ok(Value::UInt(*n as u64)),
        ("uint", Value::Float(_)) => Err("unsigned integer overflow".to_owned()),
        ("uint", Value::String(text)) => parsed(text.parse().ok().map(Value::UInt), text),
        ("double", Value::Int(n)) => Ok(Value::Float(*n as f64)),
        ("double", Value::UInt(n)) => Ok(Value::Float(*n as f64)),
        ("double", Value::String(text)) => parsed(text.parse().ok().map(Value::Float), text),
        ("timestamp", Value::Int(seconds)) => timestamp_from_seconds(*seconds),
        ("timestamp", Value::String(text)) => parsed(timestamp_from_text(text), text),
        ("duration", Value::String(text)) => parsed(duration_from_text(text), text),
        ("duration", Value::Int(seconds)) => parsed(duration_from_text(&format!("{seconds}s")), &seconds.to_string()),
        ("bytes", Value::String(text)) => Ok(Value::Bytes(Arc::new(text.as_bytes().to_vec()))),
        _ => library(None, name, None, vec![value.clone()]),
    }
}

fn string(value: &Value) -> Run {
    let text = match value {
        Value::Bool(value) => value.to_string(),
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec())
            .map_err(|_| "invalid UTF-8 in bytes, cannot convert to string".to_owned())?,
        Value::Timestamp(_) | Value::Duration(_) => times::shown(value).ok_or_else(|| OVERFLOW.to_owned())?,
        _ => return library(None, "string", None, vec![value.clone()]),
    };
    Ok(Value::String(Arc::new(text)))
}

/// Calls a function of `kube-cel`: its arguments stand in a context under names that no rule can have.
pub(crate) fn library(prefix: Option<&str>, name: &str, target: Option<Value>, args: Vec<Value>) -> Run {
    thread_local! {
        static LIBRARY: Context<'static> = Context::default().with_all();
    }
    let ident = |name: String| IdedExpr { id: 0, expr: Node::Ident(name) };
    let target_node = prefix.map(str::to_owned).or_else(|| target.as_ref().map(|_| "@target".to_owned()));
    let call = CallExpr {
        func_name: name.to_owned(),
        target: target_node.map(|name| Box::new(ident(name))),
        args: (0..args.len()).map(|n| ident(format!("@{n}"))).collect(),
    };
    LIBRARY.with(|library| {
        let mut context = library.new_inner_scope();
        if let Some(target) = target {
            context.add_variable_from_value("@target", target);
        }
        for (n, arg) in args.into_iter().enumerate() {
            context.add_variable_from_value(format!("@{n}"), arg);
        }
        Value::resolve(&IdedExpr { id: 0, expr: Node::Call(call) }, &context).map_err(|error| words(&error))
    })
}

fn words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::FunctionError { message, .. } => message.clone(),
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::Overflow(..) => OVERFLOW.to_owned(),
        _ => NO_OVERLOAD.to_owned(),
    }
}
