//! A body in chunks: sizes in digits and nothing else, extensions and trailers within bounds, each line with CR and LF.

use super::Fault;
use super::lines::field;
use crate::plane::limits;

/// How far the body has been read.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    at: At,
    /// Of the chunk under way: its size, then what is missing of it.
    size: u64,
    /// The line under way: of a size its length so far, of a trailer its bytes.
    digits: usize,
    extension: usize,
    trailer: Vec<u8>,
    trailers: usize,
    trailer_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    /// The LF after a size.
    SizeEnd,
    Data,
    /// CR and LF after the data.
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    Over,
}

/// As many as a number of 64 bits has.
const DIGITS: usize = 16;

impl Chunked {
    pub(super) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// How many of these bytes belong to the body and are as they should be.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut read = 0;
        while read < bytes.len() && !self.is_over() {
            if self.at == At::Data {
                let here = bytes.len() - read;
                let passed = usize::try_from(self.size).map_or(here, |size| size.min(here));
                self.size -= passed as u64;
                read += passed;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
            } else {
                self.at = self.byte(bytes[read])?;
                read += 1;
            }
        }
        Ok(read)
    }

    fn byte(&mut self, byte: u8) -> Result<At, Fault> {
        match (self.at, byte) {
            (At::Size, b'\r') if self.digits > 0 => Ok(At::SizeEnd),
            (At::Size, b';') if self.digits > 0 => Ok(At::Extension),
            (At::Size, _) => self.digit(byte),
            (At::Extension, b'\r') => Ok(At::SizeEnd),
            (At::Extension, _) => self.extended(byte),
            (At::SizeEnd, b'\n') => {
                self.digits = 0;
                Ok(if self.size == 0 { At::Trailer } else { At::Data })
            }
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::Trailer, b'\r') => Ok(At::TrailerLf),
            (At::Trailer, b'\n') => Err(Fault::Malformed("a line of a chunked body ends with CR and LF")),
            (At::Trailer, _) => self.trailing(byte),
            (At::TrailerLf, b'\n') => self.trailer(),
            _ => Err(Fault::Malformed("a line of a chunked body ends with CR and LF")),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<At, Fault> {
        let digit =
            char::from(byte).to_digit(16).ok_or(Fault::Malformed("the size of a chunk is a number in digits"))?;
        self.digits += 1;
        if self.digits > DIGITS {
            return Err(Fault::Malformed("the size of a chunk is too large"));
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(At::Size)
    }

    fn extended(&mut self, byte: u8) -> Result<At, Fault> {
        self.extension += 1;
        if self.extension > limits::CHUNK_EXTENSIONS {
            return Err(Fault::Malformed("the extensions of chunks are too long"));
        }
        if byte.is_ascii_control() && byte != b'\t' {
            return Err(Fault::Malformed("the extension of a chunk has control characters"));
        }
        Ok(At::Extension)
    }

    fn trailing(&mut self, byte: u8) -> Result<At, Fault> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > limits::TRAILER_BYTES {
            return Err(Fault::Malformed("the trailers of a request are too long"));
        }
        self.trailer.push(byte);
        Ok(At::Trailer)
    }

    fn trailer(&mut self) -> Result<At, Fault> {
        if self.trailer.is_empty() {
            return Ok(At::Over);
        }
        self.trailers += 1;
        if self.trailers > limits::HEADERS {
            return Err(Fault::Malformed("a request has too many trailers"));
        }
        field(&self.trailer)?;
        self.trailer.clear();
        Ok(At::Trailer)
    }
}
