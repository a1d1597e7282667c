//! Whether a value fits the types, in the words of apply: `.spec.replicas: expected numeric (int or float), got string`.

use serde_json::Value;

use super::element::Element;
use super::place::{Atom, KeyedList, Place, ScalarKind};
use crate::merge::{go_print, go_syntax, go_type};

/// Whether lists may hold two items of one key. Live objects may, patches may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duplicates {
    Allowed,
    Refused,
}

/// All that does not fit, as one message.
pub(super) fn check(place: Place<'_>, value: &Value, duplicates: Duplicates) -> Result<(), String> {
    let mut walk = Walk { duplicates, path: String::new(), faults: Vec::new() };
    walk.value(place, value);
    match walk.faults.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("errors:\n  {}", many.join("\n  "))),
    }
}

struct Walk {
    duplicates: Duplicates,
    path: String,
    faults: Vec<String>,
}

impl Walk {
    fn fault(&mut self, text: &str) {
        let fault = if self.path.is_empty() { text.to_owned() } else { format!("{}: {text}", self.path) };
        self.faults.push(fault);
    }

    fn below(&mut self, step: &str, visit: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        visit(self);
        self.path.truncate(length);
    }

    fn value(&mut self, place: Place<'_>, value: &Value) {
        if value.is_null() {
            return;
        }
        match place.atom(Some(value)) {
            Atom::Scalar(kind) => self.scalar(kind, value),
            Atom::AtomicList => self.list(place, value, None),
            Atom::List(list) => self.list(place, value, Some(list)),
            Atom::AtomicMap | Atom::Map => self.map(place, value),
        }
    }

    fn scalar(&mut self, kind: ScalarKind, value: &Value) {
        let fault = match kind {
            ScalarKind::String if !value.is_string() => {
                format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value))
            }
            ScalarKind::Boolean if !value.is_boolean() => format!("expected boolean, got &{{{}}}", go_print(value)),
            ScalarKind::Numeric if !value.is_number() => {
                format!("expected numeric (int or float), got {}", go_type(value))
            }
            ScalarKind::Untyped if value.is_object() || value.is_array() => {
                format!("expected any scalar, got &{{{}}}", go_print(value))
            }
            _ => return,
        };
        self.fault(&fault);
    }

    fn list(&mut self, place: Place<'_>, value: &Value, keyed: Option<KeyedList<'_>>) {
        let Some(items) = value.as_array() else {
            return self.fault(&format!("expected list, got &{{{}}}", go_print(value)));
        };
        let mut seen = std::collections::BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let element = match keyed.map(|list| list.element(item)) {
                None => Element::Index(i64::try_from(index).unwrap_or(i64::MAX)),
                Some(Ok(element)) => element,
                // Without a name of the item nothing deeper can be reported.
                Some(Err(why)) => return self.fault(&format!("element {index}: {why}")),
            };
            let step = element.to_string();
            if !seen.insert(element) && self.duplicates == Duplicates::Refused {
                self.fault(&format!("duplicate entries for key {step}"));
            }
            self.below(&step, |walk| walk.value(place.item(), item));
        }
    }

    fn map(&mut self, place: Place<'_>, value: &Value) {
        let Some(map) = value.as_object() else {
            return self.fault(&format!("expected map, got &{{{}}}", go_print(value)));
        };
        for (name, value) in map {
            let step = format!(".{name}");
            let Some(below) = place.field(name) else {
                return self.below(&step, |walk| walk.fault("field not declared in schema"));
            };
            self.below(&step, |walk| walk.value(below, value));
        }
    }
}
