//! Which backend a client gets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Clients that are remembered for one door; when there are more, those who were away longest are forgotten.
const MAX_CLIENTS: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Backends(Mutex<State>);

#[derive(Debug)]
struct State {
    all: Vec<SocketAddr>,
    next: usize,
    sticky: Option<Duration>,
    clients: HashMap<IpAddr, (SocketAddr, Instant)>,
}

impl Backends {
    pub(crate) fn new(all: Vec<SocketAddr>, sticky: Option<Duration>) -> Self {
        Self(Mutex::new(State { all, next: 0, sticky, clients: HashMap::new() }))
    }

    pub(crate) fn replace(&self, all: Vec<SocketAddr>, sticky: Option<Duration>) {
        let mut state = self.lock();
        if sticky.is_none() {
            state.clients.clear();
        }
        state.clients.retain(|_, (backend, _)| all.contains(backend));
        state.all = all;
        state.sticky = sticky;
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().all.len()
    }

    pub(crate) fn has(&self, backend: SocketAddr) -> bool {
        self.lock().all.contains(&backend)
    }

    /// The client's own, or the next in turn.
    pub(crate) fn choose(&self, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        let mut state = self.lock();
        let Some(sticky) = state.sticky else { return state.take_turn() };
        let known = state.clients.get(&client).filter(|(_, seen)| now.duration_since(*seen) < sticky);
        let backend = match known {
            Some((backend, _)) => *backend,
            None => state.take_turn()?,
        };
        if state.clients.len() >= MAX_CLIENTS && !state.clients.contains_key(&client) {
            state.forget_half();
        }
        state.clients.insert(client, (backend, now));
        Some(backend)
    }

    /// The backend did not answer: the client gets another one.
    pub(crate) fn turn_away(&self, client: IpAddr) {
        self.lock().clients.remove(&client);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_turn(&mut self) -> Option<SocketAddr> {
        let backend = *self.all.get(self.next % self.all.len().max(1))?;
        self.next = self.next.wrapping_add(1);
        Some(backend)
    }

    fn forget_half(&mut self) {
        let mut seen: Vec<Instant> = self.clients.values().map(|(_, seen)| *seen).collect();
        let middle = seen.len() / 2;
        let (_, border, _) = seen.select_nth_unstable(middle);
        let border = *border;
        self.clients.retain(|_, (_, seen)| *seen > border);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 64, 0, 1], port))
    }

    #[test]
    fn backends_take_turns_and_clients_may_stay() {
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let now = Instant::now();
        let all = vec![backend(1), backend(2)];
        let turns = Backends::new(all.clone(), None);
        let chosen: Vec<_> = (0..4).filter_map(|_| turns.choose(one, now)).map(|it| it.port()).collect();
        assert_eq!(chosen, [1, 2, 1, 2]);

        let minute = Duration::from_secs(60);
        let sticky = Backends::new(all, Some(minute));
        let ports = |client, now| sticky.choose(client, now).map(|it| it.port());
        assert_eq!((ports(one, now), ports(other, now), ports(one, now)), (Some(1), Some(2), Some(1)));
        assert_eq!(ports(other, now + minute), Some(1), "the time is over");
        sticky.replace(vec![backend(2)], Some(minute));
        assert_eq!(ports(one, now), Some(2), "its backend is gone");
        sticky.replace(vec![], Some(minute));
        assert_eq!(ports(one, now), None);
    }

    #[test]
    fn too_many_clients_are_forgotten() {
        let backends = Backends::new(vec![backend(1)], Some(Duration::from_secs(60)));
        let start = Instant::now();
        for number in 0..=u32::try_from(MAX_CLIENTS).expect("a small number") {
            let client = IpAddr::V4(number.into());
            backends.choose(client, start + Duration::from_millis(number.into()));
        }
        assert!(backends.lock().clients.len() <= MAX_CLIENTS / 2 + 1);
    }
}
