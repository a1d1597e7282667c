//! Sharing answers with pages of other origins (the Fetch standard's CORS).
//!
//! A preflight is answered from here and reaches no backend. For every other request the filter decides alone what the answer
//! says about sharing; what a backend says about it is replaced.

use sluice_model::gateway::Cors as Spec;

use crate::head::RequestHead;

/// Seconds, where the filter does not say.
const DEFAULT_MAX_AGE: u32 = 5;
const WILDCARD: &str = "*";

pub const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
const ALLOW_METHODS: &str = "access-control-allow-methods";
const ALLOW_HEADERS: &str = "access-control-allow-headers";
const EXPOSE_HEADERS: &str = "access-control-expose-headers";
const MAX_AGE: &str = "access-control-max-age";
const REQUEST_METHOD: &str = "access-control-request-method";
const REQUEST_HEADERS: &str = "access-control-request-headers";

/// Headers of an answer that are the filter's alone.
pub const OWNED: [&str; 6] = [ALLOW_ORIGIN, ALLOW_CREDENTIALS, ALLOW_METHODS, ALLOW_HEADERS, EXPOSE_HEADERS, MAX_AGE];

pub type AnswerHeaders = Vec<(&'static str, String)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    origins: Vec<Allowed>,
    credentials: bool,
    methods: Names,
    headers: Names,
    expose: Option<String>,
    max_age: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    Any,
    Origin(Origin<String>),
}

/// What an answer may name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    None,
    /// Whatever was asked for.
    Any,
    Listed(String),
}

/// `scheme://host[:port]` in its parts; the host of an allowed one may begin with `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin<T> {
    scheme: T,
    host: T,
    port: u16,
}

impl Cors {
    pub(crate) fn compile(from: &Spec) -> Self {
        let credentials = from.allow_credentials.unwrap_or(false);
        let allowed = |text: &String| match text.as_str() {
            WILDCARD => Some(Allowed::Any),
            text => Origin::parse(text).map(|origin| Allowed::Origin(origin.lower())),
        };
        // With credentials, `*` would be taken for the name of a header.
        let exposed = from.expose_headers.iter().filter(|name| !credentials || *name != WILDCARD);
        let exposed: Vec<&str> = exposed.map(String::as_str).collect();
        Self {
            origins: from.allow_origins.iter().filter_map(allowed).collect(),
            credentials,
            methods: Names::compile(&from.allow_methods),
            headers: Names::compile(&from.allow_headers),
            expose: (!exposed.is_empty()).then(|| exposed.join(", ")),
            max_age: from.max_age.unwrap_or(DEFAULT_MAX_AGE),
        }
    }

    /// Whether the request asks only for leave to make another.
    pub(crate) fn is_preflight(head: &RequestHead<'_>) -> bool {
        head.method == "OPTIONS" && head.header("origin").is_some() && head.header(REQUEST_METHOD).is_some()
    }

    /// What a preflight is answered; `None` when pages of its origin may not.
    pub fn preflight(&self, head: &RequestHead<'_>) -> Option<AnswerHeaders> {
        let origin = head.header("origin");
        let mut answer = self.shared(origin.as_deref())?;
        answer.extend(self.methods.granted(head.header(REQUEST_METHOD)).map(|names| (ALLOW_METHODS, names)));
        answer.extend(self.headers.granted(head.header(REQUEST_HEADERS)).map(|names| (ALLOW_HEADERS, names)));
        answer.push((MAX_AGE, self.max_age.to_string()));
        Some(answer)
    }

    /// What the answer to a request of this origin says; `None` when it may not be shared.
    pub fn shared(&self, origin: Option<&str>) -> Option<AnswerHeaders> {
        let origin = origin.filter(|origin| self.allows(origin))?;
        let origin = if self.depends_on_origin() { origin } else { WILDCARD };
        let mut answer = vec![(ALLOW_ORIGIN, origin.to_owned())];
        if self.credentials {
            answer.push((ALLOW_CREDENTIALS, "true".to_owned()));
        }
        answer.extend(self.expose.clone().map(|names| (EXPOSE_HEADERS, names)));
        Some(answer)
    }

    /// Whether a cache has to tell answers apart by the origin of their request.
    pub fn depends_on_origin(&self) -> bool {
        self.credentials || !self.origins.contains(&Allowed::Any)
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| match allowed {
            Allowed::Any => true,
            Allowed::Origin(allowed) => Origin::parse(origin).is_some_and(|origin| allowed.matches(&origin)),
        })
    }
}

impl Names {
    fn compile(from: &[String]) -> Self {
        if from.is_empty() {
            Self::None
        } else if from.iter().any(|name| name == WILDCARD) {
            Self::Any
        } else {
            Self::Listed(from.join(", "))
        }
    }

    /// A wildcard names what was asked for instead of itself: that holds for requests with credentials too.
    fn granted(&self, asked: Option<String>) -> Option<String> {
        match self {
            Self::None => None,
            Self::Any => asked,
            Self::Listed(names) => Some(names.clone()),
        }
    }
}

impl<'a> Origin<&'a str> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        // An address of version 6 stands in brackets.
        let colon = rest.rfind(':').filter(|&at| !rest[at..].contains(']'));
        let (host, port) = colon.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
        let port = match port {
            Some(port) => port.parse().ok()?,
            None if scheme.eq_ignore_ascii_case("https") => 443,
            None => 80,
        };
        Some(Self { scheme, host, port })
    }

    fn lower(&self) -> Origin<String> {
        Origin { scheme: self.scheme.to_ascii_lowercase(), host: self.host.to_ascii_lowercase(), port: self.port }
    }
}

impl Origin<String> {
    fn matches(&self, origin: &Origin<&str>) -> bool {
        let same_host = match self.host.strip_prefix(WILDCARD) {
            None => origin.host.eq_ignore_ascii_case(&self.host),
            Some(suffix) => {
                let host = origin.host.to_ascii_lowercase();
                host.strip_suffix(suffix).is_some_and(|labels| !labels.is_empty())
            }
        };
        same_host && self.port == origin.port && origin.scheme.eq_ignore_ascii_case(&self.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cors(spec: Value) -> Cors {
        Cors::compile(&serde_json::from_value(spec).expect("a filter"))
    }

    /// `origin/credentials/methods/headers/expose/age` of the answer, `-` for what it lacks.
    fn line(answer: Option<AnswerHeaders>) -> String {
        let Some(answer) = answer else { return "refused".into() };
        let value = |name: &str| answer.iter().find(|(key, _)| *key == name).map_or("-", |(_, value)| value.as_str());
        let names = [ALLOW_ORIGIN, ALLOW_CREDENTIALS, ALLOW_METHODS, ALLOW_HEADERS, EXPOSE_HEADERS, MAX_AGE];
        names.map(value).join(" | ")
    }

    fn preflight(cors: &Cors, origin: &str, method: &str, headers: &str) -> String {
        let mut sent = vec![("origin", origin), (REQUEST_METHOD, method), (REQUEST_HEADERS, headers)];
        sent.retain(|(_, value)| !value.is_empty());
        let head = RequestHead { method: "OPTIONS", host: "h", path: "/", query: None, headers: &sent, received: 0 };
        line(cors.preflight(&head))
    }

    #[test]
    fn origins_are_compared_part_by_part() {
        for (allowed, origin, expected) in [
            ("https://www.foo.com", "https://www.foo.com", true),
            ("https://www.foo.com", "HTTPS://WWW.foo.com", true),
            ("https://www.foo.com", "https://www.foo.com:443", true),
            ("https://www.foo.com:443", "https://www.foo.com", true),
            ("http://www.foo.com", "http://www.foo.com:80", true),
            ("https://www.foo.com", "https://www.foo.com:8443", false),
            ("https://www.foo.com", "http://www.foo.com", false),
            ("https://www.foo.com", "https://www.foo.com.evil", false),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://xpto.www.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://.bar.com", false),
            ("https://*.bar.com", "https://evilbar.com", false),
            ("https://*.bar.com", "https://www.bar.com:444", false),
            ("https://*", "https://anything", true),
            ("https://*", "http://anything", false),
            ("http://*:8080", "http://any.thing:8080", true),
            ("http://[::1]:8080", "http://[::1]:8080", true),
            ("http://[::1]", "http://[::1]", true),
            ("*", "https://foobar.com:12345", true),
            ("*", "null", true),
            ("https://www.foo.com", "null", false),
            ("https://www.foo.com", "", false),
        ] {
            let found = cors(json!({"allowOrigins": [allowed]})).allows(origin);
            assert_eq!(found, expected, "{origin} by {allowed}");
        }
    }

    #[test]
    fn preflights_are_answered_as_the_conformance_suite_expects() {
        let all = cors(
            json!({"allowOrigins": ["https://www.foo.com", "https://*.bar.com"], "allowMethods": ["GET", "OPTIONS"],
            "allowHeaders": ["x-1", "x-2"], "exposeHeaders": ["x-3", "x-4"], "allowCredentials": true, "maxAge": 3600}),
        );
        let any_method = cors(json!({"allowOrigins": ["https://www.foo.com"], "allowMethods": ["*"]}));
        let any_origin = cors(json!({"allowOrigins": ["*"], "allowMethods": ["PUT"], "allowCredentials": false}));
        let any = |credentials: bool| {
            cors(json!({"allowOrigins": ["*"], "allowMethods": ["*"], "allowHeaders": ["*"], "exposeHeaders": ["*"],
                "allowCredentials": credentials}))
        };
        for (cors, origin, method, headers, expected) in [
            (
                &all,
                "https://www.foo.com",
                "GET",
                "x-1, x-2",
                "https://www.foo.com | true | GET, OPTIONS | x-1, x-2 | x-3, x-4 | 3600",
            ),
            (
                &all,
                "https://a.bar.com",
                "PUT",
                "",
                "https://a.bar.com | true | GET, OPTIONS | x-1, x-2 | x-3, x-4 | 3600",
            ),
            (&all, "https://foobar.com", "GET", "", "refused"),
            (&any_method, "https://www.foo.com", "POST", "", "https://www.foo.com | - | POST | - | - | 5"),
            (&any_origin, "https://foobar.com:12345", "PUT", "", "* | - | PUT | - | - | 5"),
            (&any(true), "https://o.foo.com", "PUT", "x-1, x-2", "https://o.foo.com | true | PUT | x-1, x-2 | - | 5"),
            (&any(true), "https://o.foo.com", "PUT", "", "https://o.foo.com | true | PUT | - | - | 5"),
            (&any(false), "https://o.foo.com", "PUT", "x-1", "* | - | PUT | x-1 | * | 5"),
            (&cors(json!({})), "https://o.foo.com", "PUT", "", "refused"),
        ] {
            assert_eq!(preflight(cors, origin, method, headers), expected, "{origin} {method} {headers}");
        }
    }

    #[test]
    fn an_answer_is_shared_with_allowed_origins_only() {
        let some =
            cors(json!({"allowOrigins": ["https://www.foo.com"], "exposeHeaders": ["x-3"], "allowCredentials": true}));
        assert_eq!(line(some.shared(Some("https://www.foo.com"))), "https://www.foo.com | true | - | - | x-3 | -");
        assert_eq!((some.shared(Some("https://other")), some.shared(None)), (None, None));
        assert!(some.depends_on_origin());
        let all = cors(json!({"allowOrigins": ["*"]}));
        assert_eq!((line(all.shared(Some("null"))), all.depends_on_origin()), ("* | - | - | - | - | -".into(), false));
    }
}
