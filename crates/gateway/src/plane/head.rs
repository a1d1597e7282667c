//! Heads of requests and answers: refused when ambiguous, routed on exactly what is sent on, stripped of what concerns one hop.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE, VARY,
};
use http::{Method, Request, Uri, Version, request, uri};
use sluice_route::cors::{self, AnswerHeaders};
use sluice_route::{
    CookieTerms, Cors, HeaderEdits, Headers, Network, NewCookie, Notice, Protocol, RequestHead, Transport,
};

use super::accept::Client;
use super::answer::Reason;
use super::forwarding::{self, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO};
use super::identity::{Identity, REQUEST_ID};
use super::limits;

const KEEP_ALIVE: &str = "keep-alive";
/// Names the route that a copied request was copied for.
pub(crate) const MIRROR: HeaderName = HeaderName::from_static("x-sluice-mirror");
/// Says of a copied request that its answer will be compared, and which version gives it: a program may leave out what it does to
/// others. Nobody but the gateway says so.
pub(crate) const PARALLEL_RUN: HeaderName = HeaderName::from_static("x-parallel-run");

/// So many headers may be added to a request on its way.
const ADDED: usize = 10;
/// Headers that `Connection` must not make disappear.
const NEVER_NAMED: [HeaderName; 9] = [
    HOST,
    CONTENT_LENGTH,
    COOKIE,
    http::header::AUTHORIZATION,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    X_FORWARDED_PORT,
    REQUEST_ID,
];

/// Whom a request is for: what it was addressed to, and what is routed on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// As sent on in `Host`; `None` for HTTP/1.0 without one.
    pub(crate) value: Option<HeaderValue>,
    /// In lower case, without port and trailing dot.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

/// Refuses what could mean different things to us and to a backend. How long a body is, is settled before: the server refuses
/// contradicting lengths, drops a Content-Length beside `chunked`, and what a backend gets is framed anew.
pub(crate) fn check(head: &request::Parts) -> Result<Authority, Reason> {
    if head.method == Method::CONNECT {
        return Err(Reason::Connect);
    }
    check_target(&head.uri)?;
    check_expectation(&head.headers)?;
    authority(head)
}

fn check_target(uri: &Uri) -> Result<(), Reason> {
    let path = uri.path();
    if path.len() + uri.query().map_or(0, str::len) > limits::TARGET_BYTES {
        return Err(Reason::UriTooLong);
    }
    if !path.starts_with('/') {
        return Err(Reason::BadRequest("the request target must be a path"));
    }
    // The server takes other schemes for what they are, backends perhaps not.
    if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
        return Err(Reason::BadRequest("the request target is not one of HTTP"));
    }
    check_path(path)
}

/// Refuses what backends that unescape paths, or cut parameters off, would read as another path than the one that is routed on.
/// Everything else stays as it came: two slashes, escaped ones, parameters.
fn check_path(path: &str) -> Result<(), Reason> {
    if path.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'\\') {
        return Err(Reason::BadRequest("the path has characters that must be escaped"));
    }
    if !path.contains("/.") && !path.contains('%') {
        return Ok(());
    }
    let bare = unescaped(path.as_bytes()).ok_or(Reason::BadRequest("the path has a `%` without two digits"))?;
    if bare.contains(&0) {
        return Err(Reason::BadRequest("the path must not have an escaped NUL"));
    }
    let climbs = |segment: &[u8]| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        name == b"." || name == b".."
    };
    if bare.split(|byte| matches!(byte, b'/' | b'\\')).any(climbs) {
        return Err(Reason::BadRequest("the path must not have `.` or `..` segments"));
    }
    Ok(())
}

/// `None` when an escape is broken.
fn unescaped(path: &[u8]) -> Option<Vec<u8>> {
    let mut bare = Vec::with_capacity(path.len());
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            bare.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        bare.push((digit()? * 16 + digit()?) as u8);
    }
    Some(bare)
}

fn check_expectation(headers: &HeaderMap) -> Result<(), Reason> {
    let known = |expect: &HeaderValue| expect.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(EXPECT).iter().all(known) { Ok(()) } else { Err(Reason::ExpectationFailed) }
}

fn authority(head: &request::Parts) -> Result<Authority, Reason> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let header = hosts.next();
    if hosts.next().is_some() {
        return Err(Reason::BadRequest("a request has one Host header"));
    }
    let value = match (head.uri.authority(), header) {
        // The target of an HTTP/2 or absolute-form request is authoritative; in HTTP/2 they must not contradict each other.
        (Some(target), Some(header))
            if head.version == Version::HTTP_2 && header.as_bytes() != target.as_str().as_bytes() =>
        {
            return Err(Reason::BadRequest("Host and :authority differ"));
        }
        (Some(target), _) => {
            Some(HeaderValue::from_str(target.as_str()).map_err(|_| Reason::BadRequest("the authority is not valid"))?)
        }
        (None, Some(header)) => Some(header.clone()),
        (None, None) if head.version == Version::HTTP_10 => None,
        (None, None) => return Err(Reason::BadRequest("a request has a Host header")),
    };
    let text = value.as_ref().map_or("", |value| value.to_str().unwrap_or("?"));
    let (host, port) = split_authority(text).ok_or(Reason::BadRequest("the Host header is not a valid host"))?;
    if host.is_empty() && value.is_some() {
        return Err(Reason::BadRequest("the Host header is empty"));
    }
    let host = host.to_ascii_lowercase();
    Ok(Authority { value, host, port })
}

/// `host[:port]` in its two parts, without a trailing dot; `None` when it is neither a name nor an address.
fn split_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(end) => {
            let (host, rest) = text.split_at(end + 2);
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        None | Some("") => None,
        Some(port) => Some(port.parse().ok()?),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let valid = if host.starts_with('[') {
        host[1..host.len() - 1].bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'%'))
    } else {
        host.bytes().all(allowed)
    };
    valid.then(|| (host.strip_suffix('.').unwrap_or(host), port))
}

/// The view of a head that routing takes.
pub(crate) fn routed<'a>(head: &'a request::Parts, host: &'a str, headers: &'a HeaderView<'a>) -> RequestHead<'a> {
    let received = UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    RequestHead {
        method: head.method.as_str(),
        host,
        path: head.uri.path(),
        query: head.uri.query(),
        headers,
        received,
    }
}

/// A head's fields, and the connection that they came by.
pub(crate) struct HeaderView<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) client: &'a Client,
    /// Proxies whose word is taken.
    pub(crate) trusted: &'a [Network],
}

impl Headers for HeaderView<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&str) -> bool) -> bool {
        self.headers.get_all(name).iter().any(|value| value.to_str().is_ok_and(&mut *test))
    }

    fn client(&self) -> Option<IpAddr> {
        forwarding::origin(self.headers, &self.client.peer, self.trusted).parse().ok()
    }

    fn is_secure(&self) -> bool {
        let told =
            || self.headers.get(X_FORWARDED_PROTO).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"https"));
        self.client.transport != Transport::Plain || (self.client.peer.trusted && told())
    }
}

/// What a call of gRPC has as its type, perhaps with a suffix for the encoding.
pub(crate) const GRPC: &str = "application/grpc";

pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let suffix = kind.strip_prefix(GRPC.as_bytes());
    suffix.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with(b"+") || suffix.starts_with(b";"))
}

/// The protocol that the client wants to change to, if it is one that we let through.
pub(crate) fn wanted_upgrade<B>(request: &Request<B>) -> Option<HeaderValue> {
    let upgrade = request.headers().get(UPGRADE)?;
    let named = || tokens(request.headers()).any(|token| token.eq_ignore_ascii_case("upgrade"));
    // HTTP/2 by upgrade would let requests pass that nobody routes.
    (request.version() == Version::HTTP_11 && named() && !upgrade.as_bytes().eq_ignore_ascii_case(b"h2c"))
        .then(|| upgrade.clone())
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// A length beside a transfer coding is not that of the body, says RFC 9112, and nobody behind us is to believe it.
pub(crate) fn trust_the_coding(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
}

/// Whether a header says something about one connection only.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | KEEP_ALIVE
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Takes out what concerns one connection only. What a protocol change needs is put back by whoever lets it through.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have one of them or none: looking at the names there are costs less than asking for all there could be.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name)).cloned() {
        if name == CONNECTION {
            let other = tokens(headers).filter(|token| !token.eq_ignore_ascii_case(KEEP_ALIVE));
            let named: Vec<HeaderName> = other.filter_map(|token| token.parse().ok()).collect();
            for name in named.iter().filter(|name| !NEVER_NAMED.contains(name)) {
                headers.remove(name);
            }
        }
        headers.remove(name);
    }
}

/// A copy with room for what is added on the way.
pub(crate) fn copy(head: &request::Parts) -> request::Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = head.method.clone();
    copy.uri = head.uri.clone();
    copy.version = head.version;
    copy.extensions = head.extensions.clone();
    copy.headers.reserve(head.headers.len() + ADDED);
    for (name, value) in &head.headers {
        copy.headers.append(name, value.clone());
    }
    copy
}

/// Turns the client's head into the one that a backend gets, but for the path.
pub(crate) fn forward(head: &mut request::Parts, authority: &Authority, client: &Client, identity: &Identity) {
    let trailers = head.headers.get(TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    strip_hop_by_hop(&mut head.headers);
    if trailers {
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    // Answered by us, by reading the body.
    head.headers.remove(EXPECT);
    head.headers.remove(MIRROR);
    head.headers.remove(PARALLEL_RUN);
    forwarding::announce(&mut head.headers, authority, client);
    identity.write(&mut head.headers);
    if let Some(value) = &authority.value {
        head.headers.insert(HOST, value.clone());
    }
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    head.version = Version::HTTP_11;
}

/// HTTP/2 may send a cookie in crumbs; HTTP/1.1 wants one header.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, cookie);
    }
}

/// The target for the backend: path and query only, the path replaced when a filter says so.
pub(crate) fn origin_form(uri: &Uri, path: Option<String>) -> Option<Uri> {
    let target = match (path, uri.query()) {
        (None, _) if uri.authority().is_none() => return Some(uri.clone()),
        (path, query) => {
            let path = path.map_or(Cow::Borrowed(uri.path()), Cow::Owned);
            query.map_or_else(|| path.clone().into_owned(), |query| format!("{path}?{query}"))
        }
    };
    let target: uri::PathAndQuery = target.parse().ok()?;
    Some(Uri::from(target))
}

/// The head as this protocol says it: HTTP/2 names the host in the target.
pub(crate) fn spoken(mut head: request::Parts, protocol: Protocol) -> request::Parts {
    if protocol == Protocol::Http2 {
        head.version = Version::HTTP_2;
        let host = head.headers.get(HOST).and_then(|host| uri::Authority::try_from(host.as_bytes()).ok());
        if let (Some(authority), Some(path)) = (host, head.uri.path_and_query().cloned())
            && let Ok(uri) = Uri::builder().scheme("http").authority(authority).path_and_query(path).build()
        {
            head.uri = uri;
            head.headers.remove(HOST);
        }
    }
    head
}

/// Applies header filters; names and values that are not valid in HTTP are left out.
pub(crate) fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    let parsed =
        |(name, value): &(String, String)| Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?));
    for (name, value) in edits.set.iter().filter_map(parsed) {
        headers.insert(name, value);
    }
    for (name, value) in edits.add.iter().filter_map(parsed) {
        headers.append(name, value);
    }
    for name in &edits.remove {
        headers.remove(name);
    }
}

/// What brings the client to the same version again.
pub(crate) fn of_version(cookie: &NewCookie<'_>, transport: &Transport) -> Option<(HeaderName, HeaderValue)> {
    let NewCookie { name, value, max_age } = cookie;
    set_cookie(name, value, Some(*max_age), "/", &CookieTerms::default(), transport)
}

/// What brings the client to the same pod again.
pub(crate) fn of_session(notice: &Notice<'_>, transport: &Transport) -> Option<(HeaderName, HeaderValue)> {
    match notice {
        Notice::Cookie { name, value, max_age, path, terms } => {
            set_cookie(name, value, *max_age, path, terms, transport)
        }
        Notice::Header { name, value } => Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?)),
    }
}

/// For the host that was asked, unless there is a domain. Without an age, browsers keep it until they are closed.
fn set_cookie(
    name: &str,
    value: &str,
    max_age: Option<Duration>,
    path: &str,
    terms: &CookieTerms,
    transport: &Transport,
) -> Option<(HeaderName, HeaderValue)> {
    let CookieTerms { same_site, secure, domain } = terms;
    let secure = if secure.unwrap_or(*transport != Transport::Plain) { "; Secure" } else { "" };
    let age = max_age.map(|age| format!("; Max-Age={}", age.as_secs())).unwrap_or_default();
    let domain = domain.as_ref().map(|domain| format!("; Domain={domain}")).unwrap_or_default();
    let line = format!("{name}={value}; Path={path}{domain}{age}; HttpOnly; SameSite={same_site}{secure}");
    Some((SET_COOKIE, HeaderValue::try_from(line).ok()?))
}

/// Lets the filter, and nobody else, say to whom an answer may be shown.
pub(crate) fn share(headers: &mut HeaderMap, cors: &Cors, origin: Option<&HeaderValue>) {
    for name in cors::OWNED {
        headers.remove(name);
    }
    if cors.depends_on_origin() {
        headers.append(VARY, HeaderValue::from_name(ORIGIN));
    }
    let origin = origin.and_then(|origin| origin.to_str().ok());
    put(headers, cors.shared(origin).unwrap_or_default());
}

/// Sets these headers; a value that is not valid in HTTP is left out.
pub(crate) fn put(headers: &mut HeaderMap, values: AnswerHeaders) {
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::forwarding::Peer;
    use super::*;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        let host = ("host", "shop");
        for (head, expected) in [
            (parts("GET", "/", &[host]), None),
            (parts("CONNECT", "shop:80", &[host]), Some("this")),
            (parts("OPTIONS", "*", &[host]), Some("target must be a path")),
            (parts("GET", "/", &[]), Some("has a Host")),
            (parts("GET", "/", &[host, ("host", "other")]), Some("one Host")),
            (parts("GET", "/", &[("host", "sh op")]), Some("not a valid host")),
            (parts("GET", "/", &[("host", "shop:http")]), Some("not a valid host")),
            (parts("GET", "/", &[("host", "user@shop")]), Some("not a valid host")),
            (parts("GET", "/a/../b", &[host]), Some("segments")),
            (parts("GET", "/a/%2E%2e/b", &[host]), Some("segments")),
            (parts("GET", "/a/..b/.well-known", &[host]), None),
            (parts("POST", "/", &[host, ("expect", "a miracle")]), Some("expectation")),
            (parts("POST", "/", &[host, ("expect", "100-Continue")]), None),
        ] {
            let found = check(&head).err().map(|reason| format!("{reason:?} {}", reason.text()));
            match (found, expected) {
                (None, None) => {}
                (Some(found), Some(expected)) => assert!(found.contains(expected), "{head:?}: {found}"),
                (found, expected) => panic!("{head:?}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn the_host_is_normalised_for_routing_only() {
        for (value, host, port) in [
            ("Shop.Example.com:8080", "shop.example.com", Some(8080)),
            ("shop.", "shop", None),
            ("shop:", "shop", None),
            ("[::1]:80", "[::1]", Some(80)),
            ("127.0.0.1", "127.0.0.1", None),
        ] {
            let found = check(&parts("GET", "/", &[("host", value)])).expect(value);
            assert_eq!((found.host.as_str(), found.port), (host, port));
            assert_eq!(found.value, Some(HeaderValue::from_static(value)));
        }
        let absolute = check(&parts("GET", "http://real/", &[("host", "other")])).expect("absolute form");
        assert_eq!(absolute.host, "real");
    }

    #[test]
    fn one_hop_headers_end_here() {
        let mut head = parts(
            "GET",
            "/",
            &[
                ("host", "shop"),
                ("connection", "close, X-Mine, Cookie"),
                ("x-mine", "1"),
                ("cookie", "a=1"),
                ("keep-alive", "timeout=5"),
                ("te", "trailers"),
                ("upgrade", "websocket"),
                ("x-forwarded-for", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("x-sluice-mirror", "not/really"),
                ("x-parallel-run", "candidate"),
            ],
        );
        let authority = check(&head).expect("valid");
        let peer = Peer::new("10.0.0.1".parse().expect("an address"), &[]);
        let client = Client::alone(peer);
        forward(&mut head, &authority, &client, &Identity::of(&HeaderMap::new(), false, || 1));
        let mut names: Vec<String> =
            head.headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("text"))).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "cookie=a=1",
                "host=shop",
                "te=trailers",
                "traceparent=00-00000000000000010000000000000001-0000000000000001-00",
                "x-forwarded-for=10.0.0.1",
                "x-forwarded-host=shop",
                "x-forwarded-port=80",
                "x-forwarded-proto=http",
                "x-request-id=00000000000000010000000000000001",
            ]
        );
    }

    #[test]
    fn header_filters_do_as_the_conformance_suite_expects() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let edits = HeaderEdits {
            set: pairs(&[("X-Header-Set", "set"), ("X-Set-New", "new")]),
            add: pairs(&[("X-Header-Add", "add"), ("x-Mixedcase-ADD-1", "mixed"), ("X-UPPER", "upper")]),
            remove: vec!["X-Header-Remove".into(), "X-Not-There".into()],
        };
        let mut head = parts(
            "GET",
            "/",
            &[
                ("x-header-set", "one"),
                ("x-header-set", "two"),
                ("x-header-add", "original"),
                ("x-header-remove", "value"),
                ("another-header", "stays"),
            ],
        );
        edit(&mut head.headers, &edits);
        let mut found: Vec<String> = head
            .headers
            .keys()
            .map(|name| {
                let values = head.headers.get_all(name).iter().map(|value| value.to_str().expect("text"));
                format!("{name}={}", values.collect::<Vec<_>>().join(","))
            })
            .collect();
        found.sort();
        let expected = [
            "another-header=stays",
            "x-header-add=original,add",
            "x-header-set=set",
            "x-mixedcase-add-1=mixed",
            "x-set-new=new",
            "x-upper=upper",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn http2_names_the_host_in_its_target() {
        for (protocol, expected) in
            [(Protocol::Http1, ("/a?b".to_owned(), true)), (Protocol::Http2, ("http://shop:81/a?b".to_owned(), false))]
        {
            let head = spoken(parts("GET", "/a?b", &[("host", "shop:81")]), protocol);
            assert_eq!((head.uri.to_string(), head.headers.contains_key(HOST)), expected);
        }
    }

    #[test]
    fn the_backend_gets_a_path_whatever_the_client_sent() {
        let target = |uri: &str, path: Option<&str>| {
            origin_form(&uri.parse().expect("a URI"), path.map(str::to_owned)).expect("a target").to_string()
        };
        assert_eq!(target("http://shop/a?b=c", None), "/a?b=c");
        assert_eq!(target("/a?b=c", None), "/a?b=c");
        assert_eq!(target("/a?b=c", Some("/new")), "/new?b=c");
        assert_eq!(target("/a", Some("/new")), "/new");
    }
}
