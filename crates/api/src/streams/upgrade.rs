//! What a client asks to speak instead of HTTP, and how it is answered.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;

use super::channels::Dialect;
use super::websocket;
use crate::body::Body;
use crate::dispatch::text;
use crate::refusal::Refusal;
use crate::render;
use crate::request::Encoding;

/// Where a client of SPDY names the protocols of its streams.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";

/// SPDY inside of a WebSocket.
pub(super) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// What streams of commands may be, newest first.
pub(super) const COMMANDS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
pub(super) const PORTS: [&str; 1] = ["portforward.k8s.io"];

/// Whether terminals can be resized in a protocol.
pub(super) fn resizes(protocol: &str) -> bool {
    matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io")
}

/// A request to speak another protocol.
#[derive(Debug, Clone)]
pub(crate) struct Upgrade {
    pub(super) on: OnUpgrade,
    pub(super) wish: Wish,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    WebSocket { key: String, protocols: Vec<String> },
    Spdy { protocols: Vec<String> },
}

/// What both will speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agreed {
    Channels(Dialect),
    Tunnel,
    Spdy(&'static str),
}

impl Agreed {
    fn name(&self) -> &'static str {
        match self {
            Self::Channels(dialect) => dialect.name,
            Self::Tunnel => TUNNEL,
            Self::Spdy(name) => name,
        }
    }
}

impl Upgrade {
    /// `None` for requests that ask for none, or for one that we do not know.
    pub(crate) fn of(parts: &Parts) -> Option<Self> {
        let on = parts.extensions.get::<OnUpgrade>()?.clone();
        Some(Self { on, wish: wish(&parts.headers)? })
    }
}

fn wish(headers: &HeaderMap) -> Option<Wish> {
    if !list(headers, &header::CONNECTION).iter().any(|word| word.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let asked = text(headers, "upgrade");
    if asked.eq_ignore_ascii_case(SPDY) {
        return Some(Wish::Spdy { protocols: list(headers, &STREAM_PROTOCOL) });
    }
    let key = text(headers, "sec-websocket-key");
    let version = text(headers, "sec-websocket-version");
    let fits = asked.eq_ignore_ascii_case("websocket") && version == "13" && !key.is_empty();
    fits.then(|| Wish::WebSocket { key, protocols: list(headers, &header::SEC_WEBSOCKET_PROTOCOL) })
}

/// The words of a header that may come several times and hold several.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

/// The first of a client's protocols that we know; the oldest for clients that name none.
pub(super) fn choose(ours: &'static [&'static str], theirs: &[String]) -> Option<&'static str> {
    if theirs.is_empty() {
        return ours.last().copied();
    }
    theirs.iter().find_map(|name| ours.iter().find(|known| **known == name.as_str()).copied())
}

/// From the next byte on, the agreed protocol is spoken.
pub(super) fn switched(wish: &Wish, agreed: &Agreed) -> Response<Body> {
    let mut response = Response::new(Body::whole(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let protocol = HeaderValue::from_static(agreed.name());
    match wish {
        Wish::Spdy { .. } => {
            headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
            headers.insert(STREAM_PROTOCOL, protocol);
        }
        Wish::WebSocket { key, .. } => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let accept = HeaderValue::from_str(&websocket::accept(key)).expect("base64 fits into a header");
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
            if !protocol.is_empty() {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
            }
        }
    }
    response
}

/// None of the client's protocols is known.
pub(super) fn refused(wish: &Wish) -> Response<Body> {
    let (Wish::WebSocket { protocols, .. } | Wish::Spdy { protocols }) = wish;
    let named = protocols.join(" ");
    let why = match wish {
        Wish::WebSocket { .. } => format!("requested protocol(s) are not supported: [{named}]"),
        Wish::Spdy { .. } => format!("unable to upgrade: unable to negotiate protocol: client supports [{named}]"),
    };
    let mut response = render::plain(StatusCode::FORBIDDEN, why);
    if matches!(wish, Wish::Spdy { .. }) {
        for name in COMMANDS {
            response.headers_mut().append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(name));
        }
    }
    response
}

pub(super) fn bad(why: &str) -> Response<Body> {
    render::refusal(&Refusal::bad(why), Encoding::Json)
}

/// No node runs pods here.
pub(super) fn nobody() -> Response<Body> {
    render::refusal(&Refusal::ServiceUnavailable("no node of this server runs pods".into()), Encoding::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], expected: Option<&Wish>) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        assert_eq!(wish(&headers).as_ref(), expected, "{pairs:?}");
    }

    #[test]
    fn wishes_are_read_from_headers_in_any_form() {
        let words = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        check(&[], None);
        check(&[("upgrade", "SPDY/3.1")], None);
        check(&[("connection", "keep-alive, Upgrade"), ("upgrade", "h2c")], None);
        check(&[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "k")], None);
        let spdy = [
            ("connection", "Upgrade"),
            ("upgrade", "spdy/3.1"),
            ("x-stream-protocol-version", "v4.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io"),
        ];
        let protocols = words(&["v4.channel.k8s.io", "v3.channel.k8s.io"]);
        check(&spdy, Some(&Wish::Spdy { protocols }));
        let socket = [
            ("connection", "Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-key", "k"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
        ];
        let protocols = words(&["v5.channel.k8s.io", "v4.channel.k8s.io"]);
        check(&socket, Some(&Wish::WebSocket { key: "k".into(), protocols }));
    }

    #[test]
    fn the_clients_first_known_protocol_is_spoken() {
        let choose = |theirs: &[&str]| {
            super::choose(&COMMANDS, &theirs.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(choose(&["v5.channel.k8s.io", "v3.channel.k8s.io", "v4.channel.k8s.io"]), Some("v3.channel.k8s.io"));
        assert_eq!(choose(&[]), Some("channel.k8s.io"));
        assert_eq!(choose(&["soap"]), None);
    }
}
