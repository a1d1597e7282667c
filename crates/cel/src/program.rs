//! An expression that was found right, ready to be run.

use kube_cel::cel::Value;

use crate::ast::Expr;
use crate::check::check;
use crate::eval::{Evaluator, OVER_BUDGET};
use crate::fault::Faults;
use crate::functions;
use crate::parse::parse;
use crate::types::Type;

/// An expression whose types are known to fit.
#[derive(Debug)]
pub struct Program {
    expr: Expr,
    result: Type,
}

/// Why a program has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It took more steps than it was given.
    OverBudget,
    Failed(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OverBudget => f.write_str(OVER_BUDGET),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Failure {}

impl Program {
    /// Reads an expression in which `names` stand for values of known types.
    pub fn compile(text: &str, names: &[(String, Type)]) -> Result<Self, Faults> {
        let expr = parse(text)?;
        let result = check(&expr, names).map_err(|faults| Faults::new(text, faults))?;
        Ok(Self { expr, result })
    }

    /// What kind of value running it gives.
    pub fn result(&self) -> &Type {
        &self.result
    }

    pub fn mentions(&self, name: &str) -> bool {
        self.expr.mentions(name)
    }

    /// Runs it with values for its names; what it costs is taken off `budget`, counted in steps.
    pub fn run(&self, names: Vec<(String, Value)>, budget: &mut u64) -> Result<Value, Failure> {
        let mut evaluator = Evaluator { names, budget: *budget };
        let found = evaluator.value(&self.expr);
        *budget = evaluator.budget;
        found.map_err(|why| if why == OVER_BUDGET { Failure::OverBudget } else { Failure::Failed(why) })
    }
}

/// An optional value, as rules with `optionalOldSelf` get one.
pub fn optional(value: Option<Value>) -> Value {
    functions::optional_of(value)
}
