//! What a backend is told of the client: by us alone, unless whoever is in front of us is trusted to know more.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use sluice_route::Network;

use super::accept::Client;
use super::head::Authority;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// The other end of a client's connection.
pub(crate) struct Peer {
    /// Its address, as headers and logs name it.
    pub(crate) text: HeaderValue,
    /// It says the truth of whom its requests come from.
    pub(crate) trusted: bool,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, trusted: &[Network]) -> Self {
        let text = HeaderValue::try_from(address.to_canonical().to_string());
        Self {
            text: text.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            trusted: trusted.iter().any(|network| network.contains(address)),
        }
    }
}

/// Writes down whom the request comes from, and what it asked for.
pub(crate) fn announce(headers: &mut HeaderMap, authority: &Authority, client: &Client) {
    let scheme = client.transport.scheme();
    let ours = [
        (X_FORWARDED_PROTO, Some(HeaderValue::from_static(scheme))),
        (X_FORWARDED_HOST, authority.value.clone()),
        (X_FORWARDED_PORT, Some(authority.port.map_or(default_port(scheme), HeaderValue::from))),
    ];
    if client.peer.trusted {
        let known = headers.contains_key(FORWARDED);
        extend(headers, X_FORWARDED_FOR, &client.peer.text);
        if let Some(element) = known.then(|| element(client, authority)).flatten() {
            extend(headers, FORWARDED, &element);
        }
        for (name, value) in ours {
            if let Some(value) = value.filter(|_| !headers.contains_key(&name)) {
                headers.insert(name, value);
            }
        }
        return;
    }
    headers.remove(FORWARDED);
    headers.insert(X_FORWARDED_FOR, client.peer.text.clone());
    for (name, value) in ours {
        match value {
            Some(value) => drop(headers.insert(name, value)),
            None => drop(headers.remove(name)),
        }
    }
}

/// All values in one, ours at the end.
fn extend(headers: &mut HeaderMap, name: HeaderName, ours: &HeaderValue) {
    let values: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    let joined = [values.as_slice(), &[ours.as_bytes()]].concat().join(&b", "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, joined);
    }
}

/// One step of the way, as RFC 7239 writes it.
fn element(client: &Client, authority: &Authority) -> Option<HeaderValue> {
    let peer = client.peer.text.to_str().ok()?;
    let node = if peer.contains(':') { format!("\"[{peer}]\"") } else { peer.to_owned() };
    let host = authority.value.as_ref().and_then(|host| host.to_str().ok());
    let host = host.map(|host| format!(";host=\"{host}\"")).unwrap_or_default();
    HeaderValue::try_from(format!("for={node};proto={}{host}", client.transport.scheme())).ok()
}

/// Whom a request comes from: the nearest address that nobody whom we trust stands for.
pub(crate) fn origin(headers: &HeaderMap, peer: &Peer, trusted: &[Network]) -> String {
    let nearest = peer.text.to_str().unwrap_or_default().to_owned();
    if !peer.trusted {
        return nearest;
    }
    let values: Vec<&str> = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut found = nearest;
    for hop in values.iter().rev().flat_map(|value| value.rsplit(',')).map(str::trim) {
        let Ok(address) = hop.parse::<IpAddr>() else { break };
        hop.clone_into(&mut found);
        if !trusted.iter().any(|network| network.contains(address)) {
            break;
        }
    }
    found
}

fn default_port(scheme: &str) -> HeaderValue {
    HeaderValue::from_static(if scheme == "https" { "443" } else { "80" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn announced(peer: &str, port: Option<u16>, given: &[(&'static str, &str)]) -> Vec<String> {
        let trusted = ["10.0.0.0/8".parse().expect("a range"), "fd00::/8".parse().expect("a range")];
        let peer = Peer::new(peer.parse().expect("an address"), &trusted);
        let client = Client::alone(peer);
        let authority = Authority { value: Some(HeaderValue::from_static("shop")), host: "shop".to_owned(), port };
        let mut headers = headers(given);
        announce(&mut headers, &authority, &client);
        let mut found: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        found.sort();
        found
    }

    const CLAIMS: [(&str, &str); 5] = [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-for", "10.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=203.0.113.7;proto=https"),
    ];

    #[test]
    fn what_a_stranger_claims_is_replaced_by_what_we_see() {
        let ours =
            ["x-forwarded-for: 192.0.2.1", "x-forwarded-host: shop", "x-forwarded-port: 80", "x-forwarded-proto: http"];
        assert_eq!(announced("192.0.2.1", None, &CLAIMS), ours);
        assert_eq!(announced("192.0.2.1", None, &[]), ours);
        assert_eq!(announced("192.0.2.1", Some(8080), &[])[2], "x-forwarded-port: 8080");
        assert_eq!(announced("::ffff:192.0.2.1", None, &[]), ours);
    }

    #[test]
    fn what_a_trusted_proxy_knows_is_kept_and_continued() {
        assert_eq!(
            announced("10.0.0.1", None, &CLAIMS),
            [
                "forwarded: for=203.0.113.7;proto=https, for=10.0.0.1;proto=http;host=\"shop\"",
                "x-forwarded-for: 203.0.113.7, 10.1.1.1, 10.0.0.1",
                "x-forwarded-host: shop.example",
                "x-forwarded-port: 80",
                "x-forwarded-proto: https",
            ]
        );
        let six = announced("fd00::1", None, &[("forwarded", "for=x")]);
        assert_eq!(six[0], "forwarded: for=x, for=\"[fd00::1]\";proto=http;host=\"shop\"");
    }

    #[test]
    fn a_request_comes_from_the_nearest_whom_nobody_trusted_stands_for() {
        let trusted = ["10.0.0.0/8".parse().expect("a range")];
        for (peer, hops, expected) in [
            ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
            ("10.0.0.1", "198.51.100.9, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
            ("10.0.0.1", "10.2.2.2", "10.2.2.2"),
            ("10.0.0.1", "unknown, 10.2.2.2", "10.2.2.2"),
            ("10.0.0.1", "", "10.0.0.1"),
        ] {
            let peer = Peer::new(peer.parse().expect("an address"), &trusted);
            assert_eq!(origin(&headers(&[("x-forwarded-for", hops)]), &peer, &trusted), expected, "{hops}");
        }
    }
}
