//! One header block: fixed fields in octal, or in base 256 where octal is too short.

use super::TarError;
use super::sparse::Piece;
use crate::limits::MAX_SPARSE_PIECES;

pub(super) const BLOCK: usize = 512;

pub(super) struct Header([u8; BLOCK]);

impl Header {
    /// `None` when the checksum is wrong.
    pub(super) fn new(block: [u8; BLOCK]) -> Option<Self> {
        let stored = number(&block[148..156])?;
        let sum = |signed: bool| {
            block.iter().enumerate().fold(0i64, |sum, (at, byte)| {
                let byte = if (148..156).contains(&at) { b' ' } else { *byte };
                sum + if signed { i64::from(byte.cast_signed()) } else { i64::from(byte) }
            })
        };
        (sum(false) == stored || sum(true) == stored).then_some(Self(block))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = text(&self.0[345..500]);
        // GNU keeps other things where POSIX has the prefix.
        if &self.0[257..263] == b"ustar\0" && !prefix.is_empty() {
            return [prefix, b"/", name].concat();
        }
        name.to_vec()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self, entry: u64) -> Result<u32, TarError> {
        self.small(100..108, entry, "mode").map(|mode| mode & 0o7777)
    }

    pub(super) fn uid(&self, entry: u64) -> Result<u32, TarError> {
        self.small(108..116, entry, "uid")
    }

    pub(super) fn gid(&self, entry: u64) -> Result<u32, TarError> {
        self.small(116..124, entry, "gid")
    }

    pub(super) fn size(&self, entry: u64) -> Result<u64, TarError> {
        unsigned(&self.0[124..136]).ok_or(TarError::Number { entry, field: "size" })
    }

    pub(super) fn mtime(&self, entry: u64) -> Result<i64, TarError> {
        number(&self.0[136..148]).ok_or(TarError::Number { entry, field: "mtime" })
    }

    pub(super) fn device_major(&self, entry: u64) -> Result<u32, TarError> {
        self.small(329..337, entry, "devmajor")
    }

    pub(super) fn device_minor(&self, entry: u64) -> Result<u32, TarError> {
        self.small(337..345, entry, "devminor")
    }

    /// The size of an old GNU sparse file, holes included.
    pub(super) fn sparse_size(&self, entry: u64) -> Result<u64, TarError> {
        unsigned(&self.0[483..495]).ok_or(TarError::Number { entry, field: "realsize" })
    }

    /// The pieces in the header itself; whether more blocks of them follow.
    pub(super) fn sparse_pieces(&self, entry: u64, map: &mut Vec<Piece>) -> Result<bool, TarError> {
        pieces(&self.0[386..482], entry, map)?;
        Ok(self.0[482] != 0)
    }

    fn small(&self, range: std::ops::Range<usize>, entry: u64, field: &'static str) -> Result<u32, TarError> {
        number(&self.0[range]).and_then(|n| u32::try_from(n).ok()).ok_or(TarError::Number { entry, field })
    }
}

/// A block of further pieces; whether yet another follows.
pub(super) fn sparse_block(block: &[u8; BLOCK], entry: u64, map: &mut Vec<Piece>) -> Result<bool, TarError> {
    pieces(&block[..504], entry, map)?;
    Ok(block[504] != 0)
}

fn pieces(bytes: &[u8], entry: u64, map: &mut Vec<Piece>) -> Result<(), TarError> {
    for piece in bytes.as_chunks::<24>().0 {
        if piece[0] == 0 {
            break;
        }
        let field = |range: std::ops::Range<usize>| {
            unsigned(&piece[range]).ok_or(TarError::Number { entry, field: "sparse map" })
        };
        map.push(Piece { offset: field(0..12)?, length: field(12..24)? });
        if map.len() > MAX_SPARSE_PIECES {
            return Err(TarError::Malformed { entry, what: "too many pieces in a sparse file" });
        }
    }
    Ok(())
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

fn unsigned(field: &[u8]) -> Option<u64> {
    number(field).and_then(|n| u64::try_from(n).ok())
}

/// Octal digits with spaces and NULs around, or base 256 with the first bit set.
fn number(field: &[u8]) -> Option<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut n: i64 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = match (at, negative) {
                (0, true) => byte | 0x80,
                (0, false) => byte & 0x7f,
                _ => *byte,
            };
            n = n.checked_mul(256)?.checked_add(i64::from(byte))?;
        }
        return Some(n);
    }
    let digits = text(field).trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0i64, |n, digit| match digit {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_come_in_two_writings() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"12x\0"), None);
        assert_eq!(number(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), Some(0x2_0000_0001));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xfe]), Some(-2));
    }
}
