//! The pods that a table may send to, with their uids, in parts: a change copies the parts it touches and shares the rest.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::PodId;

/// A power of two.
const PARTS: usize = 64;

#[derive(Debug, Clone)]
pub struct Pods {
    parts: Box<[Arc<HashMap<PodId, Pod>>]>,
}

#[derive(Debug, Clone)]
struct Pod {
    uid: Arc<str>,
    /// How many endpoints of the table are this pod's.
    endpoints: u32,
}

impl Default for Pods {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| Arc::default()).collect() }
    }
}

impl Pods {
    pub fn contains(&self, pod: PodId) -> bool {
        self.parts[part(pod)].contains_key(&pod)
    }

    /// The pod's uid; for an endpoint without a pod, an identity of its own.
    pub fn uid(&self, pod: PodId) -> Option<&Arc<str>> {
        self.parts[part(pod)].get(&pod).map(|pod| &pod.uid)
    }

    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more endpoint of this pod.
    pub(crate) fn add(&mut self, pod: PodId, uid: &Arc<str>) {
        let known = Arc::make_mut(&mut self.parts[part(pod)]);
        known.entry(pod).or_insert_with(|| Pod { uid: uid.clone(), endpoints: 0 }).endpoints += 1;
    }

    /// One endpoint of this pod less.
    pub(crate) fn remove(&mut self, pod: PodId) {
        let known = Arc::make_mut(&mut self.parts[part(pod)]);
        let Some(found) = known.get_mut(&pod) else { return };
        found.endpoints -= 1;
        if found.endpoints == 0 {
            known.remove(&pod);
        }
    }
}

fn part(pod: PodId) -> usize {
    pod.0 as usize % PARTS
}
