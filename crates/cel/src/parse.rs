//! Words into an expression, by the grammar of CEL.

use kube_cel::cel::parser::Parser as Grammar;

use crate::ast::{Entry, Expr, Item, Kind, Literal, Selecting};
use crate::fault::{Fault, Faults, offset};
use crate::lex::{Token, Word, is_reserved, words};
use crate::macros;

/// Brackets nested deeper are refused, and so are chains of operators and fields that are longer: they are walked by recursion.
const MAX_DEPTH: usize = 64;
const MAX_HEIGHT: usize = 200;
const NAME: &str = "a name";

pub(crate) fn parse(text: &str) -> Result<Expr, Faults> {
    let read = words(text).and_then(|words| Parser { words, next: 0, depth: 0 }.whole());
    read.map_err(|fault| match fault.message.strip_prefix("Syntax error") {
        Some(_) => Faults::new(text, worded(text).unwrap_or_else(|| vec![fault])),
        None => Faults::new(text, vec![fault]),
    })
}

/// The faults as the grammar of cel-go words them; it knows what it expected instead.
fn worded(text: &str) -> Option<Vec<Fault>> {
    let errors = Grammar::default().enable_optional_syntax(true).parse(text).err()?.errors;
    let place = |(line, column): (isize, isize)| {
        Some(offset(text, usize::try_from(line - 1).ok()?, usize::try_from(column - 1).ok()?))
    };
    errors.into_iter().map(|e| Some(Fault { at: place(e.pos)?, message: e.msg })).collect()
}

struct Parser {
    words: Vec<Word>,
    next: usize,
    depth: usize,
}

type Parsed<T = Expr> = Result<T, Fault>;

fn low(expr: Expr) -> Parsed {
    if expr.height > MAX_HEIGHT { Err(too_deep(expr.at, MAX_HEIGHT)) } else { Ok(expr) }
}

fn too_deep(at: usize, most: usize) -> Fault {
    Fault { at, message: format!("expression recursion limit exceeded: {most}") }
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.words[self.next].token
    }

    fn at(&self) -> usize {
        self.words[self.next].at
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(found) if *found == sign)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        // The end is never left behind.
        self.next = (self.next + 1).min(self.words.len() - 1);
        token
    }

    /// Takes `sign` if it comes next, and says where it stood.
    fn take(&mut self, sign: &str) -> Option<usize> {
        let at = self.at();
        self.is(sign).then(|| {
            self.advance();
            at
        })
    }

    fn expect(&mut self, sign: &str) -> Parsed<usize> {
        self.take(sign).ok_or_else(|| self.unexpected(sign))
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        Fault { at: self.at(), message: format!("Syntax error: mismatched input, expecting {wanted}") }
    }

    fn whole(mut self) -> Parsed {
        let expr = self.expr()?;
        if *self.peek() == Token::End { Ok(expr) } else { Err(self.unexpected("<EOF>")) }
    }

    fn expr(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep(self.at(), MAX_DEPTH));
        }
        let condition = self.binary(0)?;
        let expr = match self.take("?") {
            None => condition,
            Some(at) => {
                let yes = self.binary(0)?;
                self.expect(":")?;
                let no = self.expr()?;
                Expr::call(at, "_?_:_", vec![condition, yes, no])
            }
        };
        self.depth -= 1;
        Ok(expr)
    }

    /// Operators from the loosest to the tightest level.
    fn binary(&mut self, level: usize) -> Parsed {
        const LEVELS: [&[&str]; 5] =
            [&["||"], &["&&"], &["<", "<=", ">", ">=", "==", "!=", "in"], &["+", "-"], &["*", "/", "%"]];
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(sign) = signs.iter().copied().find(|sign| self.is(sign)) {
            let at = self.at();
            self.advance();
            let right = self.binary(level + 1)?;
            let name = if sign == "in" { "@in".to_owned() } else { format!("_{sign}_") };
            left = low(Expr::call(at, &name, vec![left, right]))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        for (sign, name) in [("!", "!_"), ("-", "-_")] {
            let Some(at) = self.take(sign) else { continue };
            let mut count = 1;
            while self.take(sign).is_some() {
                count += 1;
            }
            let negative = sign == "-" && count % 2 == 1;
            if negative && matches!(self.peek(), Token::Int(_) | Token::Double(_)) {
                let number = self.primary(true)?;
                return self.member(Expr { at, ..number });
            }
            let primary = self.primary(false)?;
            let operand = self.member(primary)?;
            return Ok(if count % 2 == 1 { Expr::call(at, name, vec![operand]) } else { operand });
        }
        let primary = self.primary(false)?;
        self.member(primary)
    }

    /// What may follow a value: fields, methods, indices.
    fn member(&mut self, mut operand: Expr) -> Parsed {
        loop {
            operand = low(operand)?;
            let at = self.at();
            let how = if self.take(".").is_some() {
                Selecting::Plain
            } else if self.take(".?").is_some() {
                Selecting::Optional
            } else if self.is("[") || self.is("[?") {
                let function = if self.is("[?") { "_[?_]" } else { "_[_]" };
                self.advance();
                let index = self.expr()?;
                self.expect("]")?;
                operand = Expr::call(at, function, vec![operand, index]);
                continue;
            } else {
                return Ok(operand);
            };
            let name = match self.advance() {
                Token::Ident(name) | Token::Quoted(name) => name,
                Token::Sign("in") => "in".to_owned(),
                _ => {
                    self.next = self.next.saturating_sub(1);
                    return Err(self.unexpected(NAME));
                }
            };
            let open = self.at();
            operand = if how == Selecting::Plain && self.take("(").is_some() {
                let args = self.arguments()?;
                macros::method(open, operand, name, args)?
            } else {
                Expr::new(at, Kind::Select { operand: Box::new(operand), field: name, how })
            };
        }
    }

    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        let mut args = Vec::new();
        while self.take(")").is_none() {
            if !args.is_empty() {
                self.expect(",")?;
            }
            args.push(self.expr()?);
        }
        Ok(args)
    }

    fn primary(&mut self, negative: bool) -> Parsed {
        let at = self.at();
        let literal = |literal| Ok(Expr::new(at, Kind::Literal(literal)));
        match self.peek().clone() {
            Token::Sign("true") => self.literal(at, Literal::Bool(true)),
            Token::Sign("false") => self.literal(at, Literal::Bool(false)),
            Token::Sign("null") => self.literal(at, Literal::Null),
            Token::String(text) => self.literal(at, Literal::String(text)),
            Token::Bytes(bytes) => self.literal(at, Literal::Bytes(bytes)),
            Token::Uint(value) => self.literal(at, Literal::Uint(value)),
            Token::Double(value) => self.literal(at, Literal::Double(if negative { -value } else { value })),
            Token::Int(value) => {
                self.advance();
                let value = i64::try_from(if negative { -value } else { value });
                value.map_or_else(
                    |_| Err(Fault { at, message: "Syntax error: invalid int literal".into() }),
                    |v| literal(Literal::Int(v)),
                )
            }
            Token::Sign("(") => {
                self.advance();
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") | Token::Sign("[?") => self.list(at),
            Token::Sign("{") => {
                self.advance();
                self.map(at)
            }
            Token::Sign(".") => {
                self.advance();
                self.name(at)
            }
            Token::Ident(_) => self.name(at),
            _ => Err(self.unexpected("an expression")),
        }
    }

    fn literal(&mut self, at: usize, literal: Literal) -> Parsed {
        self.advance();
        Ok(Expr::new(at, Kind::Literal(literal)))
    }

    /// A name, a call, or the type of a struct that is made.
    fn name(&mut self, at: usize) -> Parsed {
        let Token::Ident(name) = self.advance() else {
            self.next = self.next.saturating_sub(1);
            return Err(self.unexpected(NAME));
        };
        if is_reserved(&name) {
            return Err(Fault { at, message: format!("reserved identifier: {name}") });
        }
        let open = self.at();
        if self.take("(").is_some() {
            let args = self.arguments()?;
            return macros::function(open, name, args);
        }
        if self.take("{").is_some() {
            self.map(open)?;
            return Ok(Expr::new(open, Kind::Struct(name)));
        }
        Ok(Expr::new(at, Kind::Ident(name)))
    }

    fn list(&mut self, at: usize) -> Parsed {
        let mut items = Vec::new();
        // `[?` is one word, and opens a list whose first item is optional.
        let mut optional = self.advance() == Token::Sign("[?");
        while self.take("]").is_none() {
            if !items.is_empty() {
                self.expect(",")?;
                if self.take("]").is_some() {
                    break;
                }
                optional = false;
            }
            optional |= self.take("?").is_some();
            items.push(Item { value: self.expr()?, optional });
        }
        Ok(Expr::new(at, Kind::List(items)))
    }

    fn map(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while self.take("}").is_none() {
            if !entries.is_empty() {
                self.expect(",")?;
                if self.take("}").is_some() {
                    break;
                }
            }
            let optional = self.take("?").is_some();
            let key = self.expr()?;
            self.expect(":")?;
            entries.push(Entry { key, value: self.expr()?, optional });
        }
        Ok(Expr::new(at, Kind::Map(entries)))
    }
}
