//! One port of a Service: who stands behind it now, and which of its versions gets how much.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use sluice_model::rollout::Exposure;

use crate::facts::{EndpointFacts, ObjectKey, PodFacts, World};
use crate::head::RequestHead;
use crate::matching::Match;
use crate::mirror::Copying;
use crate::session::Token;
use crate::split::{Draws, Split};
use crate::sticky::{NewCookie, Sticky, lies_within};
use crate::trust::{self, BackendTls, Terms, Untrusted};

/// Shares of an exposure add up to this.
const FULL_SHARE: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    pub service: ObjectKey,
    pub port: u16,
}

/// One pod, by its uid; never used again for another pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(pub u64);

/// One version, by namespace and hash; never used again for another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub u64);

#[derive(Debug, PartialEq, Eq)]
pub struct Version {
    pub id: VersionId,
    pub namespace: String,
    /// `pod-template-hash`, empty for pods without.
    pub hash: String,
}

/// How a backend is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1, which may change to WebSocket.
    Http1,
    /// HTTP/2 from the first byte on.
    Http2,
}

impl Protocol {
    /// Names of protocols that are spoken over TLS only.
    pub(crate) fn needs_tls(app_protocol: Option<&str>) -> bool {
        let name = app_protocol.map(str::to_ascii_lowercase);
        matches!(name.as_deref(), Some("https" | "kubernetes.io/wss" | "wss"))
    }

    /// By a Service port's `appProtocol`; `None` for what this gateway does not speak. Besides the names that the Gateway API
    /// has agreed on, those that Services have had for long.
    pub(crate) fn named(app_protocol: Option<&str>) -> Option<Self> {
        match app_protocol.map(str::to_ascii_lowercase).as_deref() {
            None | Some("" | "http" | "kubernetes.io/ws" | "ws" | "https" | "kubernetes.io/wss" | "wss") => {
                Some(Self::Http1)
            }
            Some("kubernetes.io/h2c" | "h2c" | "http2" | "grpc") => Some(Self::Http2),
            Some(_) => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub pod: PodId,
    /// Of the pod; an identity of its own for an endpoint without one.
    pub uid: Arc<str>,
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// `None`: in the open.
    pub tls: Option<Arc<BackendTls>>,
    pub version: Arc<Version>,
}

#[derive(Debug)]
pub struct Backend {
    pub key: BackendKey,
    /// Its certificate is to be verified, and nobody can tell how: it gets nothing.
    pub(crate) is_untrusted: bool,
    groups: Vec<Group>,
    /// Among the groups, by how many endpoints each has.
    split: Split,
}

/// Endpoints that share traffic by one rule: those outside every Rollout, or those of one Rollout.
#[derive(Debug)]
struct Group {
    /// Sent to the candidate whatever the weights say.
    pinned: Vec<Match>,
    /// Whose requests stay on one side, while both have a share.
    sticky: Option<Sticky>,
    /// What of the stable side's requests the candidate gets as well.
    copying: Option<Copying>,
    /// The candidate's, of all.
    share: u32,
    /// Stable, then candidate; only the first is used outside a Rollout.
    sides: [Arc<[Endpoint]>; 2],
    split: Split,
}

/// Where a request may go.
#[derive(Debug)]
pub(crate) struct Choice<'t> {
    /// Never empty; any of them will do.
    pub(crate) endpoints: &'t Arc<[Endpoint]>,
    /// What makes the next request of the same client come to the same version.
    pub(crate) cookie: Option<NewCookie<'t>>,
    /// Who may get a copy.
    pub(crate) audience: Option<Audience<'t>>,
    /// The stable version's endpoints, where the candidate was chosen by its share and not by a match.
    pub(crate) instead: Option<&'t Arc<[Endpoint]>>,
}

/// The candidate, where the stable version was chosen and requests are copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audience<'t> {
    pub(crate) copying: &'t Copying,
    /// Never empty; any of them will do.
    pub(crate) endpoints: &'t Arc<[Endpoint]>,
}

/// What the lookups of a backend need beside the world.
pub(crate) trait Names {
    fn pod(&mut self, identity: &str) -> (PodId, Arc<str>);
    fn version(&mut self, namespace: &str, hash: &str) -> Arc<Version>;
    fn split(&mut self) -> u64;
    fn tls(&mut self, terms: Terms) -> Arc<BackendTls>;
}

impl Backend {
    /// The endpoints to choose from for this request: all of one version where a Rollout splits, else all there are.
    pub(crate) fn choose(&self, head: &RequestHead<'_>, draws: &mut Draws) -> Option<Choice<'_>> {
        let group = &self.groups[draws.draw(&self.split)?];
        let Side { at, cookie, is_pinned } = group.side(head, draws)?;
        let endpoints = Some(&group.sides[at]).filter(|endpoints| !endpoints.is_empty())?;
        let instead = group.instead(at).filter(|_| !is_pinned);
        Some(Choice { endpoints, cookie, audience: group.audience(at), instead })
    }

    /// The endpoint of this session, among those that a request may be sent to instead.
    pub(crate) fn held(&self, token: Token) -> Option<(Choice<'_>, &Endpoint)> {
        let mut sides = self.groups.iter().flat_map(|group| {
            let sides = group.sides.iter().enumerate();
            sides
                .filter(|(side, _)| group.split.has_share(*side))
                .map(move |(side, endpoints)| (group, side, endpoints))
        });
        sides.find_map(|(group, side, endpoints)| {
            let endpoint = endpoints.iter().find(|endpoint| token.is_of(endpoint))?;
            let (audience, instead) = (group.audience(side), group.instead(side));
            Some((Choice { endpoints, cookie: None, audience, instead }, endpoint))
        })
    }

    /// Every endpoint that some request may be sent to.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.groups.iter().flat_map(|group| group.sides.iter().flat_map(|side| side.iter()))
    }

    /// From the present world. Splits keep their identity where `previous` had equal weights.
    pub(crate) fn compile(key: BackendKey, world: &World, names: &mut impl Names, previous: Option<&Self>) -> Self {
        let mut groups: BTreeMap<Option<&ObjectKey>, Members<'_>> = BTreeMap::new();
        let members_of = routable(&key, world, names);
        let is_untrusted = members_of.is_err();
        for (endpoint, pod) in members_of.unwrap_or_default() {
            let rollout = pod.and_then(|pod| world.rollout_of(&key.service.namespace, pod));
            let members =
                groups.entry(rollout.map(|(key, _)| key)).or_insert_with(|| Members { rollout, endpoints: Vec::new() });
            members.endpoints.push((endpoint, pod));
        }
        let sizes: Vec<u32> = groups.values().map(|members| members.endpoints.len() as u32).collect();
        let groups = groups.into_values().enumerate();
        let groups = groups
            .map(|(at, members)| members.compile(names, previous.and_then(|previous| previous.groups.get(at))))
            .collect();
        Self { key, is_untrusted, groups, split: renewed(sizes, previous.map(|previous| &previous.split), names) }
    }
}

impl Group {
    fn audience(&self, side: usize) -> Option<Audience<'_>> {
        let copying = self.copying.as_ref().filter(|_| side == 0)?;
        Some(Audience { copying, endpoints: &self.sides[1] }).filter(|audience| !audience.endpoints.is_empty())
    }

    /// Who can stand in for the candidate: the stable version, while it has a share of its own.
    fn instead(&self, side: usize) -> Option<&Arc<[Endpoint]>> {
        Some(&self.sides[0]).filter(|stable| side == 1 && self.split.has_share(0) && !stable.is_empty())
    }

    fn side(&self, head: &RequestHead<'_>, draws: &mut Draws) -> Option<Side<'_>> {
        if self.pinned.iter().any(|test| test.holds(head)) {
            return Some(Side { at: 1, cookie: None, is_pinned: true });
        }
        let (at, cookie) = match self.sticky.as_ref().and_then(|sticky| sticky.place(head, draws)) {
            Some((place, cookie)) => (usize::from(lies_within(place, self.share, FULL_SHARE)), cookie),
            None => (draws.draw(&self.split)?, None),
        };
        Some(Side { at, cookie, is_pinned: false })
    }
}

/// Of a group, as chosen for a request.
struct Side<'t> {
    at: usize,
    cookie: Option<NewCookie<'t>>,
    is_pinned: bool,
}

struct Members<'w> {
    rollout: Option<(&'w ObjectKey, &'w Exposure)>,
    endpoints: Vec<(Endpoint, Option<&'w PodFacts>)>,
}

impl Members<'_> {
    fn compile(self, names: &mut impl Names, previous: Option<&Group>) -> Group {
        let Some((key, exposure)) = self.rollout else {
            let all = self.endpoints.into_iter().map(|(endpoint, _)| endpoint).collect();
            let split = renewed(vec![1, 0], previous.map(|group| &group.split), names);
            let sides = [all, Arc::new([]) as Arc<[_]>];
            return Group { pinned: Vec::new(), sticky: None, copying: None, share: 0, sides, split };
        };
        let of = |hash: &str| -> Arc<[Endpoint]> {
            let mine = self.endpoints.iter().filter(|(_, pod)| pod.is_some_and(|pod| pod.hash == hash));
            mine.map(|(endpoint, _)| endpoint.clone()).collect()
        };
        let candidate = exposure.candidate.as_deref().filter(|candidate| *candidate != exposure.stable);
        let sides = [of(&exposure.stable), candidate.map_or_else(|| Arc::new([]) as Arc<[_]>, of)];
        let share = if candidate.is_some() { exposure.candidate_weight.min(FULL_SHARE) } else { 0 };
        let weights = shares(share, !sides[0].is_empty(), !sides[1].is_empty());
        // An unreadable match pins nobody: the candidate gets less than meant, never more.
        let pinned = if candidate.is_some() { &exposure.matches[..] } else { &[] };
        let pinned = pinned.iter().filter_map(|from| Match::compile(from).ok()).collect();
        let share = if weights[0] == 0 { FULL_SHARE } else { weights[1] };
        // With one side alone there is nothing to stay with.
        let sticky = candidate.zip(exposure.sticky.as_ref()).filter(|_| share > 0 && share < FULL_SHARE);
        let sticky = sticky.and_then(|(candidate, sticky)| Sticky::compile(sticky, key, candidate));
        let split = renewed(weights, previous.map(|group| &group.split), names);
        let copying = candidate.and_then(|_| {
            let previous = previous.and_then(|group| group.copying.as_ref());
            Copying::compile(key, exposure, previous, |weights, previous| renewed(weights, previous, names))
        });
        Group { pinned, sticky, copying, share, sides, split }
    }
}

/// Weights of stable and candidate. A side without ready endpoints yields to the other one, unless that has no share at all.
fn shares(candidate: u32, stable_ready: bool, candidate_ready: bool) -> Vec<u32> {
    match (stable_ready, candidate_ready) {
        (true, false) => vec![1, 0],
        (false, true) if candidate > 0 => vec![0, 1],
        _ => vec![FULL_SHARE - candidate, candidate],
    }
}

fn renewed(weights: Vec<u32>, previous: Option<&Split>, names: &mut impl Names) -> Split {
    let fresh = Split::new(0, weights);
    match previous {
        Some(previous) if previous.same_weights(&fresh) => previous.clone(),
        _ => fresh.renamed(names.split()),
    }
}

/// Ready endpoints whose pod, if they name one, is known and not about to stop.
fn routable<'w>(
    key: &BackendKey,
    world: &'w World,
    names: &mut impl Names,
) -> Result<Vec<(Endpoint, Option<&'w PodFacts>)>, Untrusted> {
    let Some(port) =
        world.services.get(&key.service).and_then(|service| service.ports.iter().find(|p| p.port == key.port))
    else {
        return Ok(Vec::new());
    };
    let tls = trust::terms(world, &key.service, port).transpose()?.map(|terms| names.tls(terms));
    // No reference leads to a port that speaks something else.
    let protocol = Protocol::named(port.app_protocol.as_deref()).unwrap_or(Protocol::Http1);
    let namespace = key.service.namespace.as_str();
    let mut found: BTreeMap<SocketAddr, (Endpoint, Option<&PodFacts>)> = BTreeMap::new();
    for slice in world.slices_in(namespace).filter(|slice| slice.service == key.service.name) {
        let Some(target) = slice.ports.iter().find(|candidate| candidate.name == port.name) else { continue };
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
            let Some(address) = endpoint.addresses.first() else { continue };
            let Ok(pod) = pod_of(world, namespace, endpoint) else { continue };
            let address = SocketAddr::new(*address, target.port);
            let identity = pod.map_or_else(|| format!("{namespace}/{address}"), |pod| pod.uid.clone());
            let (id, uid) = names.pod(&identity);
            let endpoint = Endpoint {
                pod: id,
                uid,
                address,
                protocol,
                tls: tls.clone(),
                version: names.version(namespace, pod.map_or("", |pod| pod.hash.as_str())),
            };
            found.insert(address, (endpoint, pod));
        }
    }
    // A pod with an address of each family is one endpoint; IPv4 comes first in the order of addresses.
    let mut known = BTreeSet::new();
    Ok(found.into_values().filter(|(endpoint, pod)| pod.is_none() || known.insert(endpoint.pod)).collect())
}

/// `Err` when the endpoint names a pod that must not get requests: unknown yet, another one by now, or terminating.
fn pod_of<'w>(world: &'w World, namespace: &str, endpoint: &EndpointFacts) -> Result<Option<&'w PodFacts>, ()> {
    let Some(reference) = &endpoint.pod else { return Ok(None) };
    match world.pods.get(&ObjectKey::new(namespace, reference.name.as_str())) {
        Some(pod) if !pod.terminating && (reference.uid.is_empty() || reference.uid == pod.uid) => Ok(Some(pod)),
        _ => Err(()),
    }
}
