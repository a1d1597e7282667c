//! An own address for each pod: on the loopback link for processes, on a bridge for containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use jiff::Timestamp;
use sluice_pod::pod_dir::{read_json, write_json};

/// An address rests this long after its pod, so that no late packet reaches a stranger.
const QUARANTINE: Duration = Duration::from_secs(60);
/// Where a new data directory begins: engines side by side on one machine must not meet.
const BLOCK_BITS: u32 = 8;

#[derive(Debug)]
pub(super) struct AddressPool {
    network: u32,
    /// Which bits of an address tell pods apart.
    hosts: u32,
    /// Remembers how far it came, so that a restart does not hand out the same addresses again.
    file: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u32,
    used: BTreeSet<u32>,
    resting: BTreeMap<u32, Timestamp>,
}

#[derive(Debug, thiserror::Error)]
#[error("no pod address is free")]
pub(super) struct Exhausted;

impl AddressPool {
    /// `seed` says where a pool without a history begins.
    pub(super) fn open(network: Ipv4Addr, prefix_length: u32, file: PathBuf, seed: u32) -> Self {
        let hosts = u32::MAX >> prefix_length;
        let remembered = read_json::<u32>(&file).ok().flatten();
        let first = (seed << BLOCK_BITS) & hosts;
        let state = State { next: remembered.unwrap_or(first), ..State::default() };
        Self { network: u32::from(network) & !hosts, hosts, file, state: Mutex::new(state) }
    }

    /// Takes note of a pod that has its address already.
    pub(super) fn adopt(&self, address: Ipv4Addr) {
        if let Some(host) = self.host(address) {
            self.lock().used.insert(host);
        }
    }

    pub(super) fn allocate(&self, now: Timestamp) -> Result<Ipv4Addr, Exhausted> {
        let mut state = self.lock();
        state.resting.retain(|_, since| now.duration_since(*since).unsigned_abs() < QUARANTINE);
        for step in 0..=self.hosts {
            let host = state.next.wrapping_add(step) & self.hosts;
            // Network and broadcast look wrong to people and to some libraries.
            let plain = !matches!(host & 0xff, 0 | 0xff);
            if plain && !state.used.contains(&host) && !state.resting.contains_key(&host) {
                state.next = (host + 1) & self.hosts;
                state.used.insert(host);
                // At worst a restart hands out an address that another pod had a while ago.
                let _unremembered = write_json(&self.file, &state.next);
                return Ok(Ipv4Addr::from(self.network | host));
            }
        }
        Err(Exhausted)
    }

    pub(super) fn release(&self, address: Ipv4Addr, now: Timestamp) {
        let Some(host) = self.host(address) else { return };
        let mut state = self.lock();
        if state.used.remove(&host) {
            state.resting.insert(host, now);
        }
    }

    /// `None` for an address of somebody else's network.
    fn host(&self, address: Ipv4Addr) -> Option<u32> {
        (u32::from(address) & !self.hosts == self.network).then(|| u32::from(address) & self.hosts)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_and_rest_before_they_are_used_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || AddressPool::open(Ipv4Addr::new(127, 64, 0, 0), 10, directory.path().join("next"), 0);
        let (pool, start) = (open(), Timestamp::UNIX_EPOCH);
        let one = pool.allocate(start).expect("room");
        assert_eq!(one, Ipv4Addr::new(127, 64, 0, 1));
        pool.adopt(Ipv4Addr::new(127, 64, 0, 2));
        assert_eq!(pool.allocate(start).expect("room"), Ipv4Addr::new(127, 64, 0, 3));
        pool.release(one, start);
        pool.lock().next = 1;
        assert_eq!(pool.allocate(start).expect("room"), Ipv4Addr::new(127, 64, 0, 4), "the first one rests");
        pool.lock().next = 1;
        assert_eq!(pool.allocate(start + QUARANTINE).expect("room"), one);
        assert_eq!(open().lock().next, 2, "a restart goes on");
    }

    #[test]
    fn the_pool_stays_in_its_network() {
        let directory = tempfile::tempdir().expect("a directory");
        let pool = AddressPool::open(Ipv4Addr::new(127, 64, 0, 0), 10, directory.path().join("next"), u32::MAX);
        pool.lock().next = pool.hosts;
        assert_eq!(
            pool.allocate(Timestamp::UNIX_EPOCH).expect("room"),
            Ipv4Addr::new(127, 64, 0, 1),
            "it wraps around"
        );
    }
}
