//! Certificates of clients: whom a Gateway's HTTPS listeners let in, and what a Gateway itself shows to backends.

use std::collections::BTreeSet;

use sluice_model::gateway::{FrontendValidation, GatewaySpec, ObjectRef};

use crate::door::Owner;
use crate::facts::{GatewayFacts, ObjectKey, World};
use crate::grant::{Referrer, granted};
use crate::report::{Finding, reason};
use crate::tls::{self, Usable};
use crate::trust::{self, AuthoritiesId};

/// Which client certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientTrust {
    pub authorities: Vec<AuthoritiesId>,
    /// Clients without a certificate, or with another one, are let in all the same.
    pub is_optional: bool,
}

/// What a Gateway wants of clients at one port.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// `None`: nothing, or nothing that can be met.
    pub(crate) trust: Option<ClientTrust>,
    /// `ResolvedRefs`, when something is wrong with a reference.
    pub(crate) unresolved: Option<Finding>,
}

impl Wanted {
    /// There are references, and none can be used: nobody could be let in.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.trust.is_none() && self.unresolved.is_some()
    }
}

/// At an HTTPS listener with this port.
pub(crate) fn wanted(world: &World, gateway: &ObjectKey, facts: &GatewayFacts, port: u16) -> Wanted {
    let Some(validation) = validation(&facts.spec, port) else { return Wanted::default() };
    let mut authorities = Vec::new();
    let mut unresolved = None;
    for reference in &validation.ca_certificate_refs {
        match resolve(world, gateway, reference) {
            Ok(id) => authorities.push(id),
            Err(finding) => unresolved = unresolved.or(Some(finding)),
        }
    }
    let is_optional = validation.is_optional();
    let trust = (!authorities.is_empty()).then_some(ClientTrust { authorities, is_optional });
    Wanted { trust, unresolved }
}

/// What is said for the port goes before what is said for all of them.
fn validation(spec: &GatewaySpec, port: u16) -> Option<&FrontendValidation> {
    let frontend = spec.tls.as_ref()?.frontend.as_ref()?;
    let own = frontend.per_port.iter().find(|own| own.port == port).map(|own| &own.tls);
    own.unwrap_or(&frontend.default).validation.as_ref()
}

fn validations(spec: &GatewaySpec) -> impl Iterator<Item = &FrontendValidation> {
    let frontend = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
    let all = frontend
        .into_iter()
        .flat_map(|frontend| std::iter::once(&frontend.default).chain(frontend.per_port.iter().map(|own| &own.tls)));
    all.filter_map(|tls| tls.validation.as_ref())
}

fn resolve(world: &World, gateway: &ObjectKey, reference: &ObjectRef) -> Result<AuthoritiesId, Finding> {
    let refuse = |reason, message| Err(Finding::no(reason::RESOLVED_REFS, reason, message));
    let Some(key) = trust::config_map(&gateway.namespace, reference) else {
        let message = format!("authorities of kind `{}/{}` are not in a ConfigMap", reference.group, reference.kind);
        return refuse(reason::INVALID_CA_KIND, message);
    };
    if !is_granted(world, gateway, &key) {
        let message =
            format!("no ReferenceGrant in `{}` lets Gateways of `{}` refer to it", key.namespace, gateway.namespace);
        return refuse(reason::REF_NOT_PERMITTED, message);
    }
    trust::authorities(world, &key)
}

fn is_granted(world: &World, gateway: &ObjectKey, config_map: &ObjectKey) -> bool {
    granted(world, Referrer { kind: "Gateway", namespace: &gateway.namespace }, "ConfigMap", config_map)
}

/// The ConfigMaps that Gateways of ours refer to and may.
pub(crate) fn config_maps(world: &World) -> BTreeSet<ObjectKey> {
    let references = world.our_gateways().flat_map(|(gateway, facts)| {
        let references = validations(&facts.spec).flat_map(|validation| &validation.ca_certificate_refs);
        references.map(move |reference| (gateway, reference))
    });
    let named = references
        .filter_map(|(gateway, reference)| Some((gateway, trust::config_map(&gateway.namespace, reference)?)));
    named.filter(|(gateway, key)| is_granted(world, gateway, key)).map(|(_, key)| key).collect()
}

/// Whoever reads the Gateway is warned while it lets clients in that prove nothing.
pub(crate) fn warning(spec: &GatewaySpec) -> Option<Finding> {
    validations(spec).any(FrontendValidation::is_optional).then(|| {
        let message = "clients are let in although their certificates prove nothing";
        Finding::yes(reason::INSECURE_FRONTEND, reason::CONFIGURATION_CHANGED, message)
    })
}

/// What the Gateway shows to backends that ask for it; the `Err` is its `ResolvedRefs`. `None`: nothing is wanted.
pub(crate) fn own_certificate(
    world: &World,
    gateway: &ObjectKey,
    facts: &GatewayFacts,
) -> Option<Result<Usable, Finding>> {
    let reference = facts.spec.tls.as_ref()?.backend.as_ref()?.client_certificate_ref.as_ref()?;
    let found = tls::resolve(world, Owner { kind: "Gateway", key: gateway }, reference);
    let reworded = |finding: Finding| match finding.reason {
        reason::INVALID_CERTIFICATE_REF => Finding { reason: reason::INVALID_CLIENT_CERTIFICATE_REF, ..finding },
        _ => finding,
    };
    let usable = |Usable { id, complaint }| Usable { id, complaint: complaint.map(reworded) };
    Some(found.map(usable).map_err(reworded))
}
