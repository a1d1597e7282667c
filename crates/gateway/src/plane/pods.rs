//! Requests in flight per pod: counted by each worker for itself, added up by the control side.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_route::{PodId, Table};

/// Every pod that got a request and may still be at it.
pub(crate) struct Pods {
    workers: usize,
    known: Mutex<HashMap<PodId, Arc<Pod>>>,
}

pub(crate) struct Pod {
    uid: Arc<str>,
    /// No table serves it any more; whoever ends its last request tells the control side.
    withdrawn: AtomicBool,
    in_flight: Box<[Count]>,
}

/// Written by one worker only; on a cache line of its own.
#[repr(align(64))]
#[derive(Default)]
struct Count(AtomicU32);

impl Pods {
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers, known: Mutex::default() }
    }

    /// The pod's counts, made at its first request of any worker.
    pub(crate) fn get(&self, id: PodId, table: &Table) -> Arc<Pod> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let pod = known.entry(id).or_insert_with(|| {
            let uid = table.pods().uid(id).cloned().unwrap_or_else(|| "".into());
            let in_flight = (0..self.workers).map(|_| Count::default()).collect();
            Arc::new(Pod { uid, withdrawn: AtomicBool::new(false), in_flight })
        });
        pod.clone()
    }

    /// Before the table is published: its pods are no longer withdrawn, should they have been.
    pub(crate) fn admit(&self, table: &Table) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, pod) in known.iter().filter(|(id, _)| table.pods().contains(**id)) {
            pod.withdrawn.store(false, Ordering::SeqCst);
        }
    }

    /// After every worker acknowledged the table: pods that it does not serve and that still have requests. Those without are
    /// forgotten, unless a worker still holds on to them.
    pub(crate) fn draining(&self, table: &Table) -> Vec<Arc<str>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut draining = Vec::new();
        known.retain(|id, pod| {
            if table.pods().contains(*id) {
                return true;
            }
            pod.withdrawn.store(true, Ordering::SeqCst);
            let busy = pod.busy();
            if busy {
                draining.push(pod.uid.clone());
            }
            busy || Arc::strong_count(pod) > 1
        });
        draining.sort_unstable();
        draining
    }
}

impl Pod {
    pub(crate) fn enter(&self, worker: usize) {
        let count = &self.in_flight[worker].0;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// True when somebody waits for this pod to become idle and this worker has no more of its requests.
    pub(crate) fn leave(&self, worker: usize) -> bool {
        let count = &self.in_flight[worker].0;
        let left = count.load(Ordering::Relaxed) - 1;
        // Together with `draining` either we see `withdrawn`, or it sees that we have left.
        count.store(left, Ordering::SeqCst);
        left == 0 && self.withdrawn.load(Ordering::SeqCst)
    }

    /// Requests of this worker, as its measure of load.
    pub(crate) fn load(&self, worker: usize) -> u32 {
        self.in_flight[worker].0.load(Ordering::Relaxed)
    }

    fn busy(&self) -> bool {
        self.in_flight.iter().any(|count| count.0.load(Ordering::SeqCst) > 0)
    }
}
