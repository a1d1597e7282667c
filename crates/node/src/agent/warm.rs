//! Networks made before there is a pod for them: a namespace, a cable to the bridge, an address and a route.
//!
//! What holds one is its file. When the engine goes, the kernel takes all of them apart.

use std::{
    collections::VecDeque,
    fs::File,
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use sluice_pod::{confinement::PodNetwork, driver::container::namespaces::network_ahead};
use tracing::warn;

use super::addresses::AddressPool;

/// A rollout starts a few pods at once; each network costs the kernel some hundred kilobytes.
const AHEAD: usize = 3;

#[derive(Debug)]
pub(super) struct Warm {
    pub(super) address: Ipv4Addr,
    pub(super) namespace: File,
}

/// At most [`AHEAD`] of them.
#[derive(Debug, Default)]
pub(super) struct WarmNetworks(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// With the names of their ports at the bridge.
    ready: VecDeque<(String, Warm)>,
    /// A thread is at work.
    filling: bool,
    /// There will be no more pods.
    closed: bool,
}

impl WarmNetworks {
    /// One whose cable is still at its bridge.
    pub(super) fn take(&self, addresses: &AddressPool) -> Option<Warm> {
        let mut state = self.lock();
        let connected = |port: &str| Path::new("/sys/class/net").join(port).join("brport").exists();
        while let Some((port, warm)) = state.ready.pop_front() {
            if connected(&port) {
                return Some(warm);
            }
            addresses.release(warm.address, Timestamp::now());
        }
        None
    }

    /// Fills up in the background. Whoever makes a network stays in it, and so do the threads that it starts: each is made in
    /// a thread of its own, by one that stays where it is.
    pub(super) fn refill(
        self: &Arc<Self>,
        addresses: Arc<AddressPool>,
        network: impl Fn(Ipv4Addr) -> PodNetwork + Send + Sync + 'static,
    ) {
        let mut state = self.lock();
        if state.filling || state.closed || state.ready.len() >= AHEAD {
            return;
        }
        let warm = self.clone();
        let fill = move || {
            let one = || std::thread::scope(|scope| scope.spawn(|| make(&addresses, &network)).join().ok().flatten());
            while warm.keep(one()) {}
        };
        // Without a thread there is none ahead, and pods make their own.
        state.filling = std::thread::Builder::new().name("networks-ahead".to_owned()).spawn(fill).is_ok();
    }

    /// Says whether there is more to do.
    fn keep(&self, made: Option<(String, Warm)>) -> bool {
        let mut state = self.lock();
        state.filling = match made {
            Some(made) if !state.closed => {
                state.ready.push_back(made);
                state.ready.len() < AHEAD
            }
            _ => false,
        };
        state.filling
    }

    /// Lets go of all of them.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.ready.clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn make(addresses: &AddressPool, network: &impl Fn(Ipv4Addr) -> PodNetwork) -> Option<(String, Warm)> {
    // The last addresses are for pods that are there.
    let address = addresses.allocate(Timestamp::now()).ok()?;
    let network = network(address);
    match network_ahead(&network) {
        Ok(namespace) => Some((network.port, Warm { address, namespace })),
        Err(error) => {
            warn!(%error, "No network is made ahead");
            addresses.release(address, Timestamp::now());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(address: Ipv4Addr) -> Option<(String, Warm)> {
        let namespace = File::open("/dev/null").expect("every machine has it");
        Some(("no-such-port".to_owned(), Warm { address, namespace }))
    }

    #[test]
    fn a_network_that_lost_its_cable_is_handed_to_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let addresses = AddressPool::open(Ipv4Addr::new(10, 64, 0, 0), 24, directory.path().join("next"), 0);
        let (warm, one) = (WarmNetworks::default(), addresses.allocate(Timestamp::now()).expect("room"));
        assert!(warm.keep(made(one)), "there is room for more");
        assert!(warm.take(&addresses).is_none());
        assert_eq!(warm.lock().ready.len(), 0);
    }

    #[test]
    fn nothing_is_kept_for_pods_that_will_not_come() {
        let warm = WarmNetworks::default();
        warm.close();
        assert!(!warm.keep(made(Ipv4Addr::LOCALHOST)));
        assert_eq!(warm.lock().ready.len(), 0);
    }
}
