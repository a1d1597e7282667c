//! The grammar of `a=b,c in (d, e),!f,g>1`.

use super::{Operator, Requirement, SelectorError, names};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    Name(&'a str),
    /// A name only where a value may stand; elsewhere an operator.
    In,
    NotIn,
    Symbol(&'static str),
}

/// Two-character symbols come before their beginnings.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { rest: text };
    let mut requirements = Vec::new();
    loop {
        match parser.peek() {
            Token::End => return Ok(requirements),
            token if token.starts_requirement() => {}
            token => {
                return Err(error(format!("found '{}', expected: !, identifier, or 'end of string'", token.text())));
            }
        }
        let requirement = parser.requirement().map_err(|e| error(format!("unable to parse requirement: {}", e.0)))?;
        requirements.push(requirement);
        match parser.next() {
            Token::End => return Ok(requirements),
            Token::Symbol(",") if parser.peek().starts_requirement() => {}
            Token::Symbol(",") => {
                return Err(error(format!("found '{}', expected: identifier after ','", parser.peek().text())));
            }
            token => return Err(error(format!("found '{}', expected: ',' or 'end of string'", token.text()))),
        }
    }
}

fn error(text: String) -> SelectorError {
    SelectorError(text)
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::End => "",
            Self::Name(name) => name,
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Symbol(symbol) => symbol,
        }
    }

    /// `in` and `notin` are good names for labels and values.
    fn name(self) -> Option<&'a str> {
        match self {
            Self::Name(_) | Self::In | Self::NotIn => Some(self.text()),
            Self::End | Self::Symbol(_) => None,
        }
    }

    fn starts_requirement(self) -> bool {
        self.name().is_some() || self == Self::Symbol("!")
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        Parser { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| self.rest.starts_with(symbol)) {
            self.rest = &self.rest[symbol.len()..];
            return Token::Symbol(symbol);
        }
        let ends = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<' | ' ' | '\t' | '\r' | '\n');
        let (name, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        match name {
            "" => Token::End,
            "in" => Token::In,
            "notin" => Token::NotIn,
            name => Token::Name(name),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let token = self.next();
        let Some(key) = token.name() else {
            return Err(error(format!("found '{}', expected: identifier", token.text())));
        };
        if let Some(fault) = names::key_fault("<nil>", key) {
            return Err(error(fault));
        }
        if absent {
            return Requirement::new(key.to_owned(), Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Requirement::new(key.to_owned(), Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.value()?],
        };
        Requirement::new(key.to_owned(), operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        Ok(match self.next() {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Symbol("=" | "==") => Operator::Equals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            token => {
                return Err(error(format!("found '{}', expected: in, notin, =, ==, !=, gt, lt", token.text())));
            }
        })
    }

    /// Nothing is the empty value.
    fn value(&mut self) -> Result<String, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        let token = self.next();
        let value = token.name().map(str::to_owned);
        value.ok_or_else(|| error(format!("found '{}', expected: identifier", token.text())))
    }

    /// `(a, b)`; a missing value is the empty one.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        let open = self.next();
        if open != Token::Symbol("(") {
            return Err(error(format!("found '{}' expected: '('", open.text())));
        }
        match self.peek() {
            Token::Symbol(")") => {
                self.next();
                return Ok(vec![String::new()]);
            }
            token if token.name().is_some() || token == Token::Symbol(",") => {}
            token => return Err(error(format!("found '{}', expected: ',', ')' or identifier", token.text()))),
        }
        let mut values = Vec::new();
        loop {
            let token = self.next();
            if let Some(name) = token.name() {
                values.push(name.to_owned());
                match self.next() {
                    Token::Symbol(",") => {
                        if self.peek() == Token::Symbol(")") {
                            values.push(String::new());
                            self.next();
                            return Ok(values);
                        }
                    }
                    Token::Symbol(")") => return Ok(values),
                    token => return Err(error(format!("found '{}', expected: ',' or ')'", token.text()))),
                }
            } else if token == Token::Symbol(",") {
                values.push(String::new());
                if self.peek() == Token::Symbol(")") {
                    self.next();
                    return Ok(values);
                }
            } else {
                return Err(error(format!("found '{}', expected: ',', or identifier", token.text())));
            }
        }
    }
}
