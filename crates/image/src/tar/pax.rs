//! PAX extended headers: `LENGTH KEY=VALUE\n`, one after another.

use super::sparse::Piece;
use crate::limits::{MAX_SPARSE_PIECES, MAX_XATTRS};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// The three PAX writings of sparse files (0.0, 0.1 and 1.0).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) map: Vec<Piece>,
    /// Version 1.0: the map stands before the content.
    pub(super) map_in_content: bool,
    /// Version 0.0 gives offset and length in turn.
    offset: Option<u64>,
}

impl Sparse {
    pub(super) fn is_used(&self) -> bool {
        self.map_in_content || self.size.is_some()
    }
}

impl Pax {
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut pax = Self::default();
        while !bytes.is_empty() && bytes[0] != 0 {
            let (key, value, rest) = record(bytes).ok_or("a PAX record that cannot be read")?;
            pax.take(key, value)?;
            bytes = rest;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or("a PAX size that is no number")?),
            b"uid" => self.uid = Some(id(value).ok_or("a PAX uid that is no number")?),
            b"gid" => self.gid = Some(id(value).ok_or("a PAX gid that is no number")?),
            b"mtime" => self.mtime = Some(time(value).ok_or("a PAX mtime that is no number")?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if self.xattrs.len() == MAX_XATTRS {
                        return Err("too many extended attributes");
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.take(name, value)?;
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || decimal(value).ok_or("a sparse map that is no list of numbers");
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.size = Some(number()?),
            b"major" => self.map_in_content = value == b"1",
            b"offset" => self.offset = Some(number()?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or("a sparse piece without its offset")?;
                self.map.push(Piece { offset, length: number()? });
            }
            b"map" => {
                let numbers: Vec<u64> = value
                    .split(|b| *b == b',')
                    .take(MAX_SPARSE_PIECES * 2 + 1)
                    .map(|n| decimal(n).ok_or("a sparse map that is no list of numbers"))
                    .collect::<Result<_, _>>()?;
                let (pairs, rest) = numbers.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err("a sparse map of odd length");
                }
                self.map = pairs.iter().map(|[offset, length]| Piece { offset: *offset, length: *length }).collect();
            }
            _ => {}
        }
        if self.map.len() > MAX_SPARSE_PIECES {
            return Err("too many pieces in a sparse file");
        }
        Ok(())
    }
}

fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let record = bytes.get(space + 1..length)?;
    let (body, newline) = record.split_at_checked(record.len().checked_sub(1)?)?;
    let equals = body.iter().position(|b| *b == b'=')?;
    (newline == b"\n" && equals > 0).then(|| (&body[..equals], &body[equals + 1..], &bytes[length..]))
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit) && !text.is_empty();
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

fn id(text: &[u8]) -> Option<u32> {
    decimal(text).and_then(|n| u32::try_from(n).ok())
}

/// Seconds with a fraction, perhaps before the epoch.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let dot = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(&text[..dot])?).ok()?;
    let fraction = text.get(dot + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0, |n, at| n * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0')));
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_their_length() {
        let pax = Pax::parse(b"13 path=a b\n\n23 SCHILY.xattr.user.a=\0\n").expect_err("the first length is short");
        assert_eq!(pax, "a PAX record that cannot be read");
        let pax = Pax::parse(b"12 path=a b\n27 SCHILY.xattr.user.a=\0=\n\n").expect("a header");
        assert_eq!(pax.path.as_deref(), Some(&b"a b"[..]));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"\0=\n".to_vec())]);
        for wrong in
            ["x", "5 a=b", "6 a=b\n6", "99999999999999999999 a=b\n", "4 =b\n", "3 a\n", "0 \n", "12 size=1x45\n"]
        {
            Pax::parse(wrong.as_bytes()).expect_err(wrong);
        }
    }

    #[test]
    fn times_may_have_fractions_and_signs() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"1.1234567891"), Some((1, 123_456_789)));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }
}
