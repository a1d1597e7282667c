//! Rules, compiled: where their requests go and what is done to them; and those of an HTTPRoute.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sluice_model::gateway::{BackendObject, HttpRouteFilter, HttpRouteRule};

use crate::backend::{BackendKey, Protocol};
use crate::canary::Pin;
use crate::duration;
use crate::facts::{ObjectKey, RouteFacts, ServicePort, World};
use crate::filters::Filters;
use crate::grant::{Referrer, granted};
use crate::guard::Guard;
use crate::matching::Match;
use crate::mirror::{Mirror, mirrors};
use crate::report::{Finding, reason};
use crate::session::Session;
use crate::split::Split;
use crate::trust;

/// The object that a rule comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId {
    pub kind: RouteKind,
    pub key: ObjectKey,
}

/// In order of precedence, where two say something of the same requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    HttpRoute,
    Ingress,
}

impl RouteKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::HttpRoute => "HTTPRoute",
            Self::Ingress => "Ingress",
        }
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

#[derive(Debug, Default)]
pub struct Rule {
    pub filters: Filters,
    pub timeouts: Timeouts,
    pub retry: Option<Retry>,
    pub session: Option<Session>,
    /// What is spoken with backends, whatever their Service says.
    pub protocol: Option<Protocol>,
    /// Making a connection to a backend; `None` leaves it to the gateway.
    pub connect: Option<Duration>,
    pub(crate) guard: Guard,
    /// Requests that the weights are not asked for.
    pub(crate) pins: Vec<Pin>,
    pub(crate) targets: Vec<Target>,
    pub(crate) split: Split,
    pub(crate) mirrors: Vec<Mirror>,
    /// Why no request of this rule can be served.
    pub(crate) unusable: Option<String>,
}

/// How long requests of a rule may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Timeouts {
    /// The gateway's own limits hold.
    #[default]
    Unset,
    /// `None` is for ever.
    Set {
        /// From the request's head to the end of the answer.
        request: Option<Duration>,
        /// One attempt at a backend, to the head of its answer.
        backend: Option<Duration>,
    },
}

/// When a request is sent once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    pub codes: Vec<u16>,
    /// The first attempt not included; `None` leaves it to the gateway.
    pub attempts: Option<u32>,
    /// At least so long between two attempts; `None` leaves it to the gateway.
    pub backoff: Option<Duration>,
}

/// One backendRef: the slot of its backend in the table, or nothing when the reference is invalid.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) slot: Option<usize>,
    /// Who gets its requests while nobody is ready there.
    pub(crate) otherwise: Option<usize>,
    pub(crate) filters: Filters,
    pub(crate) mirrors: Vec<Mirror>,
}

/// Rules of one object, for every host that they hang under.
#[derive(Debug)]
pub(crate) struct CompiledRoute {
    pub(crate) id: RouteId,
    /// Of two equal claims, the older one wins.
    pub(crate) created: i64,
    pub(crate) rules: Vec<CompiledRule>,
}

/// An HTTPRoute with everything about it that does not depend on listeners or on who is ready.
#[derive(Debug)]
pub(crate) struct CompiledHttpRoute {
    pub(crate) facts: Arc<RouteFacts>,
    /// What each backendRef came to, in order: the input, beside the facts, that this was compiled from.
    pub(crate) resolved: Vec<Resolved>,
    pub(crate) route: Arc<CompiledRoute>,
    /// `ResolvedRefs`.
    pub(crate) refs: Finding,
    /// Complaints about rules that cannot be served.
    pub(crate) unusable: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) matches: Vec<Arc<Match>>,
    pub(crate) rule: Arc<Rule>,
}

/// A backendRef looked up in the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolved {
    Backend(BackendKey),
    Invalid { reason: &'static str, message: String },
}

/// Looks up everything that the route's rules refer to, rule by rule.
pub(crate) fn resolve(world: &World, key: &ObjectKey, facts: &RouteFacts) -> Vec<Resolved> {
    let references = facts.spec.rules.iter().flat_map(references);
    references.map(|reference| resolve_one(world, &key.namespace, reference)).collect()
}

/// In the order of compilation: each backendRef and its mirrors, then the mirrors of the whole rule.
fn references(rule: &HttpRouteRule) -> impl Iterator<Item = &BackendObject> {
    let mirrored = |filters| mirrors(filters).map(|mirror| &mirror.backend_ref);
    let backends = rule
        .backend_refs
        .iter()
        .flat_map(move |reference| std::iter::once(&reference.object).chain(mirrored(&reference.filters)));
    backends.chain(mirrors(&rule.filters).map(|mirror| &mirror.backend_ref))
}

fn resolve_one(world: &World, namespace: &str, reference: &BackendObject) -> Resolved {
    let invalid = |reason, message| Resolved::Invalid { reason, message };
    let (group, kind) =
        (reference.group.as_deref().unwrap_or_default(), reference.kind.as_deref().unwrap_or("Service"));
    if !group.is_empty() || kind != "Service" {
        return invalid(reason::INVALID_KIND, format!("backend kind `{group}/{kind}` is not a Service"));
    }
    let target = ObjectKey::new(reference.namespace.as_deref().unwrap_or(namespace), reference.name.as_str());
    if !granted(world, Referrer { kind: "HTTPRoute", namespace }, "Service", &target) {
        let message =
            format!("no ReferenceGrant in `{}` lets HTTPRoutes of `{namespace}` refer to it", target.namespace);
        return invalid(reason::REF_NOT_PERMITTED, message);
    }
    let Some(service) = world.services.get(&target) else {
        return invalid(reason::BACKEND_NOT_FOUND, format!("Service `{target}` does not exist"));
    };
    let Some(port) = reference.port else {
        return invalid(reason::BACKEND_NOT_FOUND, format!("the reference to Service `{target}` names no port"));
    };
    let Some(known) = service.ports.iter().find(|known| known.port == port) else {
        return invalid(reason::BACKEND_NOT_FOUND, format!("Service `{target}` has no port {port}"));
    };
    speakable(world, target, known)
}

/// Whether this gateway speaks what is spoken at this port.
pub(crate) fn speakable(world: &World, target: ObjectKey, known: &ServicePort) -> Resolved {
    let (port, invalid) = (known.port, |reason, message| Resolved::Invalid { reason, message });
    if Protocol::needs_tls(known.app_protocol.as_deref()) && trust::terms(world, &target, known).is_none() {
        let message =
            format!("port {port} of Service `{target}` wants TLS, but no BackendTLSPolicy says whom to believe there");
        return invalid(reason::UNSUPPORTED_PROTOCOL, message);
    }
    match (Protocol::named(known.app_protocol.as_deref()), &known.app_protocol) {
        (None, Some(name)) => invalid(
            reason::UNSUPPORTED_PROTOCOL,
            format!("port {port} of Service `{target}` has the appProtocol `{name}`, which is not supported"),
        ),
        _ => Resolved::Backend(BackendKey { service: target, port }),
    }
}

impl CompiledHttpRoute {
    /// That requests or copies may be sent to.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ObjectKey> {
        self.resolved.iter().filter_map(|resolved| match resolved {
            Resolved::Backend(key) => Some(&key.service),
            Resolved::Invalid { .. } => None,
        })
    }

    /// `slot_of` gives each backend its place in the table, `next_split` names new splits.
    pub(crate) fn compile(
        key: ObjectKey,
        facts: Arc<RouteFacts>,
        resolved: Vec<Resolved>,
        mut slot_of: impl FnMut(&BackendKey) -> usize,
        mut next_split: impl FnMut() -> u64,
    ) -> Self {
        let mut lookups = resolved.iter();
        let mut next_slot = || match lookups.next().expect("every reference was looked up") {
            Resolved::Backend(key) => Some(slot_of(key)),
            Resolved::Invalid { .. } => None,
        };
        let mut unusable = Vec::new();
        let rules = facts.spec.rules.iter().enumerate().map(|(index, rule)| {
            let session = rule.session_persistence.as_ref().map(|from| Session::compile(from, &key, index));
            let compiled = CompiledRule::compile(rule, session, &mut next_slot, &mut next_split);
            unusable.extend(compiled.rule.unusable.iter().map(|why| format!("rule {index}: {why}")));
            compiled
        });
        let rules = rules.collect();
        let refs = refs_finding(&resolved);
        let id = RouteId { kind: RouteKind::HttpRoute, key };
        let route = Arc::new(CompiledRoute { id, created: facts.created, rules });
        Self { facts, resolved, route, refs, unusable }
    }
}

fn refs_finding(resolved: &[Resolved]) -> Finding {
    let first = resolved.iter().find_map(|lookup| match lookup {
        Resolved::Invalid { reason, message } => Some((*reason, message.clone())),
        Resolved::Backend(_) => None,
    });
    match first {
        None => Finding::yes(reason::RESOLVED_REFS, reason::RESOLVED_REFS, "every backend exists"),
        Some((reason, message)) => Finding::no(reason::RESOLVED_REFS, reason, message),
    }
}

impl CompiledRule {
    /// `next_slot` gives the slots of the rule's references in order.
    fn compile(
        from: &HttpRouteRule,
        session: Option<Session>,
        next_slot: &mut impl FnMut() -> Option<usize>,
        next_split: &mut impl FnMut() -> u64,
    ) -> Self {
        let mut unusable = None;
        let mut filters_of = |filters| {
            Filters::compile(filters).unwrap_or_else(|kind| {
                unusable = Some(format!("filter `{kind}` is not supported"));
                Filters::default()
            })
        };
        let filters = filters_of(&from.filters);
        let targets = from.backend_refs.iter().map(|reference| Target {
            slot: next_slot(),
            otherwise: None,
            filters: filters_of(&reference.filters),
            mirrors: compile_mirrors(&reference.filters, next_slot, next_split),
        });
        let targets = targets.collect();
        let mirrors = compile_mirrors(&from.filters, next_slot, next_split);
        let matches = matches_of(from).unwrap_or_else(|why| {
            unusable = Some(why);
            Vec::new()
        });
        let weights: Vec<u32> = from.backend_refs.iter().map(|reference| reference.weight).collect();
        let split = Split::new(next_split(), weights);
        let (timeouts, retry) = (timeouts_of(from), retry_of(from));
        let rule = Rule { filters, timeouts, retry, session, targets, split, mirrors, unusable, ..Rule::default() };
        Self { matches, rule: Arc::new(rule) }
    }
}

fn compile_mirrors(
    filters: &[HttpRouteFilter],
    next_slot: &mut impl FnMut() -> Option<usize>,
    next_split: &mut impl FnMut() -> u64,
) -> Vec<Mirror> {
    mirrors(filters).map(|mirror| Mirror::compile(mirror, next_slot(), next_split())).collect()
}

impl Rule {
    /// The slots of every backend that requests of this rule, or copies of them, may be sent to.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        let targets = self.targets.iter().flat_map(|target| {
            let mirrors = target.mirrors.iter().map(|mirror| mirror.slot);
            std::iter::once(target.slot).chain(mirrors)
        });
        targets.chain(self.mirrors.iter().map(|mirror| mirror.slot)).flatten()
    }
}

fn matches_of(rule: &HttpRouteRule) -> Result<Vec<Arc<Match>>, String> {
    let everything = [Default::default()];
    let matches = if rule.matches.is_empty() { &everything[..] } else { &rule.matches };
    matches.iter().map(|from| Match::compile(from).map(Arc::new).map_err(|error| error.to_string())).collect()
}

fn timeouts_of(rule: &HttpRouteRule) -> Timeouts {
    let parse =
        |text: Option<&String>| text.and_then(|text| duration::parse(text)).filter(|duration| !duration.is_zero());
    match &rule.timeouts {
        Some(timeouts) if timeouts.request.is_some() || timeouts.backend_request.is_some() => Timeouts::Set {
            request: parse(timeouts.request.as_ref()),
            backend: parse(timeouts.backend_request.as_ref()),
        },
        _ => Timeouts::Unset,
    }
}

fn retry_of(rule: &HttpRouteRule) -> Option<Retry> {
    let from = rule.retry.as_ref()?;
    let backoff = from.backoff.as_deref().and_then(duration::parse);
    Some(Retry { codes: from.codes.clone(), attempts: from.attempts, backoff })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_timeout_of_zero_is_none_and_an_absent_one_is_the_gateways() {
        let millis = |millis| Some(Duration::from_millis(millis));
        for (timeouts, expected) in [
            (json!(null), Timeouts::Unset),
            (json!({}), Timeouts::Unset),
            (json!({"request": "0s"}), Timeouts::Set { request: None, backend: None }),
            (json!({"backendRequest": "0s"}), Timeouts::Set { request: None, backend: None }),
            (
                json!({"request": "1s", "backendRequest": "500ms"}),
                Timeouts::Set { request: millis(1000), backend: millis(500) },
            ),
        ] {
            let rule = serde_json::from_value(json!({"timeouts": timeouts})).expect("a rule");
            assert_eq!(timeouts_of(&rule), expected, "{timeouts}");
        }
    }
}
