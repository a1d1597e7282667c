//! Which canary stands beside which path of another Ingress.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sluice_model::ingress::IngressBackend;

use super::Read;
use super::paths::{Spot, spots};
use crate::facts::ObjectKey;
use crate::report::{Complaint, reason};

/// Those of one Ingress, by the path that they share.
#[derive(Debug, Clone, Default)]
pub(super) struct Canaries(Vec<Attached>);

#[derive(Debug, Clone)]
struct Attached {
    spot: Spot,
    canary: Arc<Read>,
    backend: IngressBackend,
}

impl Canaries {
    pub(super) fn at(&self, spot: &Spot) -> Option<(&Arc<Read>, &IngressBackend)> {
        self.0.iter().find(|known| known.spot == *spot).map(|known| (&known.canary, &known.backend))
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        let same =
            |(one, other): (&Attached, &Attached)| one.spot == other.spot && Arc::ptr_eq(&one.canary, &other.canary);
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

/// Puts each canary beside the paths that it names; those of other namespaces are none of its business.
pub(super) fn attach<'r>(
    by_age: &[&'r Arc<Read>],
    owners: &HashMap<Spot, &'r Arc<Read>>,
    complaints: &mut BTreeMap<&'r ObjectKey, Vec<Complaint>>,
) -> BTreeMap<ObjectKey, Canaries> {
    let mut attached: BTreeMap<ObjectKey, Canaries> = BTreeMap::new();
    for canary in by_age {
        for (spot, backend) in spots(canary) {
            let mut complain =
                |reason, message| complaints.entry(&canary.key).or_default().push(Complaint { reason, message });
            let Some(main) = owners.get(&spot).filter(|main| main.key.namespace == canary.key.namespace) else {
                let message = format!("no other Ingress of `{}` serves {spot}", canary.key.namespace);
                complain(reason::NO_MAIN_INGRESS, message);
                continue;
            };
            let known = attached.entry(main.key.clone()).or_default();
            match known.at(&spot) {
                Some((older, _)) if older.key != canary.key => {
                    complain(reason::PATH_TAKEN, format!("{spot} has canary `{}` already", older.key));
                }
                Some(_) => {}
                None => known.0.push(Attached { spot, canary: (*canary).clone(), backend: backend.clone() }),
            }
        }
    }
    attached
}
