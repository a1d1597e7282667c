//! Runs an expression whose types were checked, step by step, and stops when its budget is used up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kube_cel::cel::Value;
use kube_cel::cel::objects::{Key, Map, OptionalValue};

use crate::ast::{Expr, Fold, Folding, Kind, Literal, Selecting};
use crate::check::qualified;
use crate::declarations::overloads;
use crate::functions;
use crate::types::Type;

/// Why an expression has no value.
pub(crate) type Run<T = Value> = Result<T, String>;

pub(crate) const OVER_BUDGET: &str = "operation cancelled: actual cost limit exceeded";
pub(crate) const NO_OVERLOAD: &str = "no such overload";

pub(crate) struct Evaluator {
    pub(crate) names: Vec<(String, Value)>,
    /// Steps that are left.
    pub(crate) budget: u64,
}

impl Evaluator {
    fn spend(&mut self, steps: usize) -> Run<()> {
        match self.budget.checked_sub(steps as u64) {
            Some(left) => self.budget = left,
            None => {
                self.budget = 0;
                return Err(OVER_BUDGET.to_owned());
            }
        }
        Ok(())
    }

    pub(crate) fn value(&mut self, expr: &Expr) -> Run {
        self.spend(1)?;
        match &expr.kind {
            Kind::Literal(literal) => Ok(constant(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, how } => self.select(expr, operand, field, *how),
            Kind::Call { function, target, args } => self.call(function, target.as_deref(), args),
            Kind::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    let value = self.value(&item.value)?;
                    list.extend(if item.optional { unwrapped(&value)? } else { Some(value) });
                }
                Ok(list.into())
            }
            Kind::Map(entries) => {
                let mut map = HashMap::new();
                for entry in entries {
                    let key = key(self.value(&entry.key)?)?;
                    let value = self.value(&entry.value)?;
                    let value = if entry.optional { unwrapped(&value)? } else { Some(value) };
                    if let Some(value) = value {
                        map.insert(key, value);
                    }
                }
                Ok(Value::Map(Map { map: Arc::new(map) }))
            }
            Kind::Struct(name) => Err(format!("unknown type: {name}")),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&self, name: &str) -> Run {
        let found = self.names.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        found
            .or_else(|| Type::named(name).map(|_| functions::type_value(name)))
            .ok_or_else(|| format!("no such attribute(s): {name}"))
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, how: Selecting) -> Run {
        if let Some(name) = qualified(expr).filter(|name| Type::named(name).is_some()) {
            return Ok(functions::type_value(&name));
        }
        let operand = self.value(operand)?;
        let (inside, optional) = match functions::optional(&operand) {
            Some(optional) => (optional.value().cloned(), true),
            None => (Some(operand), false),
        };
        let found = match &inside {
            None => None,
            Some(Value::Map(map)) => map.map.get(&Key::from(field)).cloned(),
            Some(_) => return Err(NO_OVERLOAD.to_owned()),
        };
        match how {
            Selecting::Test => Ok(Value::Bool(found.is_some())),
            Selecting::Optional => Ok(functions::optional_of(found)),
            Selecting::Plain if optional => Ok(functions::optional_of(found)),
            Selecting::Plain => found.ok_or_else(|| format!("no such key: {field}")),
        }
    }

    fn call(&mut self, function: &str, target: Option<&Expr>, args: &[Expr]) -> Run {
        match (function, args) {
            ("_&&_", [left, right]) => return self.logic(left, right, false),
            ("_||_", [left, right]) => return self.logic(left, right, true),
            ("_?_:_", [condition, yes, no]) => {
                return if truth(&self.value(condition)?)? { self.value(yes) } else { self.value(no) };
            }
            ("or" | "orValue", [other]) if target.is_some() => {
                let target = self.value(target.expect("it was seen above"))?;
                let found = functions::optional(&target).ok_or(NO_OVERLOAD)?.value().cloned();
                return match found {
                    Some(value) if function == "orValue" => Ok(value),
                    Some(_) => Ok(target),
                    None => self.value(other),
                };
            }
            _ => {}
        }
        let prefix = target.and_then(qualified).filter(|prefix| !overloads(&format!("{prefix}.{function}")).is_empty());
        let target = match target {
            Some(target) if prefix.is_none() => Some(self.value(target)?),
            _ => None,
        };
        let args = args.iter().map(|arg| self.value(arg)).collect::<Run<Vec<_>>>()?;
        let size: usize = target.iter().chain(&args).map(functions::weight).sum();
        self.spend(size)?;
        functions::call(prefix.as_deref(), function, target, args)
    }

    /// `&&` and `||`: one side that decides is enough, even when the other fails.
    fn logic(&mut self, left: &Expr, right: &Expr, decides: bool) -> Run {
        let first = self.value(left).and_then(|value| truth(&value));
        if first == Ok(decides) {
            return Ok(Value::Bool(decides));
        }
        let second = self.value(right).and_then(|value| truth(&value));
        if second == Ok(decides) {
            return Ok(Value::Bool(decides));
        }
        first?;
        second.map(Value::Bool)
    }

    fn fold(&mut self, fold: &Fold) -> Run {
        let range = self.value(&fold.range)?;
        if matches!(fold.how, Folding::OptMap | Folding::OptFlatMap) {
            let Some(value) = functions::optional(&range).ok_or(NO_OVERLOAD)?.value().cloned() else {
                return Ok(functions::optional_of(None));
            };
            let body = self.bound(fold, None, value, &fold.body)?;
            return Ok(if fold.how == Folding::OptMap { functions::optional_of(Some(body)) } else { body });
        }
        let elements: Vec<(Value, Value)> = match &range {
            Value::List(list) => list.iter().enumerate().map(|(n, v)| (Value::Int(n as i64), v.clone())).collect(),
            Value::Map(map) => {
                let sorted: BTreeMap<&Key, &Value> = map.map.iter().collect();
                sorted.into_iter().map(|(k, v)| (key_value(k), v.clone())).collect()
            }
            _ => return Err(NO_OVERLOAD.to_owned()),
        };
        let is_map = matches!(range, Value::Map(_));
        let mut result = Outcome::default();
        for (key, value) in elements {
            let value = if is_map && fold.second.is_none() { key.clone() } else { value };
            if let Some(filter) = &fold.filter
                && !truth(&self.bound(fold, Some(&key), value.clone(), filter)?)?
            {
                continue;
            }
            let body = self.bound(fold, Some(&key), value.clone(), &fold.body);
            if body.as_ref().is_err_and(|e| e == OVER_BUDGET) {
                return body;
            }
            if result.take(fold.how, key, value, body)? {
                break;
            }
        }
        result.end(fold.how)
    }

    /// A part of a macro with its names bound.
    fn bound(&mut self, fold: &Fold, key: Option<&Value>, value: Value, part: &Expr) -> Run {
        let depth = self.names.len();
        match (&fold.second, key) {
            (Some(second), Some(key)) => {
                self.names.extend([(fold.name.clone(), key.clone()), (second.clone(), value)]);
            }
            _ => self.names.push((fold.name.clone(), value)),
        }
        let found = self.value(part);
        self.names.truncate(depth);
        found
    }
}

/// What a macro has gathered so far.
#[derive(Default)]
struct Outcome {
    count: usize,
    decided: bool,
    failed: Option<String>,
    list: Vec<Value>,
    map: HashMap<Key, Value>,
}

impl Outcome {
    /// Takes in one element; true when no other can change the result.
    fn take(&mut self, how: Folding, key_found: Value, value: Value, body: Run) -> Run<bool> {
        match how {
            Folding::All | Folding::Exists => match body.and_then(|b| truth(&b)) {
                Ok(found) => self.decided = found == (how == Folding::Exists),
                Err(error) => self.failed = self.failed.take().or(Some(error)),
            },
            Folding::ExistsOne => self.count += usize::from(truth(&body?)?),
            Folding::Filter => {
                if truth(&body?)? {
                    self.list.push(value);
                }
            }
            Folding::Map | Folding::OptMap | Folding::OptFlatMap => self.list.push(body?),
            Folding::TransformMap => {
                self.map.insert(key(key_found)?, body?);
            }
            Folding::TransformMapEntry => {
                let Value::Map(entries) = body? else { return Err(NO_OVERLOAD.to_owned()) };
                for (key, value) in entries.map.iter() {
                    if self.map.insert(key.clone(), value.clone()).is_some() {
                        return Err(format!("insert failed: key {key} already exists"));
                    }
                }
            }
        }
        Ok(self.decided)
    }

    fn end(self, how: Folding) -> Run {
        match how {
            Folding::All | Folding::Exists if self.decided => Ok(Value::Bool(how == Folding::Exists)),
            Folding::All | Folding::Exists => match self.failed {
                Some(error) => Err(error),
                None => Ok(Value::Bool(how == Folding::All)),
            },
            Folding::ExistsOne => Ok(Value::Bool(self.count == 1)),
            Folding::TransformMap | Folding::TransformMapEntry => Ok(Value::Map(Map { map: Arc::new(self.map) })),
            _ => Ok(self.list.into()),
        }
    }
}

fn constant(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::UInt(*value),
        Literal::Double(value) => Value::Float(*value),
        Literal::String(value) => Value::String(Arc::new(value.clone())),
        Literal::Bytes(value) => Value::Bytes(Arc::new(value.clone())),
    }
}

fn unwrapped(value: &Value) -> Run<Option<Value>> {
    let found: &OptionalValue = functions::optional(value).ok_or(NO_OVERLOAD)?;
    Ok(found.value().cloned())
}

pub(crate) fn key(value: Value) -> Run<Key> {
    value.try_into().map_err(|_: Value| "unsupported key type".to_owned())
}

fn key_value(key: &Key) -> Value {
    match key {
        Key::Int(value) => Value::Int(*value),
        Key::Uint(value) => Value::UInt(*value),
        Key::Bool(value) => Value::Bool(*value),
        Key::String(value) => Value::String(value.clone()),
    }
}

pub(crate) fn truth(value: &Value) -> Run<bool> {
    match value {
        Value::Bool(value) => Ok(*value),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}
