//! The small rules that validation is made of. Each looks at one place and writes down what is wrong with it.

use serde_json::Value;

use super::cursor::At;
use super::names::{self, Problems};
use crate::fault::{Fault, FaultKind, go_json, supported_values};

/// The faults found so far, in the order the real server finds them.
#[derive(Default)]
pub(crate) struct Faults(Vec<Fault>);

pub(crate) const IMMUTABLE: &str = "field is immutable";
pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

impl Faults {
    pub(crate) fn into_list(self) -> Vec<Fault> {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    // ---- writing down ----

    pub(crate) fn required(&mut self, at: &At<'_>, detail: impl Into<String>) {
        self.add(Fault::required(at.path(), detail));
    }

    pub(crate) fn forbidden(&mut self, at: &At<'_>, detail: impl Into<String>) {
        self.add(Fault::forbidden(at.path(), detail));
    }

    /// The value at this place is wrong.
    pub(crate) fn invalid(&mut self, at: &At<'_>, detail: impl Into<String>) {
        self.add(Fault::invalid(at.path(), at.value.clone(), detail));
    }

    /// Like [`Self::invalid`], with another value in the message.
    pub(crate) fn invalid_value(&mut self, at: &At<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.add(Fault::invalid(at.path(), value, detail));
    }

    /// Like [`Self::invalid`], with the value printed as `shown`.
    pub(crate) fn invalid_shown(&mut self, at: &At<'_>, shown: &str, detail: &str) {
        self.add(Fault::shown(at.path(), FaultKind::Invalid, shown, detail));
    }

    pub(crate) fn duplicate(&mut self, at: &At<'_>) {
        self.add(Fault::duplicate(at.path(), at.value.clone()));
    }

    pub(crate) fn not_found(&mut self, at: &At<'_>, detail: &str) {
        self.add(Fault::not_found(at.path(), at.value.clone(), detail));
    }

    pub(crate) fn unsupported(&mut self, at: &At<'_>, supported: &[&str]) {
        self.add(Fault::unsupported(at.path(), at.value.clone(), supported));
    }

    pub(crate) fn unsupported_shown(&mut self, at: &At<'_>, shown: &str, supported: &[&str]) {
        self.add(Fault::shown(at.path(), FaultKind::NotSupported, shown, &supported_values(supported)));
    }

    pub(crate) fn too_long(&mut self, at: &At<'_>, most: usize) {
        self.add(Fault::too_long(at.path(), most));
    }

    /// One fault for each problem that `format` finds in the text here.
    pub(crate) fn format(&mut self, at: &At<'_>, format: fn(&str) -> Problems) {
        self.problems(at, at.str(), format(at.str()));
    }

    /// One fault for each problem, all with this value.
    pub(crate) fn problems(&mut self, at: &At<'_>, value: impl Into<Value>, problems: Problems) {
        if problems.is_empty() {
            return;
        }
        let value = value.into();
        for problem in problems {
            self.add(Fault::invalid(at.path(), value.clone(), problem));
        }
    }

    // ---- rules ----

    /// Must not be absent or empty; answers whether it is there.
    pub(crate) fn present(&mut self, at: &At<'_>) -> bool {
        if at.is_zero() {
            self.required(at, "");
        }
        !at.is_zero()
    }

    /// Must be there and well formed.
    pub(crate) fn present_format(&mut self, at: &At<'_>, format: fn(&str) -> Problems) {
        if self.present(at) {
            self.format(at, format);
        }
    }

    /// If it is there, it must be well formed.
    pub(crate) fn optional_format(&mut self, at: &At<'_>, format: fn(&str) -> Problems) {
        if !at.is_zero() {
            self.format(at, format);
        }
    }

    /// Must be one of these; the message lists them as they stand.
    pub(crate) fn one_of(&mut self, at: &At<'_>, supported: &[&str]) {
        if !supported.contains(&at.str()) {
            self.add(Fault::unsupported(at.path(), at.str(), supported));
        }
    }

    /// If it is there, it must be one of these.
    pub(crate) fn optional_one_of(&mut self, at: &At<'_>, supported: &[&str]) {
        if at.is_set() {
            self.one_of(at, supported);
        }
    }

    pub(crate) fn present_one_of(&mut self, at: &At<'_>, supported: &[&str]) {
        if self.present(at) {
            self.one_of(at, supported);
        }
    }

    pub(crate) fn not_negative(&mut self, at: &At<'_>) {
        if at.int_or(0) < 0 {
            self.invalid(at, NOT_NEGATIVE);
        }
    }

    /// A port number that must be given.
    pub(crate) fn port(&mut self, at: &At<'_>) {
        let number = at.int_or(0);
        self.problems(at, number, names::port(number));
    }

    /// A port by number or by name.
    pub(crate) fn port_or_name(&mut self, at: &At<'_>) {
        match at.value.as_str() {
            Some(name) => self.problems(at, name, names::port_name(name)),
            None => self.port(at),
        }
    }

    /// If it is there, a user's or group's id.
    pub(crate) fn user_id(&mut self, at: &At<'_>) {
        if let Some(id) = at.int() {
            self.problems(at, id, names::user_id(id));
        }
    }

    /// The same value as before.
    pub(crate) fn immutable(&mut self, new: &At<'_>, old: &At<'_>) -> bool {
        let same = new.value == old.value || new.is_zero() && old.is_zero();
        if !same {
            self.invalid(new, IMMUTABLE);
        }
        same
    }

    /// The same value as before; the value of the message is printed as `shown`.
    pub(crate) fn immutable_shown(&mut self, new: &At<'_>, old: &At<'_>, shown: impl FnOnce(&Value) -> String) -> bool {
        let same = new.value == old.value || new.is_zero() && old.is_zero();
        if !same {
            self.invalid_shown(new, &shown(new.value), IMMUTABLE);
        }
        same
    }
}

/// A whole number or a percentage: what is wrong with it as such, and whether it is above 100 %.
pub(crate) fn int_or_percent(f: &mut Faults, at: &At<'_>) {
    match at.value.as_str() {
        Some(text) => f.problems(at, text, names::percent(text)),
        None => f.not_negative(at),
    }
}

/// The number before the percent sign.
pub(crate) fn percent_of(at: &At<'_>) -> Option<i64> {
    at.value.as_str()?.strip_suffix('%')?.parse().ok()
}

pub(crate) fn not_more_than_100_percent(f: &mut Faults, at: &At<'_>) {
    if percent_of(at).is_some_and(|percent| percent > 100) {
        f.invalid(at, "must not be greater than 100%");
    }
}

/// A struct printed with its fields in this order; absent ones are left out.
pub(crate) fn in_order(value: &Value, fields: &[&str]) -> String {
    let Some(map) = value.as_object() else { return go_json(value) };
    let parts: Vec<String> = fields
        .iter()
        .filter_map(|field| map.get(*field).map(|value| format!("\"{field}\":{}", go_json(value))))
        .collect();
    format!("{{{}}}", parts.join(","))
}
