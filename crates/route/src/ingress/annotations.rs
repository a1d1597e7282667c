//! What the annotations of an Ingress ask for, by the names that ingress-nginx has for them.
//!
//! Whatever is not understood is said, and so is a value that cannot be read; the rest counts all the same. Only where an
//! annotation is there to keep requests out, nobody is let in while it cannot be met.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

use sluice_model::gateway::Cors;

use crate::backend::Protocol;
use crate::canary::{ByHeader, Canary, HeaderValue, WHOLE};
use crate::guard::Sources;
use crate::host::Host;
use crate::matching::ValueTest;
use crate::network::Network;
use crate::report::{Complaint, reason};
use crate::rule::Timeouts;
use crate::session::CookieTerms;
use crate::template::UrlTemplate;

const PREFIX: &str = "nginx.ingress.kubernetes.io/";
/// Who may ask at all is decided by these, which nobody here can.
const CHECKS: [&str; 3] = ["auth-url", "auth-type", "auth-tls-secret"];
const FOUND: u16 = 302;
const MOVED_PERMANENTLY: u16 = 301;
/// Of ingress-nginx, for what is not said.
const STALL: Duration = Duration::from_secs(60);
const SESSION_COOKIE: &str = "INGRESSCOOKIE";
const CORS_METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const CORS_HEADERS: &str = "DNT, Keep-Alive, User-Agent, X-Requested-With, If-Modified-Since, Cache-Control, Content-Type, Range, Authorization";
const CORS_MAX_AGE: u32 = 1_728_000;

/// What an Ingress asks for beside its spec.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// It is a canary of another one: nothing else of it counts.
    pub(crate) canary: Option<Canary>,
    pub(crate) uses_regex: bool,
    pub(crate) rewrite: Option<String>,
    pub(crate) redirect: Option<(UrlTemplate, u16)>,
    pub(crate) app_root: Option<String>,
    pub(crate) to_tls: ToTls,
    pub(crate) www: bool,
    pub(crate) aliases: Vec<Host>,
    pub(crate) timeouts: Timeouts,
    pub(crate) connect: Option<Duration>,
    pub(crate) cors: Option<Cors>,
    pub(crate) session: Option<Affinity>,
    pub(crate) protocol: Option<Protocol>,
    /// Backends are not to be spoken to in the open.
    pub(crate) backend_tls: bool,
    pub(crate) upstream_host: Option<String>,
    pub(crate) forwarded_prefix: Option<String>,
    pub(crate) sources: Sources,
    /// Why no request may be let in.
    pub(crate) closed: Option<String>,
}

/// When requests without TLS are sent to where they have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ToTls {
    Never,
    /// Where there is a certificate for the host.
    #[default]
    WhereServed,
    /// Whoever ends TLS: it may be done by a proxy in front.
    Always,
}

/// Sessions by cookie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Affinity {
    pub(crate) name: String,
    pub(crate) max_age: Option<Duration>,
    /// `None`: that of the rule.
    pub(crate) path: Option<String>,
    pub(crate) terms: CookieTerms,
}

/// Looks annotations up, and remembers which were asked for and what was wrong with them.
struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    asked: RefCell<BTreeSet<&'static str>>,
    complaints: RefCell<Vec<Complaint>>,
}

/// Every annotation, read.
pub(crate) fn read(annotations: &BTreeMap<String, String>) -> (Wishes, Vec<Complaint>) {
    let reader = Reader { annotations, asked: RefCell::default(), complaints: RefCell::default() };
    let canary = reader.flag("canary").unwrap_or(false).then(|| reader.canary());
    let (sources, unreadable) = reader.sources();
    let wishes = Wishes {
        canary,
        uses_regex: reader.flag("use-regex").unwrap_or(false),
        rewrite: reader.text("rewrite-target"),
        redirect: reader.redirect(),
        app_root: reader.checked("app-root", "a path", |text| text.starts_with('/').then(|| text.to_owned())),
        to_tls: reader.to_tls(),
        www: reader.flag("from-to-www-redirect").unwrap_or(false),
        aliases: reader.list("server-alias").iter().map(|host| Host::parse(Some(host))).collect(),
        timeouts: reader.timeouts(),
        connect: reader.seconds("proxy-connect-timeout"),
        cors: reader.cors(),
        session: reader.affinity(),
        upstream_host: reader.plain("upstream-vhost"),
        forwarded_prefix: reader.plain("x-forwarded-prefix"),
        sources,
        closed: reader.checks().or(unreadable),
        ..reader.backend()
    };
    reader.what_is_as_wanted_anyway();
    (wishes, reader.finish())
}

impl Reader<'_> {
    fn get(&self, name: &'static str) -> Option<&str> {
        self.asked.borrow_mut().insert(name);
        self.annotations.get(&format!("{PREFIX}{name}")).map(|value| value.trim())
    }

    fn complain(&self, reason: &'static str, message: String) {
        self.complaints.borrow_mut().push(Complaint { reason, message });
    }

    fn invalid(&self, name: &str, value: &str, wanted: &str) {
        let message = format!("annotation `{PREFIX}{name}` has no effect: `{value}` is not {wanted}");
        self.complain(reason::ANNOTATION_INVALID, message);
    }

    /// The value, unless `read` cannot make anything of it.
    fn checked<T>(&self, name: &'static str, wanted: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = self.get(name)?;
        let found = read(value);
        if found.is_none() {
            self.invalid(name, value, wanted);
        }
        found
    }

    fn flag(&self, name: &'static str) -> Option<bool> {
        self.checked(name, "`true` or `false`", |text| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
    }

    fn text(&self, name: &'static str) -> Option<String> {
        self.get(name).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// A text without variables of nginx.
    fn plain(&self, name: &'static str) -> Option<String> {
        self.checked(name, "a text without variables", |text| (!text.contains('$')).then(|| text.to_owned()))
    }

    fn parsed<T: FromStr>(&self, name: &'static str, wanted: &str) -> Option<T> {
        self.checked(name, wanted, |text| text.parse().ok())
    }

    fn seconds(&self, name: &'static str) -> Option<Duration> {
        let seconds = |text: &str| text.strip_suffix('s').unwrap_or(text).parse().ok().filter(|seconds| *seconds > 0);
        self.checked(name, "a number of seconds", seconds).map(Duration::from_secs)
    }

    fn list(&self, name: &'static str) -> Vec<String> {
        let items = self.get(name).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    fn canary(&self) -> Canary {
        let value = self.text("canary-by-header-value").map(HeaderValue::Exact);
        let pattern = self.checked("canary-by-header-pattern", "an expression that this gateway takes", |text| {
            ValueTest::containing(text).ok().map(|_| HeaderValue::Pattern(text.to_owned()))
        });
        // A pattern that cannot be read matches nothing, which is not the same as `always`.
        let unreadable = self.get("canary-by-header-pattern").is_some() && pattern.is_none() && value.is_none();
        let value = value.or(pattern).unwrap_or(HeaderValue::AlwaysOrNever);
        let header = self.text("canary-by-header").filter(|_| !unreadable).map(|name| ByHeader { name, value });
        let total = self.parsed("canary-weight-total", "a number").filter(|total| *total > WHOLE).unwrap_or(WHOLE);
        let within = |weight: &u32| *weight <= total;
        let weight = self
            .checked("canary-weight", &format!("a number from 0 to {total}"), |text| text.parse().ok().filter(within));
        Canary { header, cookie: self.text("canary-by-cookie"), weight: weight.unwrap_or(0), total }
    }

    fn redirect(&self) -> Option<(UrlTemplate, u16)> {
        let url = |name| {
            let wanted = "a URL with no other variables than $scheme, $host, $uri and $request_uri";
            self.checked(name, wanted, |text| UrlTemplate::parse(text).ok().filter(|_| !text.is_empty()))
        };
        let code = |name, otherwise| {
            let code = self.checked(name, "a code from 300 to 308", |text| {
                text.parse().ok().filter(|code| (300..=308).contains(code))
            });
            code.unwrap_or(otherwise)
        };
        let temporal = url("temporal-redirect").map(|url| (url, code("temporal-redirect-code", FOUND)));
        let permanent = url("permanent-redirect").map(|url| (url, code("permanent-redirect-code", MOVED_PERMANENTLY)));
        temporal.or(permanent)
    }

    fn to_tls(&self) -> ToTls {
        match (self.flag("force-ssl-redirect"), self.flag("ssl-redirect")) {
            (Some(true), _) => ToTls::Always,
            (_, Some(false)) => ToTls::Never,
            _ => ToTls::WhereServed,
        }
    }

    /// A request must be sent and its answer begin: what nginx counts one after the other is one time here.
    fn timeouts(&self) -> Timeouts {
        let (send, read) = (self.seconds("proxy-send-timeout"), self.seconds("proxy-read-timeout"));
        if send.is_none() && read.is_none() {
            return Timeouts::Unset;
        }
        let backend = send.unwrap_or(STALL) + read.unwrap_or(STALL);
        Timeouts::Set { request: None, backend: Some(backend) }
    }

    fn cors(&self) -> Option<Cors> {
        if !self.flag("enable-cors")? {
            return None;
        }
        let or = |list: Vec<String>, otherwise: &str| match list.is_empty() {
            true => otherwise.split(", ").map(str::to_owned).collect(),
            false => list,
        };
        let origins = or(self.list("cors-allow-origin"), "*");
        // Together they would show every page what is meant for one user.
        let of_all = origins.iter().any(|origin| origin == "*");
        Some(Cors {
            allow_credentials: Some(self.flag("cors-allow-credentials").unwrap_or(!of_all)),
            allow_methods: or(self.list("cors-allow-methods"), CORS_METHODS),
            allow_headers: or(self.list("cors-allow-headers"), CORS_HEADERS),
            expose_headers: self.list("cors-expose-headers"),
            max_age: Some(self.parsed("cors-max-age", "a number of seconds").unwrap_or(CORS_MAX_AGE)),
            allow_origins: origins,
        })
    }

    fn affinity(&self) -> Option<Affinity> {
        self.checked("affinity", "`cookie`", |text| (text == "cookie").then_some(()))?;
        self.checked("affinity-mode", "`persistent`: a session is never moved to another pod", |text| {
            (text == "persistent").then_some(())
        });
        self.checked("affinity-canary-behavior", "`sticky`", |text| (text == "sticky").then_some(()));
        let same_site = self.checked("session-cookie-samesite", "`None`, `Lax` or `Strict`", |text| {
            ["None", "Lax", "Strict"].into_iter().find(|known| *known == text)
        });
        let expires = self.seconds("session-cookie-expires");
        Some(Affinity {
            name: self.text("session-cookie-name").unwrap_or_else(|| SESSION_COOKIE.to_owned()),
            max_age: self.seconds("session-cookie-max-age").or(expires),
            path: self.plain("session-cookie-path"),
            terms: CookieTerms {
                same_site: same_site.unwrap_or("Lax"),
                secure: self.flag("session-cookie-secure"),
                domain: self.plain("session-cookie-domain"),
            },
        })
    }

    fn backend(&self) -> Wishes {
        let known = self.checked("backend-protocol", "`HTTP`, `HTTPS`, `GRPC` or `GRPCS`", |text| {
            Some(match text.to_ascii_uppercase().as_str() {
                "HTTP" => (Protocol::Http1, false),
                "HTTPS" => (Protocol::Http1, true),
                "GRPC" => (Protocol::Http2, false),
                "GRPCS" => (Protocol::Http2, true),
                _ => return None,
            })
        });
        let (protocol, backend_tls) = known.unzip();
        Wishes { protocol, backend_tls: backend_tls.unwrap_or(false), ..Wishes::default() }
    }

    /// With why nobody is let in, where a list cannot be read.
    fn sources(&self) -> (Sources, Option<String>) {
        let mut unreadable = None;
        let mut networks = |name: &'static str| {
            self.get(name)?;
            let mut found = Vec::new();
            for item in self.list(name) {
                match item.parse::<Network>() {
                    Ok(network) => found.push(network),
                    Err(error) => unreadable = Some(format!("annotation `{PREFIX}{name}`: {error}")),
                }
            }
            Some(found)
        };
        let allowed = networks("whitelist-source-range").into_iter().chain(networks("allowlist-source-range"));
        let allowed = allowed.reduce(|one, other| [one, other].concat()).filter(|allowed| !allowed.is_empty());
        let denied = networks("denylist-source-range").unwrap_or_default();
        (Sources { allowed, denied }, unreadable)
    }

    fn checks(&self) -> Option<String> {
        let is_off = self.get("auth-tls-verify-client") == Some("off");
        let asked = |name: &'static str| self.text(name).is_some() && !(is_off && name == "auth-tls-secret");
        let check = CHECKS.into_iter().find(|name| asked(name))?;
        Some(format!("annotation `{PREFIX}{check}` asks for a check that this gateway cannot make"))
    }

    /// Nothing is to be done for these values.
    fn what_is_as_wanted_anyway(&self) {
        for (name, value) in [
            ("proxy-buffering", "off"),
            ("proxy-request-buffering", "off"),
            ("proxy-http-version", "1.1"),
            ("preserve-trailing-slash", "true"),
            ("service-upstream", "false"),
            ("ssl-passthrough", "false"),
            ("enable-access-log", "true"),
            ("enable-modsecurity", "false"),
        ] {
            let key = format!("{PREFIX}{name}");
            if self.annotations.get(&key).is_some_and(|found| found == value) {
                self.asked.borrow_mut().insert(name);
            }
        }
    }

    fn finish(self) -> Vec<Complaint> {
        let Self { annotations, asked, complaints } = self;
        let (asked, mut complaints) = (asked.into_inner(), complaints.into_inner());
        let names = annotations.keys().filter_map(|key| key.strip_prefix(PREFIX));
        complaints.extend(names.filter(|name| !asked.contains(name)).map(|name| Complaint {
            reason: reason::ANNOTATION_IGNORED,
            message: format!("annotation `{PREFIX}{name}` has no effect with this gateway"),
        }));
        complaints
    }
}

#[cfg(test)]
mod tests;
