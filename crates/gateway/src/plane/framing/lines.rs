//! The lines of a request's head, as far as they say where it ends and whether everybody reads them alike.

use super::{Body, Fault};
use crate::plane::limits;

/// What the lines of one head have said so far.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Bytes of whole lines.
    pub(super) read: usize,
    /// Bytes without an end of a line behind `read`.
    pub(super) searched: usize,
    version: Option<Version>,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

impl Lines {
    /// Nothing but an empty line so far, as some clients send after a body.
    pub(super) fn is_empty(&self) -> bool {
        self.version.is_none()
    }

    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), Fault> {
        if self.version.is_none() {
            self.version = Some(request_line(line)?);
            return Ok(());
        }
        self.fields += 1;
        if self.fields > limits::HEADERS || line.len() > limits::FIELD_BYTES {
            return Err(Fault::HeadTooLarge);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Fault::Malformed("the length of a request is said once"));
            }
            self.length = Some(length(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Malformed("the only transfer coding of requests is a single `chunked`"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        Ok(())
    }

    /// Of a line that has `length` bytes so far.
    pub(super) fn check_unfinished(&self, length: usize) -> Result<(), Fault> {
        if self.version.is_none() && length > limits::TARGET_BYTES + ROOM_BESIDE_TARGET {
            return Err(Fault::TargetTooLong);
        }
        if self.version.is_some() && length > limits::FIELD_BYTES + 2 {
            return Err(Fault::HeadTooLarge);
        }
        Ok(())
    }

    pub(super) fn body(&self) -> Result<Body, Fault> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Fault::Malformed("a request is `chunked` or has a length, not both")),
            (true, None) if self.version == Some(Version::Http10) => {
                Err(Fault::Malformed("HTTP/1.0 knows no transfer codings"))
            }
            (true, None) => Ok(Body::Chunked),
            (false, length) => Ok(Body::Length(length.unwrap_or(0))),
        }
    }

    pub(super) fn asks_for_upgrade(&self) -> bool {
        self.upgrade && self.version == Some(Version::Http11)
    }
}

/// Method, version and what is between.
const ROOM_BESIDE_TARGET: usize = limits::METHOD_BYTES + " ".len() + " HTTP/1.1\r\n".len();

fn request_line(line: &[u8]) -> Result<Version, Fault> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Fault::Malformed("a request line has a method, a target and a version, with a space between"));
    };
    if method.is_empty() || method.len() > limits::METHOD_BYTES || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Fault::Malformed("the method is not a valid one"));
    }
    if target.len() > limits::TARGET_BYTES {
        return Err(Fault::TargetTooLong);
    }
    if !is_target(target) {
        return Err(Fault::Malformed("the request target is not a valid one, or has characters that must be escaped"));
    }
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Fault::Malformed("the version of HTTP is neither 1.1 nor 1.0")),
    }
}

/// Name and value of a header or trailer.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let colon = line.iter().position(|byte| !is_token(*byte));
    let (name, value) = match colon {
        Some(at) if at > 0 && line[at] == b':' => (&line[..at], &line[at + 1..]),
        _ => {
            return Err(Fault::Malformed(
                "a header is a name, a colon directly after it, and a value on the same line",
            ));
        }
    };
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Fault::Malformed("a header's value has control characters"));
    }
    Ok((name, value.trim_ascii()))
}

/// Digits and nothing else. The largest numbers of 64 bits are signs for something else to some readers, hyper among them.
fn length(value: &[u8]) -> Result<u64, Fault> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse::<i64>().ok());
    number
        .and_then(|number| number.try_into().ok())
        .ok_or(Fault::Malformed("the length of a request is a number in digits"))
}

/// A `#` would be cut off here and perhaps not elsewhere; bytes that cannot be seen are to be written as `%XX`.
fn is_target(target: &[u8]) -> bool {
    let usual = |byte: &u8| {
        matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'?' | b'%' | b'='
            | b'&' | b':' | b'@' | b'!' | b'$' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';')
    };
    if target.first() == Some(&b'/') && target.iter().all(usual) {
        return true;
    }
    let visible = target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#');
    visible && http::Uri::try_from(target).is_ok()
}

/// What names of methods and headers are made of.
fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
        | b'*' | b'+' | b'^' | b'`' | b'|' | b'~')
}
