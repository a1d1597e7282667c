//! `x-kubernetes-validations`: rules in CEL about what a schema describes.

mod rule;
mod values;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_cel::{Failure, Value as Cel};

use super::check::{counterpart, fault, join};
use super::schema::Schema;
use crate::fault::{Fault, FaultKind};

pub(super) use rule::{Compiled, Rule};
pub(super) use values::type_of;

/// Steps that one rule, and all rules together, may take for one object.
const RULE_BUDGET: u64 = 1_000_000;
const OBJECT_BUDGET: u64 = 10_000_000;
/// A message that a rule makes up may not be longer.
const MAX_MESSAGE_BYTES: usize = 5 * 1024;

/// The compiled rules of one version of a custom resource.
#[derive(Debug, Default)]
pub(super) struct Rules {
    here: Vec<Result<Compiled, String>>,
    properties: BTreeMap<String, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
}

impl Rules {
    /// The rules of a schema and of everything below it.
    pub(super) fn compile(open_api: &Value, schema: &Schema) -> Self {
        let of = type_of(schema);
        let compile = |rule: Rule| {
            let of = of.as_ref().ok_or_else(|| "a rule about what has no type".to_owned())?;
            rule.compile(of).map_err(|wrong| wrong.rule.or(wrong.message_expression).unwrap_or_default())
        };
        let below = |name: &str, schema: &Option<Box<Schema>>| {
            let schema = schema.as_deref().filter(|schema| schema.any_rules())?;
            Some(Box::new(Self::compile(&open_api[name], schema)))
        };
        let properties = schema.properties.iter().filter(|(_, schema)| schema.any_rules());
        Self {
            here: Rule::read_all(open_api).into_iter().map(compile).collect(),
            properties: properties
                .map(|(name, schema)| (name.clone(), Self::compile(&open_api["properties"][name], schema)))
                .collect(),
            additional: below("additionalProperties", &schema.additional),
            items: below("items", &schema.items),
        }
    }

    /// Faults of rules; those that an update did not bring about are only warnings.
    pub(super) fn check(
        &self,
        schema: &Schema,
        object: &Value,
        old: Option<&Value>,
        faults: &mut Vec<Fault>,
        warnings: &mut Vec<String>,
    ) {
        let mut walk = Walk { budget: OBJECT_BUDGET, faults, warnings };
        walk.node(self, schema, object, old, "");
    }
}

struct Walk<'a> {
    /// Steps that are left for this object.
    budget: u64,
    faults: &'a mut Vec<Fault>,
    warnings: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn node(&mut self, rules: &Rules, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        if value.is_null() {
            return;
        }
        if !rules.here.is_empty() {
            self.rules(&rules.here, schema, value, old, path);
        }
        match value {
            Value::Object(fields) => {
                for (name, below) in fields {
                    let before = old.and_then(|old| old.get(name));
                    if let (Some(rules), Some(schema)) = (rules.properties.get(name), schema.properties.get(name)) {
                        self.node(rules, schema, below, before, &join(path, name));
                    } else if let (Some(rules), Some(schema)) = (&rules.additional, &schema.additional) {
                        self.node(rules, schema, below, before, &format!("{path}[{name}]"));
                    }
                }
            }
            Value::Array(items) => {
                let (Some(rules), Some(item_schema)) = (&rules.items, &schema.items) else { return };
                for (n, item) in items.iter().enumerate() {
                    let before = old.and_then(|old| counterpart(schema, old, item));
                    self.node(rules, item_schema, item, before, &format!("{path}[{n}]"));
                }
            }
            _ => {}
        }
    }

    fn rules(
        &mut self,
        rules: &[Result<Compiled, String>],
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
        path: &str,
    ) {
        let now = values::value_of(schema, value);
        let before = old.map(|old| values::value_of(schema, old));
        let unchanged = old == Some(value);
        let path = if path.is_empty() { "<nil>" } else { path };
        for compiled in rules {
            let compiled = match compiled {
                Ok(compiled) => compiled,
                Err(why) => {
                    self.faults.push(fault(path, FaultKind::Invalid, Some(json!(schema.kind)), why.clone()));
                    continue;
                }
            };
            let Some(names) = names(compiled, &now, before.as_ref()) else { continue };
            let Some(found) = self.run(compiled, names, schema, value, path) else { continue };
            if unchanged && found.said_no {
                self.warnings.push(format!("{}: {}", found.fault.path, words(&found.fault)));
            } else {
                self.faults.push(found.fault);
            }
        }
    }

    fn run(
        &mut self,
        compiled: &Compiled,
        names: Vec<(String, Cel)>,
        schema: &Schema,
        value: &Value,
        path: &str,
    ) -> Option<Found> {
        let invalid = |detail: String| {
            let fault = fault(path, FaultKind::Invalid, Some(json!(schema.kind)), detail);
            Some(Found { fault, said_no: false })
        };
        let given = RULE_BUDGET.min(self.budget);
        let mut left = given;
        let outcome = compiled.program.run(names.clone(), &mut left);
        self.budget -= given - left;
        let rule = &compiled.rule;
        match outcome {
            Ok(Cel::Bool(true)) => None,
            Ok(Cel::Bool(false)) => {
                let message = self.message(compiled, names).unwrap_or_else(|| rule.spoken());
                Some(Found { fault: judged(rule, path, value, message), said_no: true })
            }
            Ok(_) => invalid("cel expression must evaluate to a bool".into()),
            Err(Failure::OverBudget) if given < RULE_BUDGET => invalid(
                "validation failed due to running out of cost budget, no further validation rules will be run".into(),
            ),
            Err(Failure::OverBudget) => invalid(format!(
                "no further validation rules will be run due to call cost exceeds limit for rule: {}",
                rule.rule
            )),
            Err(Failure::Failed(why)) => {
                let named = if rule.message.trim().is_empty() { &rule.rule } else { &rule.message };
                invalid(format!("{why} evaluating rule: {}", named.trim()))
            }
        }
    }

    /// What the rule says of this failure; an empty, broken or long message is as good as none.
    fn message(&mut self, compiled: &Compiled, names: Vec<(String, Cel)>) -> Option<String> {
        let found = compiled.message.as_ref()?.run(names, &mut self.budget);
        let Ok(Cel::String(message)) = found else { return None };
        let message = message.trim();
        let fits = !message.is_empty() && !message.contains('\n') && message.len() <= MAX_MESSAGE_BYTES;
        fits.then(|| message.to_owned())
    }
}

struct Found {
    fault: Fault,
    /// Whether the rule said no, rather than being unable to answer.
    said_no: bool,
}

/// What the names in a rule stand for; `None` where it compares with something that was not there.
fn names(compiled: &Compiled, now: &Cel, before: Option<&Cel>) -> Option<Vec<(String, Cel)>> {
    let mut names = vec![("self".to_owned(), now.clone())];
    if !compiled.uses_old {
        return Some(names);
    }
    let old = match before {
        before if compiled.rule.optional_old_self == Some(true) => sluice_cel::optional(before.cloned()),
        before => before?.clone(),
    };
    names.push(("oldSelf".to_owned(), old));
    Some(names)
}

fn judged(rule: &Rule, path: &str, value: &Value, message: String) -> Fault {
    let below = rule.field_path.replace("['", "[").replace("']", "]");
    let path = match path {
        "<nil>" if !below.is_empty() => below.trim_start_matches('.').to_owned(),
        path => format!("{path}{below}"),
    };
    match rule.reason.as_deref() {
        Some("FieldValueDuplicate") => fault(&path, FaultKind::Duplicate, None, ""),
        Some("FieldValueForbidden") => fault(&path, FaultKind::Forbidden, None, message),
        Some("FieldValueRequired") => fault(&path, FaultKind::Required, None, message),
        // Whole objects and lists are not printed.
        _ => {
            let scalar = Some(value).filter(|v| !v.is_object() && !v.is_array());
            fault(&path, FaultKind::Invalid, scalar.cloned(), message)
        }
    }
}

/// A fault as a warning words it.
fn words(fault: &Fault) -> String {
    match (&fault.kind, &fault.value) {
        (FaultKind::Invalid, Some(value)) => format!("Invalid value: {value}: {}", fault.detail),
        (FaultKind::Invalid, None) => format!("Invalid value: {}", fault.detail),
        (FaultKind::Duplicate, _) => "Duplicate value".into(),
        (FaultKind::Forbidden, _) => format!("Forbidden: {}", fault.detail),
        _ => format!("Required value: {}", fault.detail),
    }
}
