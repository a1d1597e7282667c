//! TLS of Ingresses: which hosts have a certificate, and where they are served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_model::ingress::IngressTls;

use super::{Read, paths};
use crate::facts::{Entrance, IngressFacts, ObjectKey, World};
use crate::host::Host;
use crate::report::{Complaint, reason};
use crate::tls::{CertificateId, ListenerTls, certificate};

/// Where TLS is served to clients of Ingresses.
pub(crate) struct SecureEntrance {
    pub(crate) entrance: Entrance,
    /// As clients name it.
    pub(crate) port: u16,
    /// Why it is not.
    pub(crate) refused: Option<String>,
}

/// The certificates of all Ingresses, by host.
pub(super) struct Certificates {
    pub(super) listeners: Vec<(Host, Arc<ListenerTls>)>,
    /// Somebody asks for TLS.
    pub(super) wanted: bool,
}

impl Certificates {
    /// Of several with one host the oldest counts.
    pub(super) fn gather<'r>(
        world: &World,
        secure: &SecureEntrance,
        by_age: &[&'r Arc<Read>],
        complaints: &mut BTreeMap<&'r ObjectKey, Vec<Complaint>>,
    ) -> Self {
        let mut out = Self { listeners: Vec::new(), wanted: false };
        let mut known: BTreeMap<CertificateId, Arc<ListenerTls>> = BTreeMap::new();
        for read in by_age {
            for (index, tls) in read.facts.spec.tls.iter().enumerate() {
                let mut complain = |message| {
                    let complaint =
                        Complaint { reason: reason::NO_CERTIFICATE, message: format!("tls[{index}]: {message}") };
                    complaints.entry(&read.key).or_default().push(complaint);
                };
                out.wanted = true;
                if let Some(why) = &secure.refused {
                    complain(format!("TLS is not served: {why}"));
                    continue;
                }
                let found = match secret(&read.key, tls) {
                    Some(secret) => certificate(world, &secret).map_err(|unresolved| unresolved.message),
                    None => Err("`secretName` is not set, and this gateway has no certificate of its own".to_owned()),
                };
                let certificate = match found {
                    Ok(usable) => {
                        usable.complaint.into_iter().for_each(|unresolved| complain(unresolved.message));
                        usable.id
                    }
                    Err(why) => {
                        complain(why);
                        continue;
                    }
                };
                // One for all hosts of a certificate: a client's connection for one may carry requests for the others.
                let served = || Arc::new(ListenerTls { certificates: vec![certificate], clients: None });
                let listener = known.entry(certificate).or_insert_with(served);
                for host in hosts(read, tls) {
                    if !out.listeners.iter().any(|(known, _)| *known == host) {
                        out.listeners.push((host, listener.clone()));
                    }
                }
            }
        }
        out
    }

    /// Whether every name that this host stands for has a certificate.
    pub(super) fn cover(&self, host: &Host) -> bool {
        self.listeners.iter().any(|(known, _)| known.intersection(host).as_ref() == Some(host))
    }
}

fn hosts(read: &Read, tls: &IngressTls) -> Vec<Host> {
    match tls.hosts.as_slice() {
        [] => paths::hosts(read).collect(),
        names => names.iter().map(|name| Host::parse(Some(name))).collect(),
    }
}

fn secret(ingress: &ObjectKey, tls: &IngressTls) -> Option<ObjectKey> {
    let name = tls.secret_name.as_deref().filter(|name| !name.is_empty())?;
    Some(ObjectKey::new(ingress.namespace.as_str(), name))
}

/// Every Secret that an Ingress of ours refers to: all are of its own namespace.
pub(crate) fn secrets(world: &World) -> BTreeSet<ObjectKey> {
    let of = |(key, facts): (&ObjectKey, &Arc<IngressFacts>)| -> Vec<ObjectKey> {
        facts.spec.tls.iter().filter_map(|tls| secret(key, tls)).collect()
    };
    world.our_ingresses().flat_map(of).collect()
}
