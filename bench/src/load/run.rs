//! What all parts of a run share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use super::tally::Tally;

#[derive(Default)]
pub(super) struct Run {
    pub(super) tally: Tally,
    pub(super) changes: Changes,
    over: AtomicBool,
}

/// What was changed meanwhile.
#[derive(Default)]
pub(super) struct Changes {
    /// Backends of this process that went by the protocol of removal, and those that came.
    pub(super) removals: AtomicU64,
    pub(super) additions: AtomicU64,
    /// Pods that went.
    pub(super) pods: AtomicU64,
    pub(super) patches: AtomicU64,
    pub(super) certificates: AtomicU64,
    pub(super) listeners: AtomicU64,
    pub(super) hostnames: AtomicU64,
}

impl Run {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Changes {
    pub(super) fn lines(&self) -> Value {
        let Self { removals, additions, pods, patches, certificates, listeners, hostnames } = self;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        json!({"removals": get(removals), "additions": get(additions), "pods_removed": get(pods), "route_patches": get(patches),
            "certificates": get(certificates), "listeners": get(listeners), "hostnames": get(hostnames)})
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
