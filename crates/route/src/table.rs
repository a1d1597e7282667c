//! The routing table: immutable, shared between generations host by host and backend by backend.
//!
//! Of the rules that hold for a request the Gateway API lets the narrowest win: host (exact, then the longest wildcard, then
//! any), path (exact, then regular expression, then the longest prefix), method, most headers, most query parameters; then
//! the oldest route, then the first by namespace and name, then the first rule of a route. Rules of Ingresses stand among them
//! in the same order, but for their regular expressions, which are as strong as prefixes of their length; where all is equal,
//! an HTTPRoute goes before an Ingress.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::backend::{Audience, Backend, Choice, Endpoint};
use crate::cors::Cors;
use crate::facts::Entrance;
use crate::filters::{Filters, Redirect};
use crate::guard::Objection;
use crate::head::RequestHead;
use crate::host::{ByHost, Host};
use crate::matching::{Match, PathTest, Strength};
use crate::mirror::{self, Comparison, Mirror};
use crate::pods::Pods;
use crate::rule::{CompiledRoute, RouteId, RouteKind, Rule, Target};
use crate::slots::Slots;
use crate::split::Draws;
use crate::sticky::NewCookie;
use crate::tls::{CertificateId, ListenerTls, TlsListeners, Transport};

#[derive(Debug, Clone, Default)]
pub struct Table {
    pub generation: u64,
    pub(crate) entrances: Arc<BTreeMap<Entrance, Hosts>>,
    pub(crate) tls: Arc<BTreeMap<Entrance, TlsListeners>>,
    pub(crate) backends: Slots,
    pub(crate) pods: Pods,
}

/// What is to become of a request.
#[derive(Debug)]
pub enum Decision<'t> {
    Forward(Forward<'t>),
    Redirect {
        redirect: &'t Redirect,
        prefix: &'t str,
    },
    /// A question about sharing, which this filter answers.
    Preflight(&'t Cors),
    Refuse(Refusal),
}

#[derive(Debug)]
pub struct Forward<'t> {
    pub route: &'t RouteId,
    pub rule: &'t Arc<Rule>,
    /// Filters of the chosen backendRef, applied after the rule's.
    pub filters: &'t Filters,
    pub backend: &'t Arc<Backend>,
    /// Never empty; any of them will do.
    pub endpoints: &'t Arc<[Endpoint]>,
    /// Endpoints of the stable version, which may take the request where these should not: they are the candidate's, chosen by its
    /// share. Never empty.
    pub instead: Option<&'t Arc<[Endpoint]>>,
    /// The one that the client's session is with.
    pub held: Option<&'t Endpoint>,
    /// The path prefix that matched, for rewrites.
    pub prefix: &'t str,
    /// What the answer is to set.
    pub cookie: Option<NewCookie<'t>>,
    /// What the Gateway shows to backends that ask for it.
    pub shown: Option<CertificateId>,
    /// Of the rule and of the chosen backendRef.
    pub(crate) mirrors: [&'t [Mirror]; 2],
    pub(crate) audience: Option<Audience<'t>>,
}

/// Who gets a copy.
#[derive(Debug, Clone, Copy)]
pub struct Copied<'t> {
    /// Never empty; any of them will do.
    pub endpoints: &'t Arc<[Endpoint]>,
    pub of: CopyOf<'t>,
}

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub enum CopyOf<'t> {
    /// What the rule makes of the request, for a mirror that is no backend of it.
    Rule,
    /// What the backend gets, for the other version of it; with what its answer is compared by, if it is.
    Request(Option<Trial<'t>>),
}

/// A request whose answers are compared.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'t> {
    pub comparison: &'t Arc<Comparison>,
    /// Whether the stable version is to answer it twice.
    pub asks_twice: bool,
    /// Endpoints of the stable version; never empty.
    pub stable: &'t Arc<[Endpoint]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NoRoute,
    /// The request came in by a connection of another listener.
    Misdirected,
    /// The rule names no backend, or only ones of weight 0.
    NoBackend,
    /// The chosen backendRef cannot be resolved.
    InvalidBackend,
    /// The rule has a filter or match that is not supported.
    UnusableRule,
    /// The backend's certificate is to be verified, and its policy does not say how.
    UntrustedBackend,
    /// Nobody is ready behind the chosen backend.
    NoEndpoints,
    /// The rule is not for clients of this address.
    Forbidden,
}

impl Refusal {
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::NoRoute => 404,
            Self::Misdirected => 421,
            Self::NoBackend | Self::InvalidBackend | Self::UnusableRule | Self::UntrustedBackend => 500,
            Self::NoEndpoints => 503,
        }
    }

    /// A short word for operators.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::Misdirected => "misdirected",
            Self::NoBackend => "no-backend",
            Self::InvalidBackend => "invalid-backend",
            Self::UnusableRule => "unusable-rule",
            Self::UntrustedBackend => "untrusted-backend",
            Self::NoEndpoints => "no-endpoints",
            Self::Forbidden => "source-not-allowed",
        }
    }
}

impl Table {
    /// Decides about one request. `draws` is the caller's place in the weight sequences and moves on.
    pub fn find<'t>(&'t self, entrance: Entrance, head: &RequestHead<'_>, draws: &mut Draws) -> Decision<'t> {
        let Some(entry) = self
            .entrances
            .get(&entrance)
            .and_then(|hosts| hosts.matching(head.host).find_map(|routes| routes.find(head)))
        else {
            return Decision::Refuse(Refusal::NoRoute);
        };
        let prefix = match &entry.test.path {
            PathTest::Prefix(prefix) => prefix.as_str(),
            PathTest::Exact(_) | PathTest::Regex(_) | PathTest::Pattern { .. } => "",
        };
        let rule = &entry.rule;
        if rule.unusable.is_some() {
            return Decision::Refuse(Refusal::UnusableRule);
        }
        match rule.guard.objection(head) {
            None => {}
            Some(Objection::Plain(redirect)) => return Decision::Redirect { redirect, prefix },
            Some(Objection::Source) => return Decision::Refuse(Refusal::Forbidden),
        }
        // Before a redirect, which would be no answer to a preflight.
        let preflight = |filters: &'t Filters| filters.cors.as_ref().filter(|_| Cors::is_preflight(head));
        if let Some(cors) = preflight(&rule.filters) {
            return Decision::Preflight(cors);
        }
        if let Some(redirect) = &rule.filters.redirect {
            return Decision::Redirect { redirect, prefix };
        }
        let held = self.held(rule, head);
        let drawn = held.as_ref().map(|held| held.target).or_else(|| self.drawn(rule, head, draws));
        let Some(target) = drawn.map(|drawn| &rule.targets[drawn]) else {
            return Decision::Refuse(Refusal::NoBackend);
        };
        if let Some(cors) = preflight(&target.filters) {
            return Decision::Preflight(cors);
        }
        let Some(backend) = target.slot.and_then(|slot| self.backends.get(slot)) else {
            return Decision::Refuse(Refusal::InvalidBackend);
        };
        if backend.is_untrusted {
            return Decision::Refuse(Refusal::UntrustedBackend);
        }
        let (held, choice) = match held {
            Some(Held { choice, endpoint, .. }) => (Some(endpoint), Some(choice)),
            None => (None, backend.choose(head, draws)),
        };
        match choice {
            None => Decision::Refuse(Refusal::NoEndpoints),
            Some(Choice { endpoints, cookie, audience, instead }) => {
                let (route, filters) = (&entry.route.id, &target.filters);
                let mirrors = [&rule.mirrors[..], &target.mirrors];
                Decision::Forward(Forward {
                    route,
                    rule,
                    filters,
                    backend,
                    endpoints,
                    held,
                    prefix,
                    cookie,
                    mirrors,
                    audience,
                    instead,
                    shown: entry.shown,
                })
            }
        }
    }

    /// The target of a request that has no session.
    fn drawn(&self, rule: &Rule, head: &RequestHead<'_>, draws: &mut Draws) -> Option<usize> {
        let pinned = rule.pins.iter().find(|pin| pin.holds(head)).map(|pin| pin.target);
        let target = pinned.or_else(|| draws.draw(&rule.split))?;
        let stands_in = rule.targets[target].otherwise.filter(|_| !self.is_ready(&rule.targets[target]));
        Some(stands_in.unwrap_or(target))
    }

    fn is_ready(&self, target: &Target) -> bool {
        let backend = target.slot.and_then(|slot| self.backends.get(slot));
        backend.is_some_and(|backend| backend.endpoints().next().is_some())
    }

    /// Where the client's session is, if it has one that is not over and its pod may still be asked.
    fn held<'t>(&'t self, rule: &'t Rule, head: &RequestHead<'_>) -> Option<Held<'t>> {
        let session = rule.session.as_ref()?;
        let token = session.token(head).filter(|token| !session.is_over(*token, head.received))?;
        let targets = rule.targets.iter().enumerate().filter(|(at, _)| rule.split.has_share(*at));
        let mut backends = targets.filter_map(|(at, target)| Some((at, self.backends.get(target.slot?)?)));
        backends.find_map(|(target, backend)| {
            let (choice, endpoint) = backend.held(token)?;
            Some(Held { target, choice, endpoint })
        })
    }

    /// Who gets a copy of this request. To be asked once for each request.
    pub fn mirrored<'t>(&'t self, forward: &Forward<'t>, head: &RequestHead<'_>, draws: &mut Draws) -> Vec<Copied<'t>> {
        let drawn = forward.mirrors.into_iter().flatten().filter_map(|mirror| {
            let backend = self.backends.get(mirror.slot?)?;
            (draws.draw(&mirror.split)? == mirror::COPY).then(|| backend.choose(head, draws)).flatten()
        });
        let drawn: Vec<_> = drawn.map(|choice| Copied { endpoints: choice.endpoints, of: CopyOf::Rule }).collect();
        // Without an own statement: each draws from the same places.
        let audience = forward.audience.filter(|audience| audience.copying.takes(head.method, draws));
        let copied = audience.map(|Audience { copying, endpoints }| {
            let trial = copying.comparison.as_ref().map(|(comparison, twice)| Trial {
                comparison,
                asks_twice: draws.draw(twice) == Some(mirror::COPY),
                stable: forward.endpoints,
            });
            Copied { endpoints, of: CopyOf::Request(trial) }
        });
        drawn.into_iter().chain(copied).collect()
    }

    pub fn speaks_tls(&self, entrance: Entrance) -> bool {
        self.tls.contains_key(&entrance)
    }

    /// The listener that a TLS client gets who asks for this name, if any.
    pub fn listener(&self, entrance: Entrance, server_name: Option<&str>) -> Option<&Arc<ListenerTls>> {
        self.tls.get(&entrance)?.matching(server_name.unwrap_or_default()).next()
    }

    /// Whether a request for this host belongs to another listener than the connection that it came in by.
    pub fn misdirected(&self, entrance: Entrance, transport: &Transport, host: &str) -> bool {
        match (self.tls.get(&entrance), transport) {
            (None, Transport::Plain) => false,
            // The listener was replaced by one of the other kind after the connection was made.
            (Some(_), Transport::Plain) => true,
            (None, Transport::Tls { .. }) => self.entrances.contains_key(&entrance),
            (Some(listeners), Transport::Tls { server_name, is_verified }) => {
                let listener_of = |name| listeners.matching(name).next();
                let (connection, request) =
                    (listener_of(server_name.as_deref().unwrap_or_default()), listener_of(host));
                request.is_some_and(|request| {
                    // It began to ask for certificates after this client came in.
                    let wants_more =
                        request.clients.as_ref().is_some_and(|clients| !clients.is_optional && !is_verified);
                    wants_more || connection.is_none_or(|connection| !Arc::ptr_eq(connection, request))
                })
            }
        }
    }

    /// Every pod that some request may be sent to.
    pub fn pods(&self) -> &Pods {
        &self.pods
    }
}

/// A session that goes on.
struct Held<'t> {
    target: usize,
    choice: Choice<'t>,
    endpoint: &'t Endpoint,
}

/// The hosts of one entrance.
pub(crate) type Hosts = ByHost<Arc<HostRoutes>>;

/// Every rule of one host, by path.
#[derive(Debug)]
pub(crate) struct HostRoutes {
    /// What this was built from: equal sources mean that it can be shared with the next generation.
    pub(crate) sources: Vec<Source>,
    exact: HashMap<String, Vec<Entry>>,
    prefix: HashMap<String, Vec<Entry>>,
    longest_prefix: usize,
    regex: Vec<Entry>,
    /// Of Ingresses, longest first.
    patterns: Vec<Entry>,
}

/// A route under one host, and the narrower hosts that its listener leaves to siblings.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) route: Arc<CompiledRoute>,
    pub(crate) isolated: Arc<[Host]>,
    /// Of an Ingress for `*.suffix`, the suffix with its dot: there the star stands for a single label.
    pub(crate) one_label: Option<Arc<str>>,
    /// What its Gateway shows to backends.
    pub(crate) shown: Option<CertificateId>,
}

impl Source {
    pub(crate) fn same(&self, other: &Self) -> bool {
        let Self { route, isolated, one_label, shown } = self;
        Arc::ptr_eq(route, &other.route)
            && (isolated, one_label, shown) == (&other.isolated, &other.one_label, &other.shown)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    test: Arc<Match>,
    route: Arc<CompiledRoute>,
    rule: Arc<Rule>,
    isolated: Arc<[Host]>,
    one_label: Option<Arc<str>>,
    shown: Option<CertificateId>,
    position: usize,
}

impl HostRoutes {
    pub(crate) fn new(sources: Vec<Source>) -> Self {
        let mut out = Self {
            exact: HashMap::new(),
            prefix: HashMap::new(),
            longest_prefix: 0,
            regex: Vec::new(),
            patterns: Vec::new(),
            sources: Vec::new(),
        };
        for Source { route, isolated, one_label, shown } in &sources {
            let rules = route.rules.iter().enumerate();
            let tests = rules.flat_map(|(at, rule)| rule.matches.iter().map(move |test| (at, rule, test)));
            for (position, rule, test) in tests {
                let (route, rule, isolated) = (route.clone(), rule.rule.clone(), isolated.clone());
                let (one_label, shown) = (one_label.clone(), *shown);
                out.insert(Entry { test: test.clone(), route, rule, isolated, one_label, shown, position });
            }
        }
        out.exact.values_mut().chain(out.prefix.values_mut()).for_each(|entries| entries.sort_by(Entry::compare));
        let by_length =
            |a: &Entry, b: &Entry| b.test.path.length().cmp(&a.test.path.length()).then_with(|| a.compare(b));
        out.regex.sort_by(by_length);
        out.patterns.sort_by(by_length);
        Self { sources, ..out }
    }

    fn insert(&mut self, entry: Entry) {
        match &entry.test.path {
            PathTest::Exact(path) => self.exact.entry(path.clone()).or_default().push(entry),
            PathTest::Prefix(prefix) => {
                self.longest_prefix = self.longest_prefix.max(prefix.len());
                self.prefix.entry(prefix.clone()).or_default().push(entry);
            }
            PathTest::Regex(_) => self.regex.push(entry),
            PathTest::Pattern { .. } => self.patterns.push(entry),
        }
    }

    fn find<'t>(&'t self, head: &RequestHead<'_>) -> Option<&'t Entry> {
        let exact = self.exact.get(head.path).into_iter().flatten();
        if let Some(found) = exact.into_iter().find(|entry| entry.holds_besides_path(head)) {
            return Some(found);
        }
        if let Some(found) = self.regex.iter().find(|entry| entry.holds(head)) {
            return Some(found);
        }
        let prefix = prefixes(head.path, self.longest_prefix)
            .filter_map(|prefix| self.prefix.get(prefix))
            .flatten()
            .find(|entry| entry.holds_besides_path(head));
        let pattern = self.patterns.iter().find(|entry| entry.holds(head));
        let length = |entry: Option<&Entry>| entry.map(|entry| entry.test.path.length());
        if length(pattern) > length(prefix) { pattern } else { prefix }
    }
}

/// The path cut at segment boundaries, longest first, down to the empty prefix; none longer than `longest`.
fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let whole = Some(path).filter(|path| path.len() <= longest);
    // A boundary beyond the longest known prefix cannot match; the byte after it may be the slash that ends it.
    let mut end = path.len().min(longest + 1);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    let cuts = path[..end].rmatch_indices('/').map(|(at, _)| &path[..at]);
    whole.into_iter().chain(cuts)
}

impl Entry {
    fn holds(&self, head: &RequestHead<'_>) -> bool {
        self.test.holds(head) && self.is_mine(head)
    }

    fn holds_besides_path(&self, head: &RequestHead<'_>) -> bool {
        self.test.holds_besides_path(head) && self.is_mine(head)
    }

    fn is_mine(&self, head: &RequestHead<'_>) -> bool {
        let is_label = |suffix: &Arc<str>| head.host.strip_suffix(&**suffix).is_some_and(|label| !label.contains('.'));
        !self.isolated.iter().any(|narrower| narrower.matches(head.host))
            && self.one_label.as_ref().is_none_or(is_label)
    }

    /// Stronger entries first.
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |entry: &Self| -> (std::cmp::Reverse<Strength>, RouteKind, i64) {
            (std::cmp::Reverse(entry.test.strength()), entry.route.id.kind, entry.route.created)
        };
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.route.id.cmp(&other.route.id))
            .then_with(|| self.position.cmp(&other.position))
    }
}

#[cfg(test)]
mod tests;
