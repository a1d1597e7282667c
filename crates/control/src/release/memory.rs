//! What is only known while the controller runs: which revision carried the exposure, pods that gateways know, and
//! measurements. All of it is found again after a restart; measurements then start afresh.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sluice_model::rollout::{Exposure, RolloutStatus, When};
use sluice_release::{Desired, Measured, Probe, window_start};
use sluice_stats::Watch;

use super::Measure;
use crate::informer::Key;

/// One for each Rollout.
#[derive(Default)]
pub(crate) struct Memories {
    by_key: Mutex<HashMap<Key, Arc<Mutex<Memory>>>>,
}

#[derive(Default)]
pub(crate) struct Memory {
    /// A Rollout that was deleted and created again is another one.
    uid: String,
    /// The exposure that was seen last, and the first known revision of the Rollout that carries it.
    exposure: Option<(Option<Exposure>, u64)>,
    /// Uids of ready pods that every gateway has known since they became ready.
    pub(crate) programmed: HashSet<String>,
    watches: HashMap<String, Watching>,
    /// Results of http checks, by check.
    pub(crate) probes: BTreeMap<String, Measured>,
    /// Http checks that run now.
    pub(crate) probing: HashSet<String>,
    /// What was said about an invalid spec, so that it is said once.
    pub(crate) complained: String,
}

/// A metric check in its window.
struct Watching {
    since: Timestamp,
    candidate: String,
    watch: Watch,
}

impl Memories {
    pub(crate) fn of(&self, key: &Key, uid: &str) -> Arc<Mutex<Memory>> {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = by_key.entry(key.clone()).or_default();
        let fresh = memory.lock().unwrap_or_else(PoisonError::into_inner).uid != uid;
        if fresh {
            *memory = Arc::new(Mutex::new(Memory { uid: uid.to_owned(), ..Memory::default() }));
        }
        Arc::clone(memory)
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

impl Memory {
    /// The revision that gateways must serve for the exposure to be applied. After a restart that is the first one seen.
    pub(crate) fn exposed_by(&mut self, exposure: Option<&Exposure>, revision: u64) -> u64 {
        match &self.exposure {
            Some((known, carried_by)) if known.as_ref() == exposure => *carried_by,
            _ => {
                self.exposure = Some((exposure.cloned(), revision));
                revision
            }
        }
    }

    /// Looks at the counters for every metric check of the present step.
    pub(crate) fn measure(
        &mut self,
        measure: &dyn Measure,
        namespace: &str,
        desired: &Desired,
        status: &RolloutStatus,
        now: Timestamp,
    ) -> BTreeMap<String, Measured> {
        let mut measured = self.probes.clone();
        let window = window_start(desired, status).zip(status.candidate.as_ref()).zip(status.stable.as_ref());
        let Some(((since, candidate), stable)) = window else {
            self.watches.clear();
            return measured;
        };
        let step = status.step.and_then(|step| desired.steps.get((step as usize).checked_sub(1)?));
        let names = step.map(|step| step.checks.as_slice()).unwrap_or_default();
        self.watches.retain(|name, _| names.contains(name));
        let checks = names.iter().filter_map(|name| desired.check(name)).filter(|check| check.at == When::During);
        for check in checks {
            let Probe::Metric(limit) = &check.probe else { continue };
            let new = measure.snapshot(namespace, &candidate.hash);
            let old = measure.snapshot(namespace, &stable.hash);
            let start =
                || Watching { since, candidate: candidate.hash.clone(), watch: Watch::start(*limit, &new, &old) };
            let watching = self.watches.entry(check.name.clone()).or_insert_with(start);
            if watching.since != since || watching.candidate != candidate.hash {
                *watching = start();
            }
            let elapsed = now.duration_since(since).try_into().unwrap_or_default();
            let look = watching.watch.look(&new, &old, elapsed);
            let found = Measured { at: now, since, verdict: look.verdict, evidence: look.evidence };
            measured.insert(check.name.clone(), found);
        }
        measured
    }
}
