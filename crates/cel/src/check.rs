//! Finds the type of an expression, and everything in it that cannot work.

use regex::Regex;

use crate::ast::{Entry, Expr, Fold, Folding, Item, Kind, Literal, Selecting};
use crate::declarations::{fresh, overloads};
use crate::fault::Fault;
use crate::times::{duration_from_text, timestamp_from_text};
use crate::types::{Bindings, Type};

/// The type of `expr` where `names` stand for values of known types.
pub(crate) fn check(expr: &Expr, names: &[(String, Type)]) -> Result<Type, Vec<Fault>> {
    let mut checker = Checker { names: names.to_vec(), bindings: Bindings::default(), faults: Vec::new() };
    let found = checker.type_of(expr);
    if checker.faults.is_empty() { Ok(checker.bindings.resolve(&found)) } else { Err(checker.faults) }
}

struct Checker {
    names: Vec<(String, Type)>,
    bindings: Bindings,
    faults: Vec<Fault>,
}

impl Checker {
    fn fault(&mut self, at: usize, message: String) -> Type {
        self.faults.push(Fault { at, message });
        Type::Error
    }

    fn type_of(&mut self, expr: &Expr) -> Type {
        match &expr.kind {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => self.ident(expr.at, name),
            Kind::Select { operand, field, how } => self.select(expr, operand, field, *how),
            Kind::Call { function, target, args } => self.call(expr.at, function, target.as_deref(), args),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct(name) => self.fault(expr.at, undeclared(name)),
            Kind::Fold(fold) => self.fold(expr.at, fold),
        }
    }

    fn ident(&mut self, at: usize, name: &str) -> Type {
        let found = self.names.iter().rev().find(|(known, _)| known == name).map(|(_, of)| of.clone());
        let found = found.or_else(|| Type::named(name).map(|of| Type::Type(Box::new(of))));
        found.unwrap_or_else(|| self.fault(at, undeclared(name)))
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, how: Selecting) -> Type {
        // A name of several parts, `google.protobuf.Timestamp`.
        if let Some(of) = qualified(expr).and_then(|name| Type::named(&name)) {
            return Type::Type(Box::new(of));
        }
        let found = self.type_of(operand);
        let found = self.bindings.look(&found);
        let (inside, optional) = match found {
            Type::Optional(inside) => (self.bindings.look(&inside), true),
            other => (other, false),
        };
        let of = match inside {
            Type::Error => Type::Error,
            Type::Dyn => Type::Dyn,
            Type::Param(..) => Type::Dyn,
            Type::Map(_, value) => *value,
            Type::Object(fields) => match fields.get(field) {
                Some(of) => of.clone(),
                None => self.fault(expr.at, format!("undefined field '{field}'")),
            },
            other => self.fault(expr.at, format!("type '{other}' does not support field selection")),
        };
        match how {
            _ if of == Type::Error => Type::Error,
            Selecting::Test => Type::Bool,
            Selecting::Optional => Type::optional(of),
            Selecting::Plain if optional => Type::optional(of),
            Selecting::Plain => of,
        }
    }

    fn call(&mut self, at: usize, function: &str, target: Option<&Expr>, args: &[Expr]) -> Type {
        // `sets.contains(a, b)` is no method but a function with a name of two parts.
        let whole = target.and_then(qualified).map(|prefix| format!("{prefix}.{function}"));
        let whole = whole.filter(|name| !overloads(name).is_empty());
        let (function, target) = if let Some(name) = &whole { (name.as_str(), None) } else { (function, target) };
        let target = target.map(|target| self.type_of(target));
        let args_found: Vec<Type> = args.iter().map(|arg| self.type_of(arg)).collect();
        if overloads(function).is_empty() {
            return self.fault(at, undeclared(function));
        }
        if target.iter().chain(&args_found).any(|of| *of == Type::Error) {
            return Type::Error;
        }
        let result = self.overload(function, target.as_ref(), &args_found);
        let Some(result) = result else {
            let shown = |of: &Type| self.bindings.resolve(of).to_string();
            let list = args_found.iter().map(shown).collect::<Vec<_>>().join(", ");
            let target = target.as_ref().map(|of| format!("{}.", shown(of))).unwrap_or_default();
            return self
                .fault(at, format!("found no matching overload for '{function}' applied to '{target}({list})'"));
        };
        self.literals(function, args);
        result
    }

    fn overload(&mut self, function: &str, target: Option<&Type>, args: &[Type]) -> Option<Type> {
        let mut result: Option<Type> = None;
        for overload in overloads(function) {
            if overload.target.is_some() != target.is_some() || overload.args.len() != args.len() {
                continue;
            }
            let number = self.bindings.next_use();
            let mut tried = self.bindings.clone();
            let wanted = overload.target.iter().chain(&overload.args);
            let found = target.into_iter().chain(args);
            if !found.zip(wanted).all(|(found, wanted)| tried.fits(found, &fresh(wanted, number))) {
                continue;
            }
            let this = tried.resolve(&fresh(&overload.result, number));
            self.bindings = tried;
            result = match result {
                Some(earlier) if earlier != this => Some(Type::Dyn),
                _ => Some(this),
            };
        }
        result
    }

    /// Literal patterns, times and durations are read when the rule is written.
    fn literals(&mut self, function: &str, args: &[Expr]) {
        let Some(Expr { at, kind: Kind::Literal(Literal::String(text)), .. }) = args.last() else { return };
        let wrong = match function {
            "matches" => Regex::new(text).err().map(|_| "invalid matches argument"),
            "duration" => duration_from_text(text).is_none().then_some("invalid duration argument"),
            "timestamp" => timestamp_from_text(text).is_none().then_some("invalid timestamp argument"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.fault(*at, wrong.to_owned());
        }
    }

    fn list(&mut self, items: &[Item]) -> Type {
        let mut of: Option<Type> = None;
        for item in items {
            let found = self.type_of(&item.value);
            let found = self.unwrapped(item.value.at, found, item.optional);
            of = Some(self.same(item.value.at, of, found));
        }
        Type::list(of.unwrap_or_else(|| self.bindings.unknown()))
    }

    fn map(&mut self, entries: &[Entry]) -> Type {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            let key = self.type_of(&entry.key);
            keys = Some(self.same(entry.key.at, keys, key));
            let value = self.type_of(&entry.value);
            let value = self.unwrapped(entry.value.at, value, entry.optional);
            values = Some(self.same(entry.value.at, values, value));
        }
        let key = keys.unwrap_or_else(|| self.bindings.unknown());
        let value = values.unwrap_or_else(|| self.bindings.unknown());
        Type::Map(Box::new(key), Box::new(value))
    }

    /// What an optional item is when it is there.
    fn unwrapped(&mut self, at: usize, found: Type, optional: bool) -> Type {
        match self.bindings.look(&found) {
            Type::Optional(inside) if optional => *inside,
            Type::Dyn | Type::Error => found,
            other if optional => self.fault(at, format!("expected type 'optional_type(dyn)' but found '{other}'")),
            _ => found,
        }
    }

    /// The items of a list are of one type.
    fn same(&mut self, at: usize, earlier: Option<Type>, found: Type) -> Type {
        let Some(earlier) = earlier else { return found };
        if self.bindings.fits(&found, &earlier) {
            return if self.bindings.look(&found) == Type::Dyn { found } else { earlier };
        }
        let (wanted, found) = (self.bindings.resolve(&earlier), self.bindings.resolve(&found));
        self.fault(at, format!("expected type '{wanted}' but found '{found}'"))
    }

    fn fold(&mut self, at: usize, fold: &Fold) -> Type {
        let range = self.type_of(&fold.range);
        let range = self.bindings.look(&range);
        let unwraps = matches!(fold.how, Folding::OptMap | Folding::OptFlatMap);
        let is_map = matches!(range, Type::Map(..));
        let (key, value) = match range {
            Type::Error => (Type::Error, Type::Error),
            Type::Dyn | Type::Param(..) => (Type::Dyn, Type::Dyn),
            Type::Optional(of) if unwraps => (Type::Int, *of),
            Type::List(of) if !unwraps => (Type::Int, *of),
            Type::Map(key, value) if !unwraps => (*key, *value),
            other => {
                let message = if unwraps {
                    format!("found no matching overload for 'hasValue' applied to '{other}.()'")
                } else {
                    format!(
                        "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    )
                };
                self.fault(fold.range.at, message);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.names.len();
        match &fold.second {
            Some(second) => self.names.extend([(fold.name.clone(), key.clone()), (second.clone(), value)]),
            None if is_map => self.names.push((fold.name.clone(), key.clone())),
            None => self.names.push((fold.name.clone(), value)),
        }
        let filter = fold.filter.as_ref().map(|filter| (filter.at, self.type_of(filter)));
        let body = self.type_of(&fold.body);
        let bound = self.names[depth].1.clone();
        self.names.truncate(depth);
        if let Some((at, filter)) = filter {
            self.condition(at, &filter, "_?_:_");
        }
        let body_at = fold.body.at;
        match fold.how {
            Folding::All => self.condition(body_at, &body, "_&&_"),
            Folding::Exists => self.condition(body_at, &body, "_||_"),
            Folding::ExistsOne => self.condition(body_at, &body, "_?_:_"),
            Folding::Filter => {
                self.condition(body_at, &body, "_?_:_");
                Type::list(bound)
            }
            Folding::Map => Type::list(body),
            Folding::TransformMap => Type::Map(Box::new(key), Box::new(body)),
            Folding::TransformMapEntry => body,
            Folding::OptMap => Type::optional(body),
            Folding::OptFlatMap if matches!(self.bindings.look(&body), Type::Optional(_) | Type::Dyn | Type::Error) => {
                body
            }
            Folding::OptFlatMap => {
                let shown = self.bindings.resolve(&body);
                self.fault(
                    at,
                    format!("found no matching overload for '_?_:_' applied to '(bool, {shown}, optional_type(dyn))'"),
                )
            }
        }
    }

    /// What a macro asks of each element must be true or false.
    fn condition(&mut self, at: usize, found: &Type, operator: &str) -> Type {
        if self.bindings.fits(found, &Type::Bool) {
            return Type::Bool;
        }
        let found = self.bindings.resolve(found);
        let list = if operator == "_?_:_" { format!("({found}, dyn, dyn)") } else { format!("(bool, {found})") };
        self.fault(at, format!("found no matching overload for '{operator}' applied to '{list}'"))
    }
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// `a.b.c` as one name.
pub(crate) fn qualified(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select { operand, field, how: Selecting::Plain } => Some(format!("{}.{field}", qualified(operand)?)),
        _ => None,
    }
}
