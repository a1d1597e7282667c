//! What is wrong with an expression, shown below the line it stands in as cel-go shows it.

use std::fmt;

/// Something wrong at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Counted in characters from the start of the text.
    pub(crate) at: usize,
    pub(crate) message: String,
}

/// Why an expression was refused, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    text: String,
    faults: Vec<Fault>,
}

impl Faults {
    pub(crate) fn new(text: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.at);
        Self { text: text.to_owned(), faults }
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            let (line, column) = place(&self.text, fault.at);
            let shown = self.text.lines().nth(line).unwrap_or_default();
            write!(f, "ERROR: <input>:{}:{}: {}", line + 1, column + 1, fault.message)?;
            write!(f, "\n | {shown}\n | {}^", ".".repeat(column))?;
        }
        Ok(())
    }
}

/// Line and column of a place, from zero.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before: Vec<char> = text.chars().take(at).collect();
    let line = before.iter().filter(|c| **c == '\n').count();
    let column = before.iter().rev().take_while(|c| **c != '\n').count();
    (line, column)
}

/// Where the character at `column` of `line` stands, both from zero.
pub(crate) fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split('\n').take(line).map(|l| l.chars().count() + 1).sum();
    before + column
}
