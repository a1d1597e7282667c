//! Header blocks: pairs, compressed by one zlib stream for each direction of a connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::SpdyError;

/// What a header block may hold, decompressed: a few short pairs, where they are honest.
const MAX_BLOCK_BYTES: usize = 16 << 10;
const MAX_PAIRS: usize = 64;

/// Names and values; names are in lower case.
pub(crate) type Headers = Vec<(String, String)>;

/// The first of these headers.
pub(super) fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
}

/// What compression starts from, by the protocol's draft: common words, each with its length, and common text.
fn dictionary() -> Vec<u8> {
    const WORDS: &str = "options head post put delete trace accept accept-charset accept-encoding accept-language \
        accept-ranges age allow authorization cache-control connection content-base content-encoding content-language \
        content-length content-location content-md5 content-range content-type date etag expect expires from host \
        if-match if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma \
        proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade \
        user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie \
        keep-alive origin";
    const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
        203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized\
        403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable\
        Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT\
        chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,\
        text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut out = Vec::new();
    for word in WORDS.split_whitespace() {
        put(&mut out, word.replace('_', " ").as_bytes());
    }
    out.extend_from_slice(TEXT.as_bytes());
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads the header blocks of one direction, in order.
pub(super) struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Inflater {
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let text = self.inflate(block)?;
        parse(&text).ok_or(SpdyError::Headers)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::with_capacity(MAX_BLOCK_BYTES);
        let mut rest = block;
        loop {
            let before = (self.0.total_in(), out.len());
            let mut asked = false;
            match self.0.decompress_vec(rest, &mut out, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(SpdyError::Headers),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| SpdyError::Headers)?;
                    asked = true;
                }
                Err(_) => return Err(SpdyError::Headers),
            }
            let taken = usize::try_from(self.0.total_in() - before.0).map_err(|_| SpdyError::Headers)?;
            rest = &rest[taken..];
            if out.len() >= MAX_BLOCK_BYTES {
                return Err(SpdyError::HeadersTooLong);
            }
            if rest.is_empty() {
                return Ok(out);
            }
            if taken == 0 && out.len() == before.1 && !asked {
                return Err(SpdyError::Headers);
            }
        }
    }
}

/// Writes the header blocks of one direction, in order.
pub(super) struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(&dictionary()).expect("a new stream takes a dictionary");
        Self(compress)
    }
}

impl Deflater {
    pub(super) fn write(&mut self, headers: &Headers) -> Vec<u8> {
        let mut text = (headers.len() as u32).to_be_bytes().to_vec();
        for (name, value) in headers {
            put(&mut text, name.as_bytes());
            put(&mut text, value.as_bytes());
        }
        // Compression never makes so little so much longer.
        let mut out = Vec::with_capacity(text.len() * 2 + 256);
        self.0.compress_vec(&text, &mut out, FlushCompress::Sync).expect("memory takes every write");
        out
    }
}

fn parse(text: &[u8]) -> Option<Headers> {
    let (count, mut rest) = number(text)?;
    if count > MAX_PAIRS {
        return None;
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, after) = word(rest)?;
        let (value, after) = word(after)?;
        headers.push((String::from_utf8_lossy(name).to_ascii_lowercase(), String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(headers)
}

fn number(text: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = text.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number) as usize, rest))
}

fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = number(text)?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dictionary_is_that_of_the_draft() {
        let dictionary = dictionary();
        let (mut a, mut b) = (1u32, 0u32);
        for byte in &dictionary {
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((dictionary.len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn blocks_follow_each_other_in_one_stream() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        for round in 0..50 {
            let headers: Headers = vec![
                ("streamtype".into(), "data".into()),
                ("port".into(), "80".into()),
                ("requestid".into(), round.to_string()),
            ];
            let block = deflater.write(&headers);
            assert_eq!(inflater.read(&block), Ok(headers), "round {round}");
        }
        assert_eq!(inflater.read(&deflater.write(&vec![])), Ok(vec![]));
    }

    #[test]
    fn a_block_that_grows_without_end_is_refused() {
        let headers: Headers = vec![("a".into(), "0".repeat(MAX_BLOCK_BYTES))];
        assert_eq!(Inflater::default().read(&Deflater::default().write(&headers)), Err(SpdyError::HeadersTooLong));
    }

    proptest! {
        #[test]
        fn no_block_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..500), tail in any::<bool>()) {
            let block = if tail { bytes } else { [&Deflater::default().write(&vec![])[..], &bytes].concat() };
            let _headers_or_error = Inflater::default().read(&block);
        }
    }
}
