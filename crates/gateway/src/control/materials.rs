//! What handshakes need, out of Secrets and ConfigMaps: each object is read once per change, named by an id, and with the workers before any table names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_route::{AuthoritiesFacts, AuthoritiesId, CertificateId, ObjectKey, SecretFacts};
use tokio::sync::watch;

use crate::plane::{Authorities, AuthoritiesError, Certificate, CertificateError};

/// The objects that others refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Counts the changes.
    pub(crate) round: u64,
    pub(crate) keys: BTreeSet<ObjectKey>,
}

/// What objects of one kind hold.
pub(crate) trait Material {
    type Id: Copy + Ord;
    type Error;
    type Facts;

    fn same(&self, other: &Self) -> bool;
    fn id(number: u64) -> Self::Id;
    fn facts(read: Result<Self::Id, Self::Error>) -> Self::Facts;
    /// What is left of an object that held `last` and holds nothing of use now; `None`: nothing, `last` is forgotten.
    fn spoilt(last: Self::Id, error: &Self::Error) -> Option<Self::Facts>;
}

impl Material for Certificate {
    type Id = CertificateId;
    type Error = CertificateError;
    type Facts = SecretFacts;

    fn same(&self, other: &Self) -> bool {
        self.same(other)
    }

    fn id(number: u64) -> CertificateId {
        CertificateId(number)
    }

    fn facts(read: Result<CertificateId, CertificateError>) -> SecretFacts {
        read.map_or_else(|error| SecretFacts::Unusable(error.to_string()), SecretFacts::Certificate)
    }

    /// A listener is better served by the certificate before than by none.
    fn spoilt(last: CertificateId, error: &CertificateError) -> Option<SecretFacts> {
        Some(SecretFacts::Spoilt { last, why: error.to_string() })
    }
}

impl Material for Authorities {
    type Id = AuthoritiesId;
    type Error = AuthoritiesError;
    type Facts = AuthoritiesFacts;

    fn same(&self, other: &Self) -> bool {
        self == other
    }

    fn id(number: u64) -> AuthoritiesId {
        AuthoritiesId(number)
    }

    fn facts(read: Result<AuthoritiesId, AuthoritiesError>) -> AuthoritiesFacts {
        read.map_or_else(|error| AuthoritiesFacts::Unusable(error.to_string()), AuthoritiesFacts::Known)
    }

    /// Nobody is believed by what was taken back.
    fn spoilt(_: AuthoritiesId, _: &AuthoritiesError) -> Option<AuthoritiesFacts> {
        None
    }
}

pub(crate) struct Store<M: Material> {
    wanted: watch::Sender<Wanted>,
    known: BTreeMap<ObjectKey, (M::Id, Arc<M>)>,
    /// What the table names that every worker serves.
    served: BTreeMap<M::Id, Arc<M>>,
    last: u64,
}

impl<M: Material> Store<M> {
    /// With what its watch follows.
    pub(crate) fn new() -> (Self, watch::Receiver<Wanted>) {
        let (wanted, follows) = watch::channel(Wanted::default());
        (Self { wanted, known: BTreeMap::new(), served: BTreeMap::new(), last: 0 }, follows)
    }

    /// Asks for these objects and no others. Gives the round whose list has them, unless they were asked for before.
    pub(crate) fn want(&self, keys: BTreeSet<ObjectKey>) -> Option<u64> {
        let changed = self.wanted.send_if_modified(|wanted| {
            let changed = wanted.keys != keys;
            if changed {
                *wanted = Wanted { round: wanted.round + 1, keys };
            }
            changed
        });
        changed.then(|| self.wanted.borrow().round)
    }

    /// What routing is to know of an object that was read; `None` when it is gone.
    pub(crate) fn take(&mut self, key: &ObjectKey, read: Option<Result<M, M::Error>>) -> Option<M::Facts> {
        let material = match read {
            Some(Ok(material)) => material,
            Some(Err(error)) => {
                let spoilt = self.known.get(key).and_then(|(last, _)| M::spoilt(*last, &error));
                return Some(spoilt.unwrap_or_else(|| {
                    self.known.remove(key);
                    M::facts(Err(error))
                }));
            }
            None => {
                self.known.remove(key);
                return None;
            }
        };
        if let Some((id, _)) = self.known.get(key).filter(|(_, known)| known.same(&material)) {
            return Some(M::facts(Ok(*id)));
        }
        self.last += 1;
        let id = M::id(self.last);
        self.known.insert(key.clone(), (id, Arc::new(material)));
        Some(M::facts(Ok(id)))
    }

    /// For the time in which some workers serve the next table and others the former one.
    pub(crate) fn between(&self) -> BTreeMap<M::Id, Arc<M>> {
        self.known.values().cloned().chain(self.served.clone()).collect()
    }

    /// Every worker serves the table that was made last.
    pub(crate) fn settled(&mut self) -> BTreeMap<M::Id, Arc<M>> {
        self.served = self.known.values().cloned().collect();
        self.served.clone()
    }
}
