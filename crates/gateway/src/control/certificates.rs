//! Certificates out of Secrets: each is read once per change, named by an id, and with the workers before any table names it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_route::{CertificateId, ObjectKey, SecretFacts};
use tokio::sync::watch;

use crate::plane::{Certificate, CertificateError, Certificates};

/// The Secrets that listeners refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Counts the changes.
    pub(crate) round: u64,
    pub(crate) keys: BTreeSet<ObjectKey>,
}

pub(crate) struct Store {
    wanted: watch::Sender<Wanted>,
    known: BTreeMap<ObjectKey, (CertificateId, Arc<Certificate>)>,
    /// What the table names that every worker serves.
    served: Certificates,
    last: u64,
}

impl Store {
    /// With what its watch follows.
    pub(crate) fn new() -> (Self, watch::Receiver<Wanted>) {
        let (wanted, follows) = watch::channel(Wanted::default());
        (Self { wanted, known: BTreeMap::new(), served: Certificates::new(), last: 0 }, follows)
    }

    /// Asks for these Secrets and no others. Gives the round whose list has them, unless they were asked for before.
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

    /// What routing is to know of a Secret that was read; `None` when it is gone.
    pub(crate) fn take(
        &mut self,
        key: &ObjectKey,
        read: Option<Result<Certificate, CertificateError>>,
    ) -> Option<SecretFacts> {
        let certificate = match read {
            Some(Ok(certificate)) => certificate,
            unusable => {
                self.known.remove(key);
                return unusable.and_then(Result::err).map(|error| SecretFacts::Unusable(error.to_string()));
            }
        };
        if let Some((id, _)) = self.known.get(key).filter(|(_, known)| known.same(&certificate)) {
            return Some(SecretFacts::Certificate(*id));
        }
        self.last += 1;
        let id = CertificateId(self.last);
        self.known.insert(key.clone(), (id, Arc::new(certificate)));
        Some(SecretFacts::Certificate(id))
    }

    /// For the time in which some workers serve the next table and others the former one.
    pub(crate) fn between(&self) -> Certificates {
        self.known.values().cloned().chain(self.served.clone()).collect()
    }

    /// Every worker serves the table that was made last.
    pub(crate) fn settled(&mut self) -> Certificates {
        self.served = self.known.values().cloned().collect();
        self.served.clone()
    }
}
