//! BackendTLSPolicies: which backends are spoken TLS with, whose certificates are believed there, and what is said about each policy.
//!
//! A policy that cannot be met closes its backend: what was to be verified is never sent in the open. Of several policies for one
//! port of a Service, or for the Service as a whole, the oldest counts, then the first by name; one for the port goes before one
//! for the Service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_model::gateway::{BackendTlsPolicySpec, BackendTlsValidation, ObjectRef, PolicyTargetRef};

use crate::facts::{AuthoritiesFacts, ObjectKey, PolicyFacts, ServicePort, World};
use crate::report::{Finding, PolicyReport, reason};

/// Stands for certificates of authorities, which only the data plane has; never used again for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthoritiesId(pub u64);

/// Stands for one set of [`Terms`]; never used again for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TermsId(pub u64);

/// How a backend is spoken TLS with.
#[derive(Debug, PartialEq, Eq)]
pub struct BackendTls {
    pub id: TermsId,
    pub terms: Terms,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terms {
    /// Asked for in the handshake.
    pub server_name: String,
    pub authorities: Authorities,
    /// One of them must be the backend's, as its certificate proves.
    pub names: Vec<PeerName>,
}

/// Whose signature is believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authorities {
    /// Those that the machine trusts.
    System,
    Listed(Vec<AuthoritiesId>),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerName {
    Host(String),
    Uri(String),
}

/// A policy is there and cannot be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Untrusted;

/// What becomes of a policy's references.
struct Verdict {
    /// `None` when no authority is left.
    authorities: Option<Authorities>,
    refs: Finding,
    /// Why the policy cannot be accepted.
    refused: Option<Finding>,
}

/// How this port of the Service is to be spoken TLS with; `None` where no policy says so.
pub(crate) fn terms(world: &World, service: &ObjectKey, port: &ServicePort) -> Option<Result<Terms, Untrusted>> {
    let section = Some(port.name.as_str()).filter(|name| !name.is_empty());
    let own = section.and_then(|section| strongest(world, service, Some(section)));
    let (key, policy) = own.or_else(|| strongest(world, service, None))?;
    Some(terms_of(world, key, policy))
}

fn terms_of(world: &World, key: &ObjectKey, policy: &PolicyFacts) -> Result<Terms, Untrusted> {
    let BackendTlsPolicySpec { target_refs: _, validation, options: _ } = &policy.spec;
    let Verdict { authorities, refs: _, refused } = verdict(world, key, policy);
    let authorities = authorities.filter(|_| refused.is_none()).ok_or(Untrusted)?;
    let server_name = validation.hostname.to_ascii_lowercase();
    let mut names = names(validation)?;
    if names.is_empty() {
        names.push(PeerName::Host(server_name.clone()));
    }
    Ok(Terms { server_name, authorities, names })
}

fn names(validation: &BackendTlsValidation) -> Result<Vec<PeerName>, Untrusted> {
    let name = |name: &sluice_model::gateway::SubjectAltName| match (name.kind.as_str(), &name.hostname, &name.uri) {
        ("Hostname", Some(host), _) => Ok(PeerName::Host(host.to_ascii_lowercase())),
        ("URI", _, Some(uri)) => Ok(PeerName::Uri(uri.clone())),
        _ => Err(Untrusted),
    };
    validation.subject_alt_names.iter().map(name).collect()
}

/// Of the policies for exactly this section of the Service (or for all of it) the one that takes precedence.
fn strongest<'w>(
    world: &'w World,
    service: &ObjectKey,
    section: Option<&str>,
) -> Option<(&'w ObjectKey, &'w PolicyFacts)> {
    let policies = world.policies_for(service);
    let mine = policies.filter(|(_, policy)| {
        targets(&policy.spec).any(|target| target.name == service.name && target.section_name.as_deref() == section)
    });
    mine.min_by_key(|(key, policy)| (policy.created, *key))
}

/// The Services among a policy's targets.
pub(crate) fn targets(spec: &BackendTlsPolicySpec) -> impl Iterator<Item = &PolicyTargetRef> {
    spec.target_refs.iter().filter(|target| target.group.is_empty() && target.kind == "Service")
}

fn verdict(world: &World, key: &ObjectKey, policy: &PolicyFacts) -> Verdict {
    let BackendTlsPolicySpec { target_refs: _, validation, options } = &policy.spec;
    let resolved = || Finding::yes(reason::RESOLVED_REFS, reason::RESOLVED_REFS, "all references are resolved");
    let invalid = |message| Some(Finding::no(reason::ACCEPTED, reason::INVALID, message));
    let mut verdict = match (validation.ca_certificate_refs.as_slice(), &validation.well_known_ca_certificates) {
        ([], Some(known)) if known == "System" => {
            Verdict { authorities: Some(Authorities::System), refs: resolved(), refused: None }
        }
        ([], known) => {
            let known = known.as_deref().unwrap_or_default();
            let message = format!("`wellKnownCACertificates` is `{known}`, but only `System` is known here");
            Verdict { authorities: None, refs: resolved(), refused: invalid(message) }
        }
        (references, _) => listed(world, &key.namespace, references),
    };
    if let Some(option) = options.keys().next() {
        verdict.refused = invalid(format!("`options` names `{option}`, which is not supported"));
    }
    verdict
}

/// Those of the references that can be used; each of the others is complained about by the first of them.
fn listed(world: &World, namespace: &str, references: &[ObjectRef]) -> Verdict {
    let mut ids = Vec::new();
    let mut broken = None;
    for reference in references {
        match resolve(world, namespace, reference) {
            Ok(id) => ids.push(id),
            Err(finding) => broken = broken.or(Some(finding)),
        }
    }
    let refused = ids.is_empty().then(|| {
        let why = broken.as_ref().map_or("there is none", |finding: &Finding| finding.message.as_str());
        Finding::no(reason::ACCEPTED, reason::NO_VALID_CA, format!("no authority is left: {why}"))
    });
    let resolved = || Finding::yes(reason::RESOLVED_REFS, reason::RESOLVED_REFS, "all references are resolved");
    let authorities = Some(ids).filter(|ids| !ids.is_empty()).map(Authorities::Listed);
    Verdict { authorities, refs: broken.unwrap_or_else(resolved), refused }
}

fn resolve(world: &World, namespace: &str, reference: &ObjectRef) -> Result<AuthoritiesId, Finding> {
    let refuse = |reason, message| Err(Finding::no(reason::RESOLVED_REFS, reason, message));
    let Some(key) = config_map(namespace, reference) else {
        let message = format!("authorities of kind `{}/{}` are not in a ConfigMap", reference.group, reference.kind);
        return refuse(reason::INVALID_KIND, message);
    };
    authorities(world, &key)
}

/// Those of this ConfigMap; the `Err` is a `ResolvedRefs`.
pub(crate) fn authorities(world: &World, key: &ObjectKey) -> Result<AuthoritiesId, Finding> {
    let refuse = |reason, message| Err(Finding::no(reason::RESOLVED_REFS, reason, message));
    match world.authorities.get(key) {
        Some(AuthoritiesFacts::Known(id)) => Ok(*id),
        Some(AuthoritiesFacts::Unusable(why)) => {
            refuse(reason::INVALID_CA_REF, format!("ConfigMap `{key}` has no authorities: {why}"))
        }
        None => refuse(reason::INVALID_CA_REF, format!("ConfigMap `{key}` does not exist")),
    }
}

/// Of this namespace, unless the reference names another one.
pub(crate) fn config_map(namespace: &str, reference: &ObjectRef) -> Option<ObjectKey> {
    let namespace = reference.namespace.as_deref().unwrap_or(namespace);
    (reference.group.is_empty() && reference.kind == "ConfigMap")
        .then(|| ObjectKey::new(namespace, reference.name.as_str()))
}

/// The ConfigMaps that a policy refers to.
pub(crate) fn config_maps<'p>(
    key: &'p ObjectKey,
    spec: &'p BackendTlsPolicySpec,
) -> impl Iterator<Item = ObjectKey> + 'p {
    spec.validation.ca_certificate_refs.iter().filter_map(|reference| config_map(&key.namespace, reference))
}

pub(crate) fn all_config_maps(world: &World) -> BTreeSet<ObjectKey> {
    world.policies.iter().flat_map(|(key, policy)| config_maps(key, &policy.spec)).collect()
}

/// Whether some policy believes whom the machine believes.
pub(crate) fn uses_system(world: &World) -> bool {
    let mut policies = world.policies.values();
    policies.any(|policy| policy.spec.validation.well_known_ca_certificates.is_some())
}

/// Gateways by policy: those with a route that sends to one of its Services.
#[derive(Default)]
pub(crate) struct Ancestors {
    gateways: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
}

impl Ancestors {
    /// A route of these Gateways sends to this Service.
    pub(crate) fn note(&mut self, world: &World, service: &ObjectKey, gateways: &[&ObjectKey]) {
        for (policy, _) in world.policies_for(service) {
            self.gateways.entry(policy.clone()).or_default().extend(gateways.iter().copied().cloned());
        }
    }

    pub(crate) fn reports(self, world: &World) -> BTreeMap<ObjectKey, PolicyReport> {
        let reports = self.gateways.into_iter().filter_map(|(key, gateways)| {
            let policy = world.policies.get(&key)?;
            let ancestors = gateways.into_iter().collect();
            let report =
                PolicyReport { generation: policy.generation, ancestors, findings: findings(world, &key, policy) };
            Some((key, report))
        });
        reports.collect()
    }
}

fn findings(world: &World, key: &ObjectKey, policy: &PolicyFacts) -> Vec<Finding> {
    let Verdict { authorities: _, refs, refused } = verdict(world, key, policy);
    let target = targets(&policy.spec).find_map(|target| target_problem(world, key, target));
    let accepted = || Finding::yes(reason::ACCEPTED, reason::ACCEPTED, "the policy is in force");
    vec![target.or(refused).unwrap_or_else(accepted), refs]
}

fn target_problem(world: &World, key: &ObjectKey, target: &PolicyTargetRef) -> Option<Finding> {
    let service = ObjectKey::new(key.namespace.as_str(), target.name.as_str());
    let section = target.section_name.as_deref();
    let refuse = |reason, message| Some(Finding::no(reason::ACCEPTED, reason, message));
    if let Some((winner, _)) = strongest(world, &service, section)
        && winner != key
    {
        return refuse(reason::POLICY_CONFLICTED, format!("policy `{winner}` is older and has the same target"));
    }
    let known = world.services.get(&service);
    let ports = known.map_or(&[][..], |service| &service.ports);
    match section {
        Some(section) if !ports.iter().any(|port| port.name == section) => {
            refuse(reason::TARGET_NOT_FOUND, format!("Service `{service}` has no port named `{section}`"))
        }
        _ if known.is_none() => refuse(reason::TARGET_NOT_FOUND, format!("Service `{service}` does not exist")),
        _ => None,
    }
}

impl BackendTls {
    pub(crate) fn new(id: TermsId, terms: Terms) -> Arc<Self> {
        Arc::new(Self { id, terms })
    }
}
