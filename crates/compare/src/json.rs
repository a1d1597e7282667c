//! Two JSON documents, gone through side by side.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Number, Value};

use crate::diff::{Difference, Kind};
use crate::path::{Step, folded};
use crate::redact::HIDDEN;
use crate::rules::Rules;

/// Values that one comparison looks at, some of them more than once.
const MOST_WORK: usize = 400_000;
/// Integers up to here are exact as floating point numbers.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Documents come from a parser that refuses to go deeper than 128 levels, so this may call itself.
pub(crate) struct Walk<'a> {
    rules: &'a Rules,
    most: usize,
    path: Vec<Step<'a>>,
    /// How many steps of the path, from the top, are names of secrets.
    secrets: usize,
    work: usize,
    pub(crate) found: Vec<Difference>,
    pub(crate) is_partial: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(rules: &'a Rules, most: usize) -> Self {
        Self { rules, most, path: Vec::new(), secrets: 0, work: 0, found: Vec::new(), is_partial: false }
    }

    pub(crate) fn go(&mut self, stable: &'a Value, candidate: &'a Value) {
        if self.is_over() || self.rules.ignores(&self.path) {
            return;
        }
        match (stable, candidate) {
            (Value::Object(ours), Value::Object(theirs)) => self.objects(ours, theirs),
            (Value::Array(ours), Value::Array(theirs)) if self.rules.is_unordered(&self.path) => {
                self.unordered(ours, theirs);
            }
            (Value::Array(ours), Value::Array(theirs)) => self.ordered(ours, theirs),
            (Value::Number(ours), Value::Number(theirs)) if numbers_equal(ours, theirs, self.rules.tolerance) => {}
            (ours, theirs) if ours == theirs => {}
            (ours, theirs) if type_of(ours) == type_of(theirs) => self.differ(Kind::Value, Some(ours), Some(theirs)),
            (ours, theirs) => self.differ(Kind::Type, Some(ours), Some(theirs)),
        }
    }

    fn objects(&mut self, ours: &'a Map<String, Value>, theirs: &'a Map<String, Value>) {
        let keys: BTreeSet<&'a String> = ours.keys().chain(theirs.keys()).collect();
        for key in keys {
            let secret = self.rules.redaction.hides(key);
            self.secrets += usize::from(secret);
            self.path.push(Step::Key(key));
            match (ours.get(key), theirs.get(key)) {
                (Some(one), Some(other)) => self.go(one, other),
                (one, other) if !self.rules.ignores(&self.path) => {
                    let kind = if one.is_some() { Kind::Missing } else { Kind::Extra };
                    self.differ(kind, one, other);
                }
                _ => {}
            }
            self.path.pop();
            self.secrets -= usize::from(secret);
        }
    }

    fn ordered(&mut self, ours: &'a [Value], theirs: &'a [Value]) {
        if ours.len() != theirs.len() {
            self.lengths(ours, theirs);
            return;
        }
        let before = self.found.len();
        for (at, (one, other)) in ours.iter().zip(theirs).enumerate() {
            self.item(at, one, other);
        }
        let differs = self.found.len() > before;
        if differs && self.leftovers(ours, theirs).is_some_and(|(one, other)| one.is_empty() && other.is_empty()) {
            self.found.truncate(before);
            self.differ(Kind::Order, None, None);
        }
    }

    fn unordered(&mut self, ours: &'a [Value], theirs: &'a [Value]) {
        let Some((one, mut other)) = self.leftovers(ours, theirs) else { return };
        let one: Vec<usize> = one.into_iter().filter(|at| !self.paired(*at, &ours[*at], theirs, &mut other)).collect();
        if ours.len() != theirs.len() {
            self.lengths(ours, theirs);
        }
        for (at, other) in one.into_iter().zip(other) {
            self.item(at, &ours[at], &theirs[other]);
        }
    }

    /// Finds an item that is equal within the tolerance, and takes it out of those that are left.
    fn paired(&mut self, at: usize, item: &'a Value, theirs: &'a [Value], left: &mut Vec<usize>) -> bool {
        if self.rules.tolerance == 0.0 {
            return false;
        }
        let before = (self.found.len(), self.is_partial);
        let equal = left.iter().position(|other| {
            // One that is found is enough to know that they are not.
            let most = std::mem::replace(&mut self.most, before.0 + 1);
            self.item(at, item, &theirs[*other]);
            self.most = most;
            let equal = self.found.len() == before.0;
            self.found.truncate(before.0);
            self.is_partial = before.1 || self.work >= MOST_WORK;
            equal && !self.is_partial
        });
        equal.map(|position| left.remove(position)).is_some()
    }

    fn item(&mut self, at: usize, one: &'a Value, other: &'a Value) {
        self.path.push(Step::Index(at));
        self.go(one, other);
        self.path.pop();
    }

    /// The items of each side that the other has none left for; `None` when there is too much to look at.
    fn leftovers(&mut self, ours: &'a [Value], theirs: &'a [Value]) -> Option<(Vec<usize>, Vec<usize>)> {
        let mut known: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, item) in theirs.iter().enumerate() {
            known.entry(self.canonical_item(at, item)).or_default().push(at);
        }
        let mut left = Vec::new();
        for (at, item) in ours.iter().enumerate() {
            let same = self.canonical_item(at, item);
            if known.get_mut(&same).and_then(Vec::pop).is_none() {
                left.push(at);
            }
        }
        let mut other: Vec<usize> = known.into_values().flatten().collect();
        other.sort_unstable();
        (!self.is_over()).then_some((left, other))
    }

    fn canonical_item(&mut self, at: usize, item: &'a Value) -> String {
        let mut out = String::new();
        self.path.push(Step::Index(at));
        self.canonical(item, &mut out);
        self.path.pop();
        out
    }

    /// A text that all values share which are equal by the rules, but for the tolerance.
    fn canonical(&mut self, value: &'a Value, out: &mut String) {
        if self.is_over() || self.rules.ignores(&self.path) {
            return;
        }
        match value {
            Value::Object(fields) => {
                let mut keys: Vec<&'a String> = fields.keys().collect();
                keys.sort_unstable();
                out.push('{');
                for key in keys {
                    self.path.push(Step::Key(key));
                    if !self.rules.ignores(&self.path) {
                        out.push_str(&Value::from(key.as_str()).to_string());
                        out.push(':');
                        self.canonical(&fields[key], out);
                        out.push(',');
                    }
                    self.path.pop();
                }
                out.push('}');
            }
            Value::Array(items) => {
                let is_unordered = self.rules.is_unordered(&self.path);
                let mut texts: Vec<String> =
                    items.iter().enumerate().map(|(at, item)| self.canonical_item(at, item)).collect();
                if is_unordered {
                    texts.sort_unstable();
                }
                out.push('[');
                out.push_str(&texts.join(","));
                out.push(']');
            }
            Value::Number(number) => out.push_str(&canonical_number(number)),
            other => out.push_str(&other.to_string()),
        }
    }

    fn lengths(&mut self, ours: &[Value], theirs: &[Value]) {
        let [stable, candidate] = [ours, theirs].map(|items| format!("{} items", items.len()));
        self.note(Kind::Length, stable, candidate);
    }

    fn differ(&mut self, kind: Kind, stable: Option<&Value>, candidate: Option<&Value>) {
        let show = |value: Option<&Value>| match value {
            None => String::new(),
            Some(_) if self.secrets > 0 => HIDDEN.to_owned(),
            Some(value) => self.rules.redaction.json(value),
        };
        let (stable, candidate) = (show(stable), show(candidate));
        self.note(kind, stable, candidate);
    }

    fn note(&mut self, kind: Kind, stable: String, candidate: String) {
        if self.found.len() < self.most {
            self.found.push(Difference { path: format!("json:{}", folded(&self.path)), kind, stable, candidate });
        }
    }

    /// Counts one more look, and says whether that was too many.
    fn is_over(&mut self) -> bool {
        self.work += 1;
        let over = self.work >= MOST_WORK || self.found.len() >= self.most;
        self.is_partial |= over;
        over
    }
}

fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// As numbers, not as they are written: `1` and `1.0` are equal.
fn numbers_equal(one: &Number, other: &Number, tolerance: f64) -> bool {
    if canonical_number(one) == canonical_number(other) {
        return true;
    }
    let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) else { return false };
    (one - other).abs() <= tolerance * one.abs().max(other.abs())
}

fn canonical_number(number: &Number) -> String {
    // Adding nothing makes a negative zero an ordinary one.
    match number.as_f64() {
        _ if number.is_i64() || number.is_u64() => number.to_string(),
        Some(float) if float.fract() == 0.0 && float.abs() < EXACT => format!("{:.0}", float + 0.0),
        _ => number.to_string(),
    }
}
