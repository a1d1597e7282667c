//! What a request is called: an id for people and their logs, and a place in a trace (W3C Trace Context).
//!
//! We record no spans, so a trace that comes in is passed on as it is. One that begins here has the request's id for its own: who
//! finds one finds the other.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const HEX: &[u8; 16] = b"0123456789abcdef";
/// Ids of others may have so many bytes.
const MAX_ID: usize = 128;

#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) id: HeaderValue,
    /// Of a trace that begins here.
    trace: Option<HeaderValue>,
}

impl Identity {
    /// `trusted`: whoever sends this may give it an id.
    pub(crate) fn of(headers: &HeaderMap, trusted: bool, mut random: impl FnMut() -> u64) -> Self {
        let given = headers.get(REQUEST_ID).filter(|id| trusted && is_id(id.as_bytes()));
        let traced = single(headers, &TRACEPARENT).is_some_and(|parent| is_traceparent(parent.as_bytes()));
        if let (Some(given), true) = (given, traced) {
            return Self { id: given.clone(), trace: None };
        }
        // A traceparent, of which the id is a part: both are one piece of memory.
        let mut line = *b"00-................................-................-00";
        write_hex(random(), &mut line[3..19]);
        write_hex(random() | 1, &mut line[19..35]);
        if !traced {
            write_hex(random() | 1, &mut line[36..52]);
        }
        let line = Bytes::copy_from_slice(&line);
        let value = |text| HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("none"));
        let id = given.cloned().unwrap_or_else(|| value(line.slice(3..35)));
        Self { id, trace: (!traced).then(|| value(line)) }
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.id.clone());
        if let Some(trace) = &self.trace {
            headers.insert(TRACEPARENT, trace.clone());
            // It belongs to the trace that was none.
            headers.remove(TRACESTATE);
        }
    }
}

/// By hand: the formatting of the standard library costs more than routing the request.
fn write_hex(number: u64, digits: &mut [u8]) {
    for (digit, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        digit[0] = HEX[usize::from(byte >> 4)];
        digit[1] = HEX[usize::from(byte & 15)];
    }
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_id(id: &[u8]) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte))
}

/// `00-TRACE-PARENT-FLAGS`; later versions may say more behind it.
fn is_traceparent(parent: &[u8]) -> bool {
    let mut parts = parent.splitn(5, |byte| *byte == b'-');
    let mut hex = |length: usize| {
        let lower = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        parts.next().filter(|part| part.len() == length && part.iter().all(lower))
    };
    let (Some(version), Some(trace), Some(span), Some(_)) = (hex(2), hex(32), hex(16), hex(2)) else { return false };
    let something = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    version != b"ff" && something(trace) && something(span) && (version != b"00" || parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn written(given: &[(&'static str, &str)], trusted: bool) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let mut numbers = 0x10u64..;
        Identity::of(&headers, trusted, || numbers.next().expect("a number")).write(&mut headers);
        [REQUEST_ID, TRACEPARENT, TRACESTATE]
            .iter()
            .flat_map(|name| headers.get_all(name).iter().map(|value| value.to_str().expect("text").to_owned()))
            .collect()
    }

    #[test]
    fn who_comes_without_a_name_gets_one_for_both() {
        let expected = ["00000000000000100000000000000011", "00-00000000000000100000000000000011-0000000000000013-00"];
        assert_eq!(written(&[], false), expected);
        assert_eq!(written(&[("x-request-id", "mine"), ("tracestate", "a=b")], false), expected);
    }

    #[test]
    fn an_id_is_taken_from_those_who_are_trusted() {
        assert_eq!(written(&[("x-request-id", "mine"), ("traceparent", PARENT)], true), ["mine", PARENT]);
        assert_eq!(written(&[("x-request-id", "mi ne"), ("traceparent", PARENT)], true)[0].len(), 32);
        let long = "x".repeat(MAX_ID + 1);
        assert_eq!(written(&[("x-request-id", &long), ("traceparent", PARENT)], true)[0].len(), 32);
    }

    #[test]
    fn a_trace_goes_on_and_what_is_none_is_replaced() {
        assert_eq!(written(&[("traceparent", PARENT), ("tracestate", "a=b")], false)[1..], [PARENT, "a=b"]);
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(written(&[("traceparent", later)], false)[1], later);
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            let found = written(&[("traceparent", wrong), ("tracestate", "a=b")], false);
            assert!(found.len() == 2 && found[1] != wrong && is_traceparent(found[1].as_bytes()), "{wrong}: {found:?}");
        }
        assert_ne!(written(&[("traceparent", PARENT), ("traceparent", PARENT)], false)[1], PARENT);
    }
}
