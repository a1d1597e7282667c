//! Listeners of protocol HTTPS: their certificates, by the names that clients ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_model::gateway::{Listener, SecretObjectRef};

use crate::facts::{ObjectKey, SecretFacts, World};
use crate::grant::{Referrer, granted};
use crate::host::ByHost;
use crate::report::{Finding, reason};

pub(crate) const HTTPS: &str = "HTTPS";

/// Stands for a certificate with its key, which only the data plane has; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateId(pub u64);

/// The certificates of each listener of an entrance.
pub(crate) type TlsListeners = ByHost<Arc<[CertificateId]>>;

/// How a connection came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    Plain,
    Tls {
        /// In lower case, as the client asked for it.
        server_name: Option<String>,
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

/// The listener's certificates, in their order; none for one without TLS. The `Err` is its `ResolvedRefs`.
pub(crate) fn certificates(
    world: &World,
    gateway: &ObjectKey,
    listener: &Listener,
) -> Result<Arc<[CertificateId]>, Finding> {
    references(listener).map(|reference| resolve(world, gateway, reference)).collect()
}

fn references(listener: &Listener) -> impl Iterator<Item = &SecretObjectRef> {
    let tls = listener.tls.iter().filter(|_| listener.protocol == HTTPS);
    tls.flat_map(|tls| &tls.certificate_refs)
}

fn resolve(world: &World, gateway: &ObjectKey, reference: &SecretObjectRef) -> Result<CertificateId, Finding> {
    let key = secret(world, gateway, reference)?;
    let invalid = |message| Err(Finding::no(reason::RESOLVED_REFS, reason::INVALID_CERTIFICATE_REF, message));
    match world.secrets.get(&key) {
        Some(SecretFacts::Certificate(id)) => Ok(*id),
        Some(SecretFacts::Unusable(why)) => invalid(format!("Secret `{key}` is no certificate: {why}")),
        None => invalid(format!("no Secret `{key}` of type kubernetes.io/tls exists")),
    }
}

/// The Secret that is referred to, if it may be.
fn secret(world: &World, gateway: &ObjectKey, reference: &SecretObjectRef) -> Result<ObjectKey, Finding> {
    let refused = |reason, message| Err(Finding::no(reason::RESOLVED_REFS, reason, message));
    let (group, kind) = (reference.group.as_deref().unwrap_or_default(), reference.kind.as_deref().unwrap_or("Secret"));
    if !group.is_empty() || kind != "Secret" {
        let message = format!("certificate kind `{group}/{kind}` is not a Secret");
        return refused(reason::INVALID_CERTIFICATE_REF, message);
    }
    let namespace = reference.namespace.as_deref().unwrap_or(&gateway.namespace);
    let key = ObjectKey::new(namespace, reference.name.as_str());
    let referrer = Referrer { kind: "Gateway", namespace: &gateway.namespace };
    if granted(world, referrer, "Secret", &key) {
        return Ok(key);
    }
    let message = format!("no ReferenceGrant in `{namespace}` lets Gateways of `{}` refer to it", gateway.namespace);
    refused(reason::REF_NOT_PERMITTED, message)
}

/// Every Secret that a Gateway of ours refers to and may.
pub(crate) fn secrets(world: &World) -> BTreeSet<ObjectKey> {
    let references = world.our_gateways().flat_map(|(key, facts)| {
        facts.spec.listeners.iter().flat_map(move |listener| references(listener).map(move |found| (key, found)))
    });
    references.filter_map(|(gateway, reference)| secret(world, gateway, reference).ok()).collect()
}
