//! Listeners of protocol HTTPS: their certificates, by the names that clients ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_model::gateway::{Listener, SecretObjectRef};

use crate::clients::ClientTrust;
use crate::door::Owner;
use crate::facts::{ObjectKey, SecretFacts, World};
use crate::grant::{Referrer, granted};
use crate::host::ByHost;
use crate::report::{Finding, reason};
use crate::sets::memberships;

pub(crate) const HTTPS: &str = "HTTPS";

/// Stands for a certificate with its key, which only the data plane has; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateId(pub u64);

/// How a listener serves TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Best first.
    pub certificates: Vec<CertificateId>,
    /// `None`: clients show no certificates.
    pub clients: Option<ClientTrust>,
}

/// Each listener of an entrance.
pub(crate) type TlsListeners = ByHost<Arc<ListenerTls>>;

/// How a connection came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    Plain,
    Tls {
        /// In lower case, as the client asked for it.
        server_name: Option<String>,
        /// It has shown a certificate that its listener believed.
        is_verified: bool,
    },
}

impl Transport {
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls { .. } => "https",
        }
    }
}

/// What of a listener's `tls` this gateway cannot do.
pub(crate) fn unsupported(listener: &Listener) -> Option<String> {
    if listener.protocol != HTTPS {
        return None;
    }
    let Some(tls) = &listener.tls else {
        return Some("`tls` is not set: a listener of protocol HTTPS has certificates".to_owned());
    };
    let mode = tls.mode.as_deref().unwrap_or("Terminate");
    if mode != "Terminate" {
        return Some(format!("`tls.mode` is `{mode}`, but protocol HTTPS is served with mode Terminate only"));
    }
    if let Some(option) = tls.options.keys().next() {
        return Some(format!("`tls.options` names `{option}`, which is not supported"));
    }
    tls.certificate_refs.is_empty().then(|| "`tls.certificateRefs` is empty".to_owned())
}

/// A certificate that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usable {
    pub(crate) id: CertificateId,
    /// `ResolvedRefs`, when the Secret holds it no more.
    pub(crate) complaint: Option<Finding>,
}

/// The listener's certificates, in their order; none for one without TLS. The `Err` is its `ResolvedRefs`.
pub(crate) fn certificates(world: &World, owner: Owner<'_>, listener: &Listener) -> Result<Vec<Usable>, Finding> {
    references(listener).map(|reference| resolve(world, owner, reference)).collect()
}

fn references(listener: &Listener) -> impl Iterator<Item = &SecretObjectRef> {
    let tls = listener.tls.iter().filter(|_| listener.protocol == HTTPS);
    tls.flat_map(|tls| &tls.certificate_refs)
}

/// The `Err` is a `ResolvedRefs`.
pub(crate) fn resolve(world: &World, owner: Owner<'_>, reference: &SecretObjectRef) -> Result<Usable, Finding> {
    certificate(world, &secret(world, owner, reference)?)
}

/// What the Secret holds. The `Err` is a `ResolvedRefs`.
pub(crate) fn certificate(world: &World, key: &ObjectKey) -> Result<Usable, Finding> {
    let complaint = |message| Finding::no(reason::RESOLVED_REFS, reason::INVALID_CERTIFICATE_REF, message);
    let invalid = |message| Err(complaint(message));
    match world.secrets.get(key) {
        Some(SecretFacts::Certificate(id)) => Ok(Usable { id: *id, complaint: None }),
        Some(SecretFacts::Spoilt { last, why }) => {
            let message = format!("Secret `{key}` is no certificate any more, the last one is served on: {why}");
            Ok(Usable { id: *last, complaint: Some(complaint(message)) })
        }
        Some(SecretFacts::Unusable(why)) => invalid(format!("Secret `{key}` is no certificate: {why}")),
        None => invalid(format!("no Secret `{key}` of type kubernetes.io/tls exists")),
    }
}

/// The Secret that is referred to, if it may be.
fn secret(world: &World, owner: Owner<'_>, reference: &SecretObjectRef) -> Result<ObjectKey, Finding> {
    let refused = |reason, message| Err(Finding::no(reason::RESOLVED_REFS, reason, message));
    let (group, kind) = (reference.group.as_deref().unwrap_or_default(), reference.kind.as_deref().unwrap_or("Secret"));
    if !group.is_empty() || kind != "Secret" {
        let message = format!("certificate kind `{group}/{kind}` is not a Secret");
        return refused(reason::INVALID_CERTIFICATE_REF, message);
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&owner.key.namespace);
    let key = ObjectKey::new(namespace, reference.name.as_str());
    let referrer = Referrer { kind: owner.kind, namespace: &owner.key.namespace };
    if granted(world, referrer, "Secret", &key) {
        return Ok(key);
    }
    let message =
        format!("no ReferenceGrant in `{namespace}` lets {}s of `{}` refer to it", owner.kind, owner.key.namespace);
    refused(reason::REF_NOT_PERMITTED, message)
}

/// Every Secret that a Gateway of ours, or a ListenerSet that it lets in, refers to and may.
pub(crate) fn secrets(world: &World) -> BTreeSet<ObjectKey> {
    let gateways = world.our_gateways().map(|(key, facts)| (Owner { kind: "Gateway", key }, &facts.spec.listeners));
    let sets = memberships(world).into_iter().filter(|set| set.is_admitted);
    let sets = sets.map(|set| (Owner { kind: "ListenerSet", key: set.key }, &set.facts.spec.listeners));
    let listeners = gateways.chain(sets).flat_map(|(owner, listeners)| listeners.iter().map(move |one| (owner, one)));
    let found = listeners.flat_map(|(owner, listener)| references(listener).map(move |reference| (owner, reference)));
    let shown = world.our_gateways().filter_map(|(key, facts)| {
        let reference = facts.spec.tls.as_ref()?.backend.as_ref()?.client_certificate_ref.as_ref()?;
        Some((Owner { kind: "Gateway", key }, reference))
    });
    found.chain(shown).filter_map(|(owner, reference)| secret(world, owner, reference).ok()).collect()
}
