//! Layers come plain, gzipped or as zstd; the first bytes tell, whatever the media type claims.

use std::io::{self, BufReader, Cursor, Read};

use crate::limits::{Budget, MAX_ZSTD_WINDOW_LOG};

/// What is read from the source at once.
const INPUT_BUFFER: usize = 128 << 10;

/// Marks the error that ends a decompression bomb, among all the errors that reading may meet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Bomb {
    #[error("unpacks to more than {0} bytes: limit `layer_bytes`")]
    Bytes(u64),
    #[error("unpacks to {out} bytes out of {input}, more than {limit} times as many: limit `ratio`")]
    Ratio { out: u64, input: u64, limit: u64 },
}

/// Decompresses, and refuses to go on when far more comes out than went in.
pub(crate) struct Decompressor<R: Read> {
    inner: Inner<Counting<R>>,
    out: u64,
    /// Of `out`, what the image's `ratio_free_bytes` paid for.
    free: u64,
    budget: Budget,
}

enum Inner<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<R>>>),
}

impl<R: Read> Decompressor<R> {
    pub(crate) fn new(mut input: R, budget: &Budget) -> io::Result<Self> {
        let mut magic = [0; 4];
        let mut filled = 0;
        while filled < magic.len() {
            match input.read(&mut magic[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        let input = Counting { head: Cursor::new(magic[..filled].to_vec()), inner: input, bytes: 0 };
        let input = BufReader::with_capacity(INPUT_BUFFER, input);
        let inner = match magic {
            [0x1f, 0x8b, ..] => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
                Inner::Zstd(Box::new(decoder))
            }
            _ => Inner::Plain(input),
        };
        Ok(Self { inner, out: 0, free: 0, budget: budget.clone() })
    }

    /// Reads the source to its end, past what the decoder needed, and gives it back.
    pub(crate) fn finish(mut self) -> io::Result<R> {
        io::copy(&mut self, &mut io::sink())?;
        let buffered = match self.inner {
            Inner::Plain(input) => input,
            Inner::Gzip(decoder) => (*decoder).into_inner(),
            Inner::Zstd(decoder) => (*decoder).finish(),
        };
        let mut counting = buffered.into_inner();
        io::copy(&mut counting, &mut io::sink())?;
        Ok(counting.inner)
    }

    fn consumed(&self) -> u64 {
        match &self.inner {
            Inner::Plain(input) => input.get_ref().bytes,
            Inner::Gzip(decoder) => decoder.get_ref().get_ref().bytes,
            Inner::Zstd(decoder) => decoder.get_ref().get_ref().bytes,
        }
    }

    fn check(&mut self) -> io::Result<()> {
        let (out, input, limits) = (self.out, self.consumed(), self.budget.limits);
        let beyond = out.saturating_sub(input.saturating_mul(limits.ratio).saturating_add(self.free));
        let bomb = match () {
            () if out > limits.layer_bytes => Bomb::Bytes(limits.layer_bytes),
            () if !self.budget.take_ratio_free(beyond) => Bomb::Ratio { out, input, limit: limits.ratio },
            () => {
                self.free += beyond;
                return Ok(());
            }
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, bomb))
    }
}

impl<R: Read> Read for Decompressor<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.inner {
            Inner::Plain(input) => input.read(buffer),
            Inner::Gzip(decoder) => decoder.read(buffer),
            Inner::Zstd(decoder) => decoder.read(buffer),
        }?;
        self.out += n as u64;
        self.check()?;
        Ok(n)
    }
}

/// Gives the first bytes back, and counts.
struct Counting<R> {
    head: Cursor<Vec<u8>>,
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match self.head.read(buffer)? {
            0 => self.inner.read(buffer)?,
            n => n,
        };
        self.bytes += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::limits::Limits;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("written");
        encoder.finish().expect("finished")
    }

    fn read(bytes: &[u8], limits: Limits) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut reader = Decompressor::new(bytes, &Budget::new(limits)).map_err(|e| e.to_string())?;
        reader.read_to_end(&mut out).map_err(|e| e.to_string())?;
        assert_eq!(reader.finish().expect("drained"), b"", "all of the source is read");
        Ok(out)
    }

    #[test]
    fn the_first_bytes_tell_the_compression() {
        let limits = Limits::default();
        for text in [&b""[..], b"x", b"hello, layers"] {
            assert_eq!(read(text, limits).as_deref(), Ok(text));
            assert_eq!(read(&gzip(text), limits).as_deref(), Ok(text));
            assert_eq!(read(&zstd::encode_all(text, 3).expect("encoded"), limits).as_deref(), Ok(text));
        }
        let members = [gzip(b"one "), gzip(b"two")].concat();
        assert_eq!(read(&members, limits).as_deref(), Ok(&b"one two"[..]), "gzip files may be concatenated");
        let frames = [zstd::encode_all(&b"a"[..], 1), zstd::encode_all(&b"b"[..], 1)].map(|f| f.expect("encoded"));
        assert_eq!(read(&frames.concat(), limits).as_deref(), Ok(&b"ab"[..]));
        let cut = &gzip(b"hello, layers")[..15];
        read(cut, limits).expect_err("a cut stream is no layer");
    }

    proptest::proptest! {
        #[test]
        fn no_damage_makes_it_panic(text in ".{0,300}", at in 0usize..400, byte: u8, packing in 0..3) {
            let mut bytes = match packing {
                0 => gzip(text.as_bytes()),
                1 => zstd::encode_all(text.as_bytes(), 1).expect("encoded"),
                _ => text.into_bytes(),
            };
            let at = at % bytes.len().max(1);
            bytes.get_mut(at).into_iter().for_each(|damaged| *damaged = byte);
            let limits = Limits { layer_bytes: 1 << 20, ratio_free_bytes: 1 << 20, ..Limits::default() };
            let mut out = Vec::new();
            if let Ok(reader) = Decompressor::new(&bytes[..], &Budget::new(limits)) {
                let _wrong = reader.take(2 << 20).read_to_end(&mut out);
            }
            proptest::prop_assert!(out.len() <= (1 << 20) + 1000);
        }
    }

    #[test]
    fn bombs_end_at_a_named_limit() {
        let zeros = vec![0; 4 << 20];
        let limits = Limits { ratio: 10, ratio_free_bytes: 1 << 20, ..Limits::default() };
        for bomb in [gzip(&zeros), zstd::encode_all(&zeros[..], 3).expect("encoded")] {
            let error = read(&bomb, limits).expect_err("a bomb");
            assert!(error.contains("limit `ratio`"), "{error}");
            let error = read(&bomb, Limits { layer_bytes: 1 << 20, ..Limits::default() }).expect_err("too large");
            assert!(error.contains("more than 1048576 bytes") && error.contains("limit `layer_bytes`"), "{error}");
        }
    }
}
