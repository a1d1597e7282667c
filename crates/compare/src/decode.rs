//! Bodies as they were before they were compressed.

use std::io::Read;

use flate2::read::{MultiGzDecoder, ZlibDecoder};

use crate::answer::{Body, Tee};

/// What is kept of a body that was decompressed; beyond it there is a fingerprint ...
const KEPT: usize = 1024 * 1024;
/// ... and beyond this much it is given up: a few bytes can stand for very many.
const MOST: u64 = 16 * 1024 * 1024;

/// `None`: it cannot be told what the body is, because it is broken, too long, or in an encoding that we do not know.
pub(crate) fn decoded(body: &Body, encoding: Option<&str>) -> Option<Body> {
    let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
    let bytes = match (&*encoding, body) {
        ("" | "identity", body) => return Some(body.clone()),
        (_, Body::Kept(bytes)) => bytes,
        (_, Body::Fingerprint { .. }) => return None,
    };
    match &*encoding {
        "gzip" | "x-gzip" => drained(MultiGzDecoder::new(&bytes[..])),
        "deflate" => drained(ZlibDecoder::new(&bytes[..])),
        _ => None,
    }
}

fn drained(mut reader: impl Read) -> Option<Body> {
    let mut tee = Tee::new(KEPT);
    let mut buffer = [0; 8192];
    while tee.passed() <= MOST {
        match reader.read(&mut buffer) {
            Ok(0) => return Some(tee.finish()),
            Ok(count) => tee.push(&buffer[..count]),
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("memory takes everything");
        encoder.finish().expect("memory takes everything")
    }

    #[test]
    fn what_was_compressed_is_read_within_bounds() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"hello").expect("memory takes everything");
        let zlib = zlib.finish().expect("memory takes everything");
        let kept = |bytes: &[u8]| Some(Body::Kept(bytes.to_vec()));
        for (body, encoding, expected) in [
            (b"hello".to_vec(), None, kept(b"hello")),
            (b"hello".to_vec(), Some("identity"), kept(b"hello")),
            (gzip(b"hello"), Some("GZIP"), kept(b"hello")),
            (zlib, Some("deflate"), kept(b"hello")),
            (b"hello".to_vec(), Some("gzip"), None),
            (gzip(b"hello")[..12].to_vec(), Some("gzip"), None),
            (b"hello".to_vec(), Some("br"), None),
        ] {
            assert_eq!(decoded(&Body::Kept(body), encoding), expected, "{encoding:?}");
        }
        let long = gzip(&vec![0; KEPT + 1]);
        assert!(matches!(
            decoded(&Body::Kept(long), Some("gzip")),
            Some(Body::Fingerprint { length, .. }) if length == KEPT as u64 + 1
        ));
        let bomb = gzip(&vec![0; MOST as usize + 8192]);
        assert_eq!(decoded(&Body::Kept(bomb), Some("gzip")), None);
    }
}
