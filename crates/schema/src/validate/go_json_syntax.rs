//! What Go's JSON reader says of a text that is no JSON.

/// The first problem, in its words; nothing for a text that is one JSON value.
pub(crate) fn problem(bytes: &[u8]) -> Option<String> {
    if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return None;
    }
    let mut place = bytes.iter().position(|c| !c.is_ascii_whitespace()).unwrap_or(bytes.len());
    let Some(first) = bytes.get(place) else { return Some("unexpected end of JSON input".to_owned()) };
    for literal in ["null", "true", "false"] {
        if *first != literal.as_bytes()[0] {
            continue;
        }
        for expected in &literal.as_bytes()[1..] {
            place += 1;
            match bytes.get(place) {
                None => return Some("unexpected end of JSON input".to_owned()),
                Some(c) if c != expected => {
                    let (found, expected) = (quote(*c), quote(*expected));
                    return Some(format!("invalid character {found} in literal {literal} (expecting {expected})"));
                }
                Some(_) => {}
            }
        }
        let after = bytes.get(place + 1).copied().unwrap_or_default();
        return Some(format!("invalid character {} after top-level value", quote(after)));
    }
    if !matches!(first, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9') {
        return Some(format!("invalid character {} looking for beginning of value", quote(*first)));
    }
    Some("unexpected end of JSON input".to_owned())
}

fn quote(c: u8) -> String {
    match c {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        c => format!("{:?}", char::from(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn says_what_go_says() {
        assert_eq!(problem(b"{\"a\":1}"), None);
        assert_eq!(problem(b"not json").as_deref(), Some("invalid character 'o' in literal null (expecting 'u')"));
        assert_eq!(problem(b"").as_deref(), Some("unexpected end of JSON input"));
        assert_eq!(problem(b"x").as_deref(), Some("invalid character 'x' looking for beginning of value"));
    }
}
