//! Base64 as Go reads it: line breaks are skipped, and errors name the byte.

use base64::Engine as _;

/// The canonical text of `text`, or the error of Go's decoder.
pub(crate) fn canonical(text: &str) -> Result<String, String> {
    let engine = base64::engine::general_purpose::STANDARD;
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| matches!(b, b'\r' | b'\n'))
        && bytes.len().is_multiple_of(4)
        && engine.decode(bytes).is_ok()
    {
        return Ok(text.to_owned());
    }
    let decoded = decode(bytes).map_err(|at| format!("illegal base64 data at input byte {at}"))?;
    Ok(engine.encode(decoded))
}

fn digit(byte: u8) -> Option<u32> {
    Some(u32::from(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

/// Four digits at a time; the error is the position.
fn decode(text: &[u8]) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut at = 0;
    let mut group = 0_u32;
    let mut digits = 0;
    while at < text.len() {
        let byte = text[at];
        at += 1;
        match byte {
            b'\r' | b'\n' => {}
            b'=' => {
                padding(text, at, digits)?;
                // Bits that padding makes meaningless are ignored.
                let bytes = (group << (6 * (4 - digits))).to_be_bytes();
                out.extend_from_slice(&bytes[1..digits]);
                return Ok(out);
            }
            _ => {
                group = (group << 6) | digit(byte).ok_or(at - 1)?;
                digits += 1;
            }
        }
        if digits == 4 {
            out.extend_from_slice(&group.to_be_bytes()[1..]);
            (group, digits) = (0, 0);
        }
    }
    if digits == 0 { Ok(out) } else { Err(at - digits) }
}

/// What may follow the first `=`, which stands before `at`.
fn padding(text: &[u8], mut at: usize, digits: usize) -> Result<(), usize> {
    let skip = |mut at: usize| {
        while matches!(text.get(at), Some(b'\r' | b'\n')) {
            at += 1;
        }
        at
    };
    match digits {
        0 | 1 => return Err(at - 1),
        2 => {
            at = skip(at);
            match text.get(at) {
                None => return Err(text.len()),
                Some(b'=') => at += 1,
                Some(_) => return Err(at),
            }
        }
        _ => {}
    }
    at = skip(at);
    if at < text.len() { Err(at) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn errors_name_the_byte_and_line_breaks_are_skipped() {
        let bad = |text: &str| canonical(text).expect_err("not base64");
        assert_eq!(bad("!!"), "illegal base64 data at input byte 0");
        assert_eq!(bad("not base64!"), "illegal base64 data at input byte 3");
        assert_eq!(bad("YQ="), "illegal base64 data at input byte 3");
        assert_eq!(bad("YWJj="), "illegal base64 data at input byte 4");
        assert_eq!(bad("1"), "illegal base64 data at input byte 0");
        assert_eq!(canonical("YW\nJj"), Ok("YWJj".to_owned()));
        assert_eq!(canonical("YQ=="), Ok("YQ==".to_owned()));
        assert_eq!(canonical(""), Ok(String::new()));
    }
}
