//! How many images are pulled at the same time: a registry that hangs or dawdles holds up its own pulls and nobody else's.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Images that are pulled at the same time from one registry, and from all.
const PARALLEL_PULLS: usize = 3;
const ALL_PARALLEL_PULLS: usize = 16;

pub(super) struct Slots {
    all: Arc<Semaphore>,
    /// Those that somebody has or waits for.
    by_registry: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

/// The right to pull, until it is dropped.
pub(super) struct Slot {
    _one: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Slots {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL_PARALLEL_PULLS)), by_registry: Mutex::default() }
    }
}

impl Slots {
    /// In the order of asking, among the pulls from the same registry.
    pub(super) async fn acquire(&self, registry: &str) -> Slot {
        const OPEN: &str = "the semaphore is never closed";
        let own = {
            let mut known = self.by_registry.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, slots| Arc::strong_count(slots) > 1);
            let new = || Arc::new(Semaphore::new(PARALLEL_PULLS));
            known.entry(registry.to_owned()).or_insert_with(new).clone()
        };
        let one = own.acquire_owned().await.expect(OPEN);
        let of_all = self.all.clone().acquire_owned().await.expect(OPEN);
        Slot { _one: one, _of_all: of_all }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_registry_that_hangs_holds_up_its_own_pulls_alone() {
        let slots = Slots::default();
        let mut held = Vec::new();
        for _ in 0..PARALLEL_PULLS {
            held.push(slots.acquire("hangs.test").await);
        }
        assert!(slots.acquire("hangs.test").now_or_never().is_none());
        let other = slots.acquire("other.test").now_or_never().expect("its own slots");
        held.pop();
        assert!(slots.acquire("hangs.test").now_or_never().is_some());
        drop((held, other));
        drop(slots.acquire("third.test").await);
        assert_eq!(slots.by_registry.lock().expect("whole").len(), 1, "who pulls nothing is not remembered");
    }

    #[tokio::test]
    async fn all_registries_together_are_bounded() {
        let slots = Slots::default();
        let mut held = Vec::new();
        for n in 0..ALL_PARALLEL_PULLS {
            held.push(slots.acquire(&format!("{n}.test")).await);
        }
        assert!(slots.acquire("one-more.test").now_or_never().is_none());
    }
}
