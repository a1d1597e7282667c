//! Hosts and paths of one Ingress, and the rules that they become.

use std::fmt;
use std::sync::Arc;

use sluice_model::ingress::{IngressBackend, IngressPath};

use super::annotations::{ToTls, Wishes};
use super::canaries::Canaries;
use super::{MadeOf, Read};
use crate::backend::BackendKey;
use crate::canary::MAIN;
use crate::cors::Cors;
use crate::facts::{ObjectKey, World};
use crate::filters::{Filters, Redirect, Rewrite};
use crate::guard::Guard;
use crate::host::Host;
use crate::matching::{Match, PathTest};
use crate::report::{Complaint, reason};
use crate::rule::{CompiledRoute, CompiledRule, Resolved, RouteId, RouteKind, Rule, Target, speakable};
use crate::session::Session;
use crate::split::Split;
use crate::template::PathTemplate;
use crate::trust;

/// Who comes without TLS keeps method and body.
const PERMANENT_REDIRECT: u16 = 308;
const FOUND: u16 = 302;
const HTTPS: u16 = 443;
const FORWARDED_PREFIX: &str = "x-forwarded-prefix";

/// Something that one Ingress can have, and another one cannot have as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Spot {
    pub(super) host: Host,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Exact(String),
    /// Or an expression, where the Ingress has these.
    Prefix(String),
    /// Whatever has no path.
    Rest,
}

impl Spot {
    pub(super) fn is_path(&self) -> bool {
        self.place != Place::Rest
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Exact(path) => write!(f, "path `{path}` (Exact) of host `{}`", self.host),
            Place::Prefix(path) => write!(f, "path `{path}` of host `{}`", self.host),
            Place::Rest => write!(f, "the default backend of host `{}`", self.host),
        }
    }
}

impl Place {
    fn of(path: &IngressPath) -> Self {
        let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        match path.path_type.as_str() {
            "Exact" => Self::Exact(text.to_owned()),
            _ if text.len() > 1 => Self::Prefix(text.trim_end_matches('/').to_owned()),
            _ => Self::Prefix(text.to_owned()),
        }
    }
}

/// Everything that this Ingress wants, with the backend for it. Paths of one host stand in the order of the rules.
pub(super) fn spots(read: &Read) -> impl Iterator<Item = (Spot, &IngressBackend)> {
    let spec = &read.facts.spec;
    let of_host = move |host: Host| {
        let rules = spec.rules.iter().filter({
            let host = host.clone();
            move |rule| names(read, rule.host.as_deref()).any(|name| name == host)
        });
        let paths = rules.flat_map(|rule| rule.http.iter().flat_map(|http| &http.paths));
        let place = |path: &IngressPath| Place::of(path);
        let paths = paths.map(move |path| (place(path), &path.backend));
        let rest = spec.default_backend.iter().map(|backend| (Place::Rest, backend));
        paths.chain(rest).map(move |(place, backend)| (Spot { host: host.clone(), place }, backend))
    };
    hosts(read).flat_map(of_host)
}

/// The hosts that a rule is for: aliases go with every host that is named.
fn names<'r>(read: &'r Read, host: Option<&str>) -> impl Iterator<Item = Host> + 'r {
    let named = Host::parse(host);
    let aliases = if named == Host::Any { &[] } else { &read.wishes.aliases[..] };
    std::iter::once(named).chain(aliases.iter().cloned())
}

/// Every host of this Ingress, once. A default backend is for all others as well.
pub(super) fn hosts(read: &Read) -> impl Iterator<Item = Host> {
    let spec = &read.facts.spec;
    let mut hosts: Vec<Host> = Vec::new();
    let named = spec.rules.iter().flat_map(|rule| names(read, rule.host.as_deref()));
    for host in named.chain(spec.default_backend.iter().map(|_| Host::Any)) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts.into_iter()
}

/// The hosts that are sent to one of this Ingress's, where it asks for that.
pub(super) fn www_hosts(read: &Read) -> impl Iterator<Item = Host> {
    hosts(read).filter(|_| read.wishes.www).filter_map(|host| counterpart(&host))
}

fn counterpart(host: &Host) -> Option<Host> {
    match host {
        Host::Exact(name) => {
            let without = name.strip_prefix("www.").map(str::to_owned);
            Some(Host::Exact(without.unwrap_or_else(|| format!("www.{name}"))))
        }
        Host::Wildcard(_) | Host::Any => None,
    }
}

/// The backends of an Ingress, in the order of its spots: its own, then the canary's.
pub(super) fn backends<'r>(read: &'r Read, canaries: &'r Canaries) -> impl Iterator<Item = &'r IngressBackend> {
    spots(read).flat_map(|(spot, backend)| {
        let canary = canaries.at(&spot).map(|(_, backend)| backend);
        std::iter::once(backend).chain(canary)
    })
}

/// Looks the backend up.
pub(super) fn resolve(world: &World, read: &Read, backend: &IngressBackend) -> Resolved {
    let invalid = |reason, message| Resolved::Invalid { reason, message };
    let Some(service) = &backend.service else {
        let (kind, name) = backend.resource.as_ref().map_or(("", ""), |it| (it.kind.as_str(), it.name.as_str()));
        return invalid(reason::INVALID_KIND, format!("backend {kind} `{name}` is not a Service"));
    };
    let key = ObjectKey::new(read.key.namespace.as_str(), service.name.as_str());
    let Some(facts) = world.services.get(&key) else {
        return invalid(reason::BACKEND_NOT_FOUND, format!("Service `{key}` does not exist"));
    };
    let (name, number) = (service.port.name.as_deref().filter(|name| !name.is_empty()), service.port.number);
    let wanted = |port: &&crate::facts::ServicePort| name.map_or(number == Some(port.port), |name| port.name == name);
    let Some(port) = facts.ports.iter().find(wanted) else {
        let wanted = name.map(str::to_owned).or(number.map(|number| number.to_string())).unwrap_or_default();
        return invalid(reason::BACKEND_NOT_FOUND, format!("Service `{key}` has no port `{wanted}`"));
    };
    if read.wishes.backend_tls && trust::terms(world, &key, port).is_none() {
        let message = format!(
            "port {} of Service `{key}` is to be spoken to by TLS, but no BackendTLSPolicy says whom to believe there",
            port.port
        );
        return invalid(reason::UNSUPPORTED_PROTOCOL, message);
    }
    if read.wishes.protocol.is_some() {
        return Resolved::Backend(BackendKey { service: key, port: port.port });
    }
    speakable(world, key, port)
}

/// What rules are made with.
pub(super) struct Context<'c, S, N> {
    pub(super) made_of: &'c MadeOf,
    pub(super) slot_of: &'c mut S,
    pub(super) next_split: &'c mut N,
}

impl<S: FnMut(&BackendKey) -> usize, N: FnMut() -> u64> Context<'_, S, N> {
    /// The rules of every host, and what is wrong with some of them.
    pub(super) fn compile(mut self) -> (Vec<(Host, Arc<CompiledRoute>)>, Vec<Complaint>) {
        let MadeOf { main, resolved, .. } = self.made_of;
        let mut complaints = Vec::new();
        let mut lookups = resolved.iter();
        let mut rules: Vec<(Host, Vec<CompiledRule>)> =
            hosts(main).map(|host| (host.clone(), self.before_paths(&host))).collect();
        for (spot, _) in spots(main) {
            let rule = self.rule(&spot, &mut lookups, &mut complaints);
            let of_host = rules.iter_mut().find(|(host, _)| *host == spot.host);
            of_host.expect("every spot is one of a host's").1.push(rule);
        }
        if let Some(why) = &main.wishes.closed {
            let message = format!("every request is refused: {why}");
            complaints.push(Complaint { reason: reason::NOT_SERVED, message });
        }
        rules.extend(self.counterparts());
        let id = RouteId { kind: RouteKind::Ingress, key: main.key.clone() };
        let created = main.facts.created;
        let routes = rules.into_iter().filter(|(_, rules)| !rules.is_empty());
        let routes = routes.map(|(host, rules)| (host, Arc::new(CompiledRoute { id: id.clone(), created, rules })));
        (routes.collect(), complaints)
    }

    fn wishes(&self) -> &Wishes {
        &self.made_of.main.wishes
    }

    /// `/` leads to the root of the application.
    fn before_paths(&self, host: &Host) -> Vec<CompiledRule> {
        let root = self.wishes().app_root.iter();
        let rule = root.map(|root| {
            let filters = Filters { redirect: Some(Redirect::to_path(root.clone(), FOUND)), ..Filters::default() };
            let rule = Rule { filters, guard: self.guard(host), ..Rule::default() };
            compiled(Match::of_path(PathTest::Exact("/".to_owned())), rule)
        });
        rule.collect()
    }

    /// Hosts that are there to be redirected.
    fn counterparts(&self) -> Vec<(Host, Vec<CompiledRule>)> {
        let MadeOf { main, known, .. } = self.made_of;
        let hosts = hosts(main).filter(|_| main.wishes.www);
        let pairs = hosts.filter_map(|host| Some((counterpart(&host).filter(|from| !known.contains(from))?, host)));
        let rule = |to: Host| {
            let redirect = Some(Redirect::to_host(to.to_string(), PERMANENT_REDIRECT));
            let rule = Rule { filters: Filters { redirect, ..Filters::default() }, ..Rule::default() };
            vec![compiled(Match::of_path(PathTest::prefix("/")), rule)]
        };
        pairs.map(|(from, to)| (from, rule(to))).collect()
    }

    /// `lookups` has the spot's backends next.
    fn rule<'m>(
        &mut self,
        spot: &Spot,
        lookups: &mut impl Iterator<Item = &'m Resolved>,
        complaints: &mut Vec<Complaint>,
    ) -> CompiledRule {
        let canary = self.made_of.canaries.at(spot);
        let mut slot = || match lookups.next().expect("every backend was looked up") {
            Resolved::Backend(key) => Some((self.slot_of)(key)),
            Resolved::Invalid { reason, message } => {
                let message = format!("{spot}: {message}");
                complaints.push(Complaint { reason, message });
                None
            }
        };
        let mut targets = vec![Target { slot: slot(), ..Target::default() }];
        let (mut weights, mut pins) = (vec![1], Vec::new());
        if let Some(canary) = canary.and_then(|(read, _)| read.wishes.canary.as_ref()) {
            targets.push(Target { slot: slot(), otherwise: Some(MAIN), ..Target::default() });
            weights = canary.weights().to_vec();
            pins = canary.pins();
        }
        let (test, filters) = match self.test(spot) {
            Ok(found) => found,
            Err(why) => {
                complaints.push(Complaint { reason: reason::PATH_INVALID, message: format!("{spot}: {why}") });
                return CompiledRule { matches: Vec::new(), rule: Arc::default() };
            }
        };
        let split = Split::new((self.next_split)(), weights);
        let wishes = self.wishes();
        let rule = Rule {
            filters,
            timeouts: wishes.timeouts,
            session: self.session(spot),
            protocol: wishes.protocol,
            connect: wishes.connect,
            guard: self.guard(&spot.host),
            pins,
            targets,
            split,
            unusable: wishes.closed.clone(),
            ..Rule::default()
        };
        compiled(test, rule)
    }

    /// Which requests these are, and what is done to them; the `Err` says what cannot be read.
    fn test(&self, spot: &Spot) -> Result<(Match, Filters), String> {
        let wishes = self.wishes();
        let are_expressions = wishes.uses_regex || wishes.rewrite.is_some();
        let path = match &spot.place {
            Place::Exact(path) => PathTest::Exact(path.clone()),
            Place::Prefix(path) if are_expressions => PathTest::pattern(path).map_err(|error| error.to_string())?,
            Place::Prefix(path) => PathTest::prefix(path),
            Place::Rest => PathTest::prefix("/"),
        };
        let rewrite = wishes.rewrite.as_ref().filter(|_| spot.is_path()).map(|target| {
            let expression = path.expression().map_err(|error| error.to_string())?;
            PathTemplate::new(expression, target)
                .map_err(|group| format!("`rewrite-target` names ${group}, but the path has no such group"))
        });
        let rewrite = rewrite.transpose()?;
        let mut filters = Filters::default();
        if rewrite.is_some() || wishes.upstream_host.is_some() {
            filters.rewrite = Some(Rewrite::new(wishes.upstream_host.clone(), rewrite));
        }
        filters.redirect = wishes.redirect.as_ref().map(|(url, status)| Redirect::to_url(url.clone(), *status));
        filters.cors = wishes.cors.as_ref().map(Cors::compile);
        let prefix = wishes.forwarded_prefix.iter().map(|prefix| (FORWARDED_PREFIX.to_owned(), prefix.clone()));
        filters.request.set.extend(prefix);
        let test = Match::of_path(path);
        Ok((if spot.is_path() { test } else { test.for_want_of_others() }, filters))
    }

    fn guard(&self, host: &Host) -> Guard {
        let MadeOf { main, secured, tls_port, .. } = self.made_of;
        let port = match (main.wishes.to_tls, secured.contains(host)) {
            (ToTls::Always | ToTls::WhereServed, true) => Some(*tls_port),
            (ToTls::Always, false) => Some(HTTPS),
            (ToTls::Never, _) | (ToTls::WhereServed, false) => None,
        };
        let secure = port.map(|port| Redirect::to_tls(port, PERMANENT_REDIRECT));
        Guard { secure, sources: main.wishes.sources.clone() }
    }

    fn session(&self, spot: &Spot) -> Option<Session> {
        let affinity = self.wishes().session.as_ref()?;
        let path = affinity.path.clone().unwrap_or_else(|| match &spot.place {
            Place::Exact(path) | Place::Prefix(path) if is_plain(path) => path.clone(),
            Place::Exact(_) | Place::Prefix(_) | Place::Rest => "/".to_owned(),
        });
        Some(Session::cookie(affinity.name.clone(), path, affinity.terms.clone(), affinity.max_age))
    }
}

/// Whether a browser can be told to send a cookie there: it knows no expressions.
fn is_plain(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-_.~%".contains(&byte))
}

fn compiled(test: Match, rule: Rule) -> CompiledRule {
    CompiledRule { matches: vec![Arc::new(test)], rule: Arc::new(rule) }
}
