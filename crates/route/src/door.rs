//! One listener of a Gateway or ListenerSet: whether it can be served, and what is to be said about it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use sluice_model::gateway::{GROUP, Listener, RouteGroupKind};

use crate::clients::Wanted;
use crate::facts::{Entrance, ObjectKey};
use crate::host::Host;
use crate::report::{Finding, ListenerReport, reason};
use crate::tls::{HTTPS, Usable, unsupported};

/// Protocols of listeners that HTTPRoutes may attach to.
const PROTOCOLS: [&str; 2] = ["HTTP", HTTPS];

/// Whose listener it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner<'w> {
    /// `Gateway` or `ListenerSet`.
    pub(crate) kind: &'static str,
    pub(crate) key: &'w ObjectKey,
}

/// One listener, and whether it can be served.
pub(crate) struct Door<'w> {
    pub(crate) owner: Owner<'w>,
    pub(crate) listener: &'w Listener,
    pub(crate) host: Host,
    pub(crate) entrance: Entrance,
    /// Its Gateway has no address.
    is_nowhere: bool,
    pub(crate) problem: Option<Problem>,
    /// Empty without TLS. The `Err` is its `ResolvedRefs`.
    pub(crate) certificates: Result<Vec<Usable>, Finding>,
    /// What clients must show.
    pub(crate) clients: Wanted,
    /// The socket could not be opened.
    closed: Option<&'w String>,
    pub(crate) takes_http_routes: bool,
    bad_kinds: bool,
    pub(crate) attached: BTreeSet<ObjectKey>,
}

pub(crate) struct Problem {
    reason: &'static str,
    message: String,
    conflict: bool,
}

impl<'w> Door<'w> {
    /// Conflicts are for [`settle`] to find.
    pub(crate) fn new(
        owner: Owner<'w>,
        listener: &'w Listener,
        entrance: Option<Entrance>,
        certificates: Result<Vec<Usable>, Finding>,
        clients: Wanted,
        closed: &'w BTreeMap<Entrance, String>,
    ) -> Self {
        let (takes_http_routes, bad_kinds) = kinds_of(listener);
        Self {
            owner,
            listener,
            host: Host::parse(listener.hostname.as_deref()),
            entrance: entrance.unwrap_or(Entrance::Default),
            is_nowhere: entrance.is_none(),
            problem: problem_of(listener, &clients),
            certificates,
            clients,
            closed: entrance.and_then(|entrance| closed.get(&entrance)),
            takes_http_routes,
            bad_kinds,
            attached: BTreeSet::new(),
        }
    }

    pub(crate) fn is_served(&self) -> bool {
        self.problem.is_none() && self.certificates.is_ok() && !self.is_nowhere
    }

    /// One entrance speaks one protocol: that of the first to want it.
    pub(crate) fn agree(&mut self, gateway: &'w ObjectKey, spoken: &mut BTreeMap<Entrance, (&'w str, &'w ObjectKey)>) {
        if self.problem.is_some() || self.is_nowhere {
            return;
        }
        let listener = self.listener;
        let (protocol, owner) = spoken.entry(self.entrance).or_insert((&listener.protocol, gateway));
        if *protocol != listener.protocol {
            let message = format!("port {} is used with protocol {protocol} by Gateway `{owner}`", listener.port);
            self.problem = Some(Problem { reason: reason::PORT_UNAVAILABLE, message, conflict: false });
        }
    }

    fn conflict(&mut self, (reason, message): (&'static str, String)) {
        self.problem = Some(Problem { reason, message, conflict: true });
    }

    fn is_conflicted(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.conflict)
    }

    pub(crate) fn report(&self, overlapping: Option<&Listener>) -> ListenerReport {
        let mut findings = vec![match &self.problem {
            None => Finding::yes(reason::ACCEPTED, reason::ACCEPTED, "the listener is valid"),
            Some(Problem { reason, message, .. }) => Finding::no(reason::ACCEPTED, reason, message.clone()),
        }];
        findings.push(match (&self.problem, self.closed) {
            (Some(Problem { reason, message, conflict: true }), _) => {
                Finding::no(reason::PROGRAMMED, reason, message.clone())
            }
            (Some(_), _) => Finding::no(reason::PROGRAMMED, reason::INVALID, "the listener is not valid"),
            (None, _) if self.certificates.is_err() => {
                Finding::no(reason::PROGRAMMED, reason::INVALID, "the listener has no usable certificate")
            }
            (None, _) if self.is_nowhere => {
                Finding::no(reason::PROGRAMMED, reason::INVALID, "the Gateway is not served")
            }
            (None, Some(why)) => Finding::no(reason::PROGRAMMED, reason::PORT_UNAVAILABLE, why.clone()),
            (None, None) => Finding::yes(reason::PROGRAMMED, reason::PROGRAMMED, "the listener is served"),
        });
        let spoilt = self.certificates.iter().flatten().find_map(|usable| usable.complaint.as_ref());
        findings.push(match (&self.certificates, spoilt.or(self.clients.unresolved.as_ref())) {
            (Err(unresolved), _) | (Ok(_), Some(unresolved)) => unresolved.clone(),
            (Ok(_), None) if self.bad_kinds => {
                Finding::no(reason::RESOLVED_REFS, reason::INVALID_ROUTE_KINDS, "only kind HTTPRoute is supported")
            }
            (Ok(_), None) => Finding::yes(reason::RESOLVED_REFS, reason::RESOLVED_REFS, "all references are resolved"),
        });
        findings.push(match self.problem.as_ref().filter(|problem| problem.conflict) {
            Some(problem) => Finding::yes(reason::CONFLICTED, problem.reason, problem.message.clone()),
            None => Finding::no(reason::CONFLICTED, reason::NO_CONFLICTS, "no other listener is in its way"),
        });
        // Never said to be false: the Gateway API wants it so.
        findings.extend(overlapping.map(|other| {
            let message = format!("listener `{}` has hosts in common with it", other.name);
            Finding::yes(reason::OVERLAPPING_TLS, reason::OVERLAPPING_HOSTNAMES, message)
        }));
        ListenerReport {
            name: self.listener.name.clone(),
            attached_routes: i32::try_from(self.attached.len()).unwrap_or(i32::MAX),
            takes_http_routes: self.takes_http_routes,
            findings,
        }
    }
}

/// Another TLS listener on the socket with hosts in common: a client's connection for one may come to carry requests for the other.
pub(crate) fn overlapping<'d>(doors: &'d [Door<'_>], at: usize) -> Option<&'d Listener> {
    let mine = &doors[at];
    let shares = |other: &Door<'_>| {
        other.problem.is_none() && other.entrance == mine.entrance && other.host.intersection(&mine.host).is_some()
    };
    let secure = mine.listener.protocol == HTTPS && mine.problem.is_none();
    let mut others = doors.iter().enumerate().filter(|(other, door)| secure && *other != at && shares(door));
    others.next().map(|(_, door)| door.listener)
}

/// What a listener's own words are wrong about.
fn problem_of(listener: &Listener, clients: &Wanted) -> Option<Problem> {
    let problem = |reason, message| Some(Problem { reason, message, conflict: false });
    if !PROTOCOLS.contains(&listener.protocol.as_str()) {
        let message = format!("protocol `{}` is not served by this gateway, HTTP and HTTPS are", listener.protocol);
        return problem(reason::UNSUPPORTED_PROTOCOL, message);
    }
    if let Some(unresolved) = clients.unresolved.as_ref().filter(|_| clients.is_hopeless()) {
        let message = format!("no client could be let in: {}", unresolved.message);
        return problem(reason::NO_VALID_CA, message);
    }
    unsupported(listener).and_then(|message| problem(reason::UNSUPPORTED_VALUE, message))
}

/// Whether HTTPRoutes may attach, and whether the listener names kinds that nobody serves.
fn kinds_of(listener: &Listener) -> (bool, bool) {
    let is_http = PROTOCOLS.contains(&listener.protocol.as_str());
    let kinds = listener.allowed_routes.as_ref().map_or(&[][..], |allowed| &allowed.kinds);
    let http = |kind: &RouteGroupKind| kind.kind == "HTTPRoute" && kind.group.as_deref().unwrap_or(GROUP) == GROUP;
    if !is_http {
        return (false, false);
    }
    (kinds.is_empty() || kinds.iter().any(http), !kinds.iter().all(http))
}

/// Finds conflicts among the listeners of a Gateway and its ListenerSets, the doors of each owner together, in order of
/// precedence. Of several owners the first has what they want. Within one nobody wins: the Gateway API forbids to pick.
pub(crate) fn settle(doors: &mut [Door<'_>]) {
    let mut ports: HashMap<u16, Used> = HashMap::new();
    for range in owners(doors) {
        for door in &mut doors[range.clone()] {
            if let Some(found) = ports.get(&door.listener.port).and_then(|used| used.conflict(door)) {
                door.conflict(found);
            }
        }
        settle_siblings(&mut doors[range.clone()]);
        for door in doors[range].iter().filter(|door| !door.is_conflicted()) {
            ports.entry(door.listener.port).or_default().take(door);
        }
    }
}

fn owners(doors: &[Door<'_>]) -> Vec<Range<usize>> {
    let mut start = 0;
    let chunks = doors.chunk_by(|a, b| a.owner == b.owner).map(|chunk| {
        start += chunk.len();
        start - chunk.len()..start
    });
    chunks.collect()
}

fn settle_siblings(doors: &mut [Door<'_>]) {
    let found: Vec<_> = (0..doors.len())
        .map(|at| {
            let others = doors.iter().enumerate().filter(|(other, door)| *other != at && !door.is_conflicted());
            let mut used = Used::default();
            others
                .filter(|(_, door)| door.listener.port == doors[at].listener.port)
                .for_each(|(_, door)| used.take(door));
            used.conflict(&doors[at])
        })
        .collect();
    for (door, found) in doors.iter_mut().zip(found) {
        if let Some(found) = found.filter(|_| !door.is_conflicted()) {
            door.conflict(found);
        }
    }
}

/// What is taken of a port.
#[derive(Default)]
struct Used {
    protocols: BTreeSet<Kind>,
    hosts: HashSet<(Kind, Host)>,
}

/// Protocols that can share a port are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Http,
    Tls,
    /// One listener has the port for itself.
    Stream,
    /// In nobody's way but that of its like.
    Datagram,
}

impl Kind {
    fn of(listener: &Listener) -> Self {
        match listener.protocol.as_str() {
            "HTTP" => Self::Http,
            "HTTPS" | "TLS" => Self::Tls,
            "UDP" => Self::Datagram,
            _ => Self::Stream,
        }
    }
}

impl Used {
    fn take(&mut self, door: &Door<'_>) {
        let kind = Kind::of(door.listener);
        self.protocols.insert(kind);
        self.hosts.insert((kind, door.host.clone()));
    }

    fn conflict(&self, door: &Door<'_>) -> Option<(&'static str, String)> {
        let (kind, port) = (Kind::of(door.listener), door.listener.port);
        let mut others = self.protocols.iter().filter(|other| **other != Kind::Datagram && **other != kind);
        if kind != Kind::Datagram && others.next().is_some() {
            let message = format!("port {port} is wanted with another protocol, too");
            return Some((reason::PROTOCOL_CONFLICT, message));
        }
        let message = || format!("another listener wants port {port} with host `{}`, too", door.host);
        self.hosts.contains(&(kind, door.host.clone())).then(|| (reason::HOSTNAME_CONFLICT, message()))
    }
}
