//! What Go's JSON decoder says about bytes that are no JSON: clients and people know these sentences.

/// Why these bytes are not one JSON value. Call it only for bytes that were refused.
pub(crate) fn syntax(bytes: &[u8]) -> String {
    let mut scanner = Scanner { bytes, at: 0 };
    let fault = scanner.value().and_then(|()| {
        scanner.blank();
        if scanner.peek().is_some() { Err(scanner.unexpected("after top-level value")) } else { Ok(()) }
    });
    fault.err().unwrap_or_else(|| "unexpected end of JSON input".into())
}

/// Walks the bytes the way Go's scanner does, up to the first byte that cannot be.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Step = Result<(), String>;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, context: &str) -> String {
        match self.peek() {
            None => "unexpected end of JSON input".into(),
            Some(byte) => format!("invalid character {} {context}", quoted(byte)),
        }
    }

    fn value(&mut self) -> Step {
        self.blank();
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn object(&mut self) -> Step {
        self.at += 1;
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            self.string()?;
            self.blank();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            self.value()?;
            if self.ends(b'}', "after object key:value pair")? {
                return Ok(());
            }
        }
    }

    fn array(&mut self) -> Step {
        self.at += 1;
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            if self.ends(b']', "after array element")? {
                return Ok(());
            }
        }
    }

    /// After an element: whether the closing bracket follows, or a comma.
    fn ends(&mut self, bracket: u8, context: &str) -> Result<bool, String> {
        self.blank();
        match self.peek() {
            Some(byte) if byte == b',' || byte == bracket => {
                self.at += 1;
                Ok(byte == bracket)
            }
            _ => Err(self.unexpected(context)),
        }
    }

    fn string(&mut self) -> Step {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    if !matches!(self.peek(), Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' | b'u')) {
                        return Err(self.unexpected("in string escape code"));
                    }
                    self.at += 1;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn literal(&mut self, word: &str) -> Step {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return Err(self.unexpected(&format!("in literal {word} (expecting {})", quoted(expected))));
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Step {
        if self.peek() == Some(b'-') {
            self.at += 1;
            if !matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(self.unexpected("in numeric literal"));
            }
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if !self.digits() {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !self.digits() {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> bool {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at > start
    }
}

/// A byte in Go's quotes.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        b'\\' => r"'\\'".into(),
        b'\n' => r"'\n'".into(),
        b'\r' => r"'\r'".into(),
        b'\t' => r"'\t'".into(),
        0x20..=0x7e => format!("'{}'", char::from(byte)),
        0..=0x7f => format!("'\\x{byte:02x}'"),
        // Go takes the byte for a code point.
        0xa1..=0xac | 0xae..=0xff => format!("'{}'", char::from(byte)),
        _ => format!("'\\u{byte:04x}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::syntax;

    #[track_caller]
    fn check(bytes: &str, expected: &str) {
        assert_eq!(syntax(bytes.as_bytes()), expected, "{bytes}");
    }

    #[test]
    fn the_first_byte_that_cannot_be_is_named() {
        check("", "unexpected end of JSON input");
        check("{\"data\":", "unexpected end of JSON input");
        check("not json", "invalid character 'o' in literal null (expecting 'u')");
        check("data:\n  k: yaml\n", "invalid character 'd' looking for beginning of value");
        check("{a:1}", "invalid character 'a' looking for beginning of object key string");
        check("{\"a\" 1}", "invalid character '1' after object key");
        check("{\"a\":1 \"b\":2}", "invalid character '\"' after object key:value pair");
        check("[1 2]", "invalid character '2' after array element");
        check("{} x", "invalid character 'x' after top-level value");
        check("-x", "invalid character 'x' in numeric literal");
    }
}
