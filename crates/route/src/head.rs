//! The head of a request, as far as routing looks at it.

use std::net::IpAddr;

/// All parts borrowed from whatever parsed them; already checked and normalised by the caller.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    pub method: &'a str,
    /// In lower case, without port or trailing dot.
    pub host: &'a str,
    /// As received, beginning with `/`.
    pub path: &'a str,
    /// Without the `?`.
    pub query: Option<&'a str>,
    pub headers: &'a dyn Headers,
    /// When it came, in seconds of Unix time.
    pub received: u64,
}

/// The headers of a request, and what they say of whom it comes from, as far as they are to be believed.
pub trait Headers {
    /// Whether any value of this header (name in lower case) passes the test. Values that are not text pass none.
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool;

    /// The client's address, or what a proxy that is trusted says of it.
    fn client(&self) -> Option<IpAddr> {
        None
    }

    /// Whether the client used TLS, with us or with a proxy that is trusted.
    fn is_secure(&self) -> bool {
        false
    }
}

/// For tests and tools: pairs with names in lower case.
impl<N: AsRef<str>, V: AsRef<str>> Headers for [(N, V)] {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.iter().any(|(key, value)| key.as_ref() == name && test(value.as_ref()))
    }
}

impl<N: AsRef<str>, V: AsRef<str>> Headers for Vec<(N, V)> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.as_slice().any(name, test)
    }
}

impl<N: AsRef<str>, V: AsRef<str>, const COUNT: usize> Headers for [(N, V); COUNT] {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.as_slice().any(name, test)
    }
}

impl<'a> RequestHead<'a> {
    /// The first value of this header (name in lower case) that is text.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut found = None;
        self.headers.any(name, &mut |value| {
            found = Some(value.to_owned());
            true
        });
        found
    }

    /// The decoded values of a query parameter, in order.
    pub(crate) fn parameters(&self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let pairs = self.query.unwrap_or_default().split('&');
        pairs.filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key) == name).then(|| decoded(value))
        })
    }
}

/// Undoes `%41` and `+`; a broken escape stays as it is.
fn decoded(text: &str) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], escape.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_parameters_are_compared_decoded() {
        let none: [(&str, &str); 0] = [];
        let head = RequestHead {
            method: "GET",
            host: "shop",
            path: "/",
            query: Some("a=1&b=x%20y+z&a=2&c&%64=4&e=%zz"),
            headers: &none,
            received: 0,
        };
        let all = |name: &'static str| head.parameters(name).collect::<Vec<_>>().join("|");
        assert_eq!(
            [all("a"), all("b"), all("c"), all("d"), all("e"), all("nope")],
            ["1|2", "x y z", "", "4", "%zz", ""].map(String::from)
        );
        assert_eq!(head.parameters("c").count(), 1);
    }
}
