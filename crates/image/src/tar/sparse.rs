//! Files with holes: which parts of them an archive carries.

use std::io::{self, Read};

use super::pax::decimal;
use crate::limits::MAX_SPARSE_PIECES;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Pieces come in order, do not overlap, lie inside the file, and are all there is in the archive.
pub(super) fn check(map: &[Piece], size: u64, stored: u64) -> Result<(), &'static str> {
    let mut end = 0;
    let mut sum: u64 = 0;
    for piece in map {
        if piece.offset < end {
            return Err("pieces of a sparse file that overlap");
        }
        end = piece.offset.checked_add(piece.length).ok_or("a piece of a sparse file beyond any file")?;
        sum += piece.length;
    }
    if end > size {
        return Err("a piece of a sparse file beyond its end");
    }
    if sum > stored {
        return Err("a sparse file with less content than its map says");
    }
    Ok(())
}

/// The map of PAX sparse 1.0: decimal numbers, a line each, in front of the content.
pub(super) fn read_map(input: &mut impl Read) -> io::Result<Result<Vec<Piece>, &'static str>> {
    let mut number = || -> io::Result<Option<u64>> {
        let mut digits = Vec::new();
        let mut byte = [0];
        loop {
            if input.read(&mut byte)? == 0 || digits.len() > 20 {
                return Ok(None);
            }
            if byte[0] == b'\n' {
                return Ok(decimal(&digits));
            }
            digits.push(byte[0]);
        }
    };
    const WRONG: &str = "a sparse map that is no list of numbers";
    let Some(count) = number()? else { return Ok(Err(WRONG)) };
    if count > MAX_SPARSE_PIECES as u64 {
        return Ok(Err("too many pieces in a sparse file"));
    }
    let mut map = Vec::new();
    for _ in 0..count {
        match (number()?, number()?) {
            (Some(offset), Some(length)) => map.push(Piece { offset, length }),
            _ => return Ok(Err(WRONG)),
        }
    }
    Ok(Ok(map))
}
