//! Text into words.

use crate::fault::Fault;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// A field name in backticks, which may hold what names may not.
    Quoted(String),
    Int(i128),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    /// Operators and brackets, and the words `in`, `true`, `false`, `null`.
    Sign(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    pub(crate) at: usize,
    pub(crate) token: Token,
}

const SIGNS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", "[?", ".?", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[",
    "]", "{", "}", ".", ",", "=",
];
const WORDS: [&str; 4] = ["in", "true", "false", "null"];
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Whether a name cannot stand in an expression as it is, because the language has it for itself.
pub fn is_keyword(name: &str) -> bool {
    WORDS.contains(&name) || is_reserved(name)
}

pub(crate) fn words(text: &str) -> Result<Vec<Word>, Fault> {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0 };
    let mut words = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.token()?;
        let ends = token == Token::End;
        words.push(Word { at, token });
        if ends {
            return Ok(words);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(n, c)| self.chars.get(self.at + n) == Some(&c))
    }

    fn fault<T>(&self, at: usize, message: &str) -> Result<T, Fault> {
        Err(Fault { at, message: format!("Syntax error: {message}") })
    }

    fn skip_blank(&mut self) {
        loop {
            while self.at < self.chars.len() && self.peek(0).is_whitespace() {
                self.at += 1;
            }
            if !self.starts_with("//") {
                return;
            }
            while self.at < self.chars.len() && self.peek(0) != '\n' {
                self.at += 1;
            }
        }
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let c = self.peek(0);
        if self.at >= self.chars.len() {
            return Ok(Token::End);
        }
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_ascii_digit()) {
            return self.number();
        }
        if let Some(token) = self.quoted()? {
            return Ok(token);
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
            return Ok(WORDS.iter().find(|w| **w == name).map_or(Token::Ident(name), |w| Token::Sign(w)));
        }
        if c == '`' {
            self.at += 1;
            let name = self.take_while(|c| c != '`' && c != '\n');
            self.at += 1;
            return Ok(Token::Quoted(name));
        }
        match SIGNS.iter().find(|sign| self.starts_with(sign)) {
            Some(sign) if *sign != "=" => {
                self.at += sign.len();
                Ok(Token::Sign(sign))
            }
            _ => self.fault(self.at, &format!("token recognition error at: '{c}'")),
        }
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.at < self.chars.len() && fits(self.peek(0)) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.at;
        if self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X') {
            self.at += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return self.integer(start, i128::from_str_radix(&digits, 16).ok());
        }
        let mut digits = self.take_while(|c| c.is_ascii_digit());
        let mut real = false;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            real = true;
            self.at += 1;
            digits = format!("{digits}.{}", self.take_while(|c| c.is_ascii_digit()));
        }
        let signed = matches!(self.peek(1), '+' | '-') && self.peek(2).is_ascii_digit();
        if matches!(self.peek(0), 'e' | 'E') && (self.peek(1).is_ascii_digit() || signed) {
            real = true;
            let sign = if signed { self.peek(1).to_string() } else { String::new() };
            self.at += if signed { 2 } else { 1 };
            digits = format!("{digits}e{sign}{}", self.take_while(|c| c.is_ascii_digit()));
        }
        if real {
            return digits.parse().map(Token::Double).or_else(|_| self.fault(start, "invalid double literal"));
        }
        self.integer(start, digits.parse().ok())
    }

    fn integer(&mut self, start: usize, value: Option<i128>) -> Result<Token, Fault> {
        let Some(value) = value else { return self.fault(start, "invalid int literal") };
        if !matches!(self.peek(0), 'u' | 'U') {
            return Ok(Token::Int(value));
        }
        self.at += 1;
        u64::try_from(value).map(Token::Uint).or_else(|_| self.fault(start, "invalid uint literal"))
    }

    /// A string or bytes, with their prefixes `r` and `b` in any order.
    fn quoted(&mut self) -> Result<Option<Token>, Fault> {
        let start = self.at;
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        loop {
            match self.peek(ahead) {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                _ => break,
            }
            ahead += 1;
        }
        let quote = self.peek(ahead);
        if quote != '"' && quote != '\'' {
            return Ok(None);
        }
        let triple = self.peek(ahead + 1) == quote && self.peek(ahead + 2) == quote;
        self.at += ahead + if triple { 3 } else { 1 };
        let mut text = Vec::new();
        loop {
            let c = self.peek(0);
            let closes = c == quote && (!triple || (self.peek(1) == quote && self.peek(2) == quote));
            if closes {
                self.at += if triple { 3 } else { 1 };
                break;
            }
            if self.at >= self.chars.len() || (c == '\n' && !triple) {
                return self.fault(start, "a string is not closed");
            }
            if c == '\\' && !raw {
                self.escape(bytes, &mut text)?;
            } else {
                self.at += 1;
                text.extend(c.to_string().into_bytes());
            }
        }
        if bytes {
            return Ok(Some(Token::Bytes(text)));
        }
        String::from_utf8(text)
            .map(|text| Some(Token::String(text)))
            .or_else(|_| self.fault(start, "a string is not UTF-8"))
    }

    fn escape(&mut self, bytes: bool, text: &mut Vec<u8>) -> Result<(), Fault> {
        let start = self.at;
        let c = self.peek(1);
        self.at += 2;
        let simple = match c {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '\'' | '"' | '`' | '?' => Some(c as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            text.push(byte);
            return Ok(());
        }
        let (digits, radix) = match c {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => (3, 8),
            _ => return self.fault(start, "invalid escape in a string"),
        };
        if radix == 8 {
            self.at -= 1;
        }
        let code: String = (0..digits).map(|n| self.peek(n)).collect();
        self.at += digits;
        let Ok(code) = u32::from_str_radix(&code, radix) else {
            return self.fault(start, "invalid escape in a string");
        };
        match (bytes, char::from_u32(code)) {
            (true, _) => text.push(code as u8),
            (false, Some(c)) => text.extend(c.to_string().into_bytes()),
            (false, None) => return self.fault(start, "invalid escape in a string"),
        }
        Ok(())
    }
}
