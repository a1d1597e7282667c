//! Expressions in CEL as Kubernetes runs them: read, typed and evaluated within a budget.
//!
//! [`Program::compile`] refuses what a real API server refuses when a rule is written, in its words; what passes is run by
//! [`Program::run`]. The values and the libraries for strings, lists, addresses, quantities and versions are those of `kube-cel`;
//! its own reading and running of expressions are not used, because they know neither types nor places in the text, nor
//! optional fields, nor an end.

mod ast;
mod check;
mod declarations;
mod eval;
mod fault;
mod functions;
mod lex;
mod macros;
mod parse;
mod program;
mod times;
mod types;

pub use fault::Faults;
pub use kube_cel::cel::Value;
pub use kube_cel::cel::objects::{Key, Map};
pub use lex::is_keyword;
pub use program::{Failure, Program, optional};
pub use times::{duration_from_text, timestamp_from_text};
pub use types::{Fields, Type};

#[cfg(test)]
mod tests;
