//! One rule of a schema: what was written, and what it becomes.

use serde_json::{Value, json};
use sluice_cel::{Program, Type};

use crate::fault::go_json;

/// An entry of `x-kubernetes-validations`.
#[derive(Debug, Clone, Default)]
pub(in crate::crd) struct Rule {
    pub(in crate::crd) rule: String,
    pub(in crate::crd) message: String,
    pub(in crate::crd) message_expression: String,
    pub(in crate::crd) reason: Option<String>,
    pub(in crate::crd) field_path: String,
    pub(in crate::crd) optional_old_self: Option<bool>,
}

/// What is wrong with the expressions of a rule.
#[derive(Debug, Default)]
pub(in crate::crd) struct Wrong {
    pub(in crate::crd) rule: Option<String>,
    pub(in crate::crd) message_expression: Option<String>,
}

/// A rule that can be run.
#[derive(Debug)]
pub(in crate::crd) struct Compiled {
    pub(in crate::crd) rule: Rule,
    pub(in crate::crd) program: Program,
    pub(in crate::crd) message: Option<Program>,
    /// Whether it compares with what was there before.
    pub(in crate::crd) uses_old: bool,
}

impl Rule {
    /// The rules that stand at one node of a schema.
    pub(in crate::crd) fn read_all(schema: &Value) -> Vec<Self> {
        schema["x-kubernetes-validations"].as_array().into_iter().flatten().map(Self::read).collect()
    }

    fn read(json: &Value) -> Self {
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Self {
            rule: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason: json["reason"].as_str().map(str::to_owned),
            field_path: text("fieldPath"),
            optional_old_self: json["optionalOldSelf"].as_bool(),
        }
    }

    /// The rule as a real API server prints one that it refuses: with the fields of its own type, in their order.
    pub(in crate::crd) fn printed(&self) -> String {
        let fields = [
            ("Rule", json!(self.rule)),
            ("Message", json!(self.message)),
            ("MessageExpression", json!(self.message_expression)),
            ("Reason", json!(self.reason)),
            ("FieldPath", json!(self.field_path)),
            ("OptionalOldSelf", json!(self.optional_old_self)),
        ];
        let fields = fields.map(|(name, value)| format!("\"{name}\":{}", go_json(&value)));
        format!("{{{}}}", fields.join(","))
    }

    /// Reads its expressions, in which `self` is of type `of`.
    pub(in crate::crd) fn compile(&self, of: &Type) -> Result<Compiled, Wrong> {
        let old = if self.optional_old_self == Some(true) { Type::optional(of.clone()) } else { of.clone() };
        let names = [("self".to_owned(), of.clone()), ("oldSelf".to_owned(), old)];
        let program = Program::compile(&self.rule, &names)
            .map_err(|faults| format!("compilation failed: {faults}"))
            .and_then(|program| of_type(program, &Type::Bool, "cel expression must evaluate to a bool"));
        let message = (!self.message_expression.trim().is_empty()).then(|| {
            Program::compile(&self.message_expression, &names)
                .map_err(|faults| format!("messageExpression compilation failed: {faults}"))
                .and_then(|program| of_type(program, &Type::String, "messageExpression must evaluate to a string"))
        });
        match (program, message.transpose()) {
            (Ok(program), Ok(message)) => {
                let uses_old = program.mentions("oldSelf");
                Ok(Compiled { rule: self.clone(), program, message, uses_old })
            }
            (program, message) => Err(Wrong { rule: program.err(), message_expression: message.err() }),
        }
    }

    /// What a failure of the rule is called where nothing better is known.
    pub(in crate::crd) fn spoken(&self) -> String {
        match self.message.trim() {
            "" => format!("failed rule: {}", self.rule.trim()),
            message => message.to_owned(),
        }
    }
}

fn of_type(program: Program, wanted: &Type, otherwise: &str) -> Result<Program, String> {
    let fits = program.result() == wanted;
    if fits { Ok(program) } else { Err(otherwise.to_owned()) }
}
