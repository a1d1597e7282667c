//! JSON with the errors of Go's scanner.

use super::MAX_DEPTH;
use super::node::Node;

pub(super) fn parse(body: &[u8]) -> Result<Node, String> {
    let mut scanner = Scanner { body, at: 0, depth: 0 };
    let node = scanner.value()?;
    match scanner.next() {
        None => Ok(node),
        Some(byte) => Err(invalid(byte, "after top-level value")),
    }
}

struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    depth: usize,
}

fn end() -> String {
    "unexpected end of JSON input".to_owned()
}

fn invalid(byte: u8, place: &str) -> String {
    let shown = match byte {
        b'\'' => r"\'".to_owned(),
        b'"' => "\"".to_owned(),
        b'\n' => r"\n".to_owned(),
        b'\r' => r"\r".to_owned(),
        b'\t' => r"\t".to_owned(),
        b'\\' => r"\\".to_owned(),
        0x07 => r"\a".to_owned(),
        0x08 => r"\b".to_owned(),
        0x0b => r"\v".to_owned(),
        0x0c => r"\f".to_owned(),
        0x20..=0x7e => char::from(byte).to_string(),
        0x80..=0x9f => format!(r"\u{byte:04x}"),
        0xa0 | 0xad => format!(r"\u{byte:04x}"),
        0xa1.. => char::from(byte).to_string(),
        _ => format!(r"\x{byte:02x}"),
    };
    format!("invalid character '{shown}' {place}")
}

impl Scanner<'_> {
    /// The next byte that is no space, consumed.
    fn next(&mut self) -> Option<u8> {
        while let Some(&byte) = self.body.get(self.at) {
            self.at += 1;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
        }
        None
    }

    fn byte(&mut self) -> Result<u8, String> {
        let byte = *self.body.get(self.at).ok_or_else(end)?;
        self.at += 1;
        Ok(byte)
    }

    fn value(&mut self) -> Result<Node, String> {
        let first = self.next().ok_or_else(end)?;
        self.value_from(first)
    }

    fn value_from(&mut self, first: u8) -> Result<Node, String> {
        match first {
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err("exceeded max depth".to_owned());
                }
                let node = if first == b'{' { self.object() } else { self.array() };
                self.depth -= 1;
                node
            }
            b'"' => self.string().map(Node::String),
            b't' => self.literal("true", Node::Bool(true)),
            b'f' => self.literal("false", Node::Bool(false)),
            b'n' => self.literal("null", Node::Null),
            b'-' | b'0'..=b'9' => self.number(first),
            other => Err(invalid(other, "looking for beginning of value")),
        }
    }

    fn object(&mut self) -> Result<Node, String> {
        let mut fields = Vec::new();
        let mut byte = self.next().ok_or_else(end)?;
        if byte == b'}' {
            return Ok(Node::Object(fields));
        }
        loop {
            if byte != b'"' {
                return Err(invalid(byte, "looking for beginning of object key string"));
            }
            let key = self.string()?;
            match self.next().ok_or_else(end)? {
                b':' => {}
                other => return Err(invalid(other, "after object key")),
            }
            fields.push((key, self.value()?));
            match self.next().ok_or_else(end)? {
                b',' => byte = self.next().ok_or_else(end)?,
                b'}' => return Ok(Node::Object(fields)),
                other => return Err(invalid(other, "after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<Node, String> {
        let mut items = Vec::new();
        let mut byte = self.next().ok_or_else(end)?;
        if byte == b']' {
            return Ok(Node::Array(items));
        }
        loop {
            items.push(self.value_from(byte)?);
            match self.next().ok_or_else(end)? {
                b',' => byte = self.next().ok_or_else(end)?,
                b']' => return Ok(Node::Array(items)),
                other => return Err(invalid(other, "after array element")),
            }
        }
    }

    fn literal(&mut self, word: &str, node: Node) -> Result<Node, String> {
        for wanted in word.bytes().skip(1) {
            let byte = self.byte()?;
            if byte != wanted {
                return Err(invalid(byte, &format!("in literal {word} (expecting '{}')", char::from(wanted))));
            }
        }
        Ok(node)
    }

    fn number(&mut self, first: u8) -> Result<Node, String> {
        let start = self.at - 1;
        let mut lead = first;
        if first == b'-' {
            lead = self.byte()?;
            if !lead.is_ascii_digit() {
                return Err(invalid(lead, "in numeric literal"));
            }
        }
        // A zero stands alone before the point.
        if lead != b'0' {
            self.digits();
        }
        if self.body.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
        }
        if matches!(self.body.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.body.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
        }
        let text = std::str::from_utf8(&self.body[start..self.at]).expect("digits, signs and points are ASCII");
        Ok(Node::Number(text.to_owned()))
    }

    fn digit(&mut self, place: &str) -> Result<(), String> {
        let byte = self.byte()?;
        if !byte.is_ascii_digit() {
            return Err(invalid(byte, place));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while self.body.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    /// After the opening quote.
    fn string(&mut self) -> Result<String, String> {
        let mut bytes = Vec::new();
        loop {
            match self.byte()? {
                b'"' => break,
                b'\\' => {
                    let c = self.escape()?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                byte @ 0..0x20 => return Err(invalid(byte, "in string literal")),
                byte => bytes.push(byte),
            }
        }
        // Bytes that are no UTF-8 become U+FFFD, as in Go.
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    fn escape(&mut self) -> Result<char, String> {
        Ok(match self.byte()? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            c @ (b'"' | b'\\' | b'/') => char::from(c),
            b'u' => {
                let first = self.hex4()?;
                match first {
                    0xd800..0xdc00 => self.low_surrogate(first),
                    code => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            other => return Err(invalid(other, "in string escape code")),
        })
    }

    /// The other half of a pair; half a pair is U+FFFD and consumes nothing more.
    fn low_surrogate(&mut self, high: u32) -> char {
        let before = self.at;
        if self.body.get(before..before + 2) == Some(b"\\u") {
            self.at += 2;
            if let Ok(low @ 0xdc00..0xe000) = self.hex4() {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
        }
        self.at = before;
        char::REPLACEMENT_CHARACTER
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let mut code = 0;
        for _ in 0..4 {
            let byte = self.byte()?;
            let digit = char::from(byte).to_digit(16);
            code = code * 16 + digit.ok_or_else(|| invalid(byte, "in \\u hexadecimal character escape"))?;
        }
        Ok(code)
    }
}
