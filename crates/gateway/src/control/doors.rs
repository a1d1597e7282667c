//! Listening sockets follow what the listeners ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use sluice_route::Entrance;

use crate::plane::{Plane, open};

pub(crate) struct Doors {
    plane: Arc<Plane>,
    ip: IpAddr,
    /// Beside the default one, which was opened at the start and stays.
    open: BTreeSet<Entrance>,
    closed: BTreeMap<Entrance, String>,
    /// Listening, but no worker takes from them before it knows their routes: until then clients wait in the kernel's queue,
    /// where a worker could only answer 404.
    waiting: BTreeMap<Entrance, Vec<TcpListener>>,
}

impl Doors {
    pub(crate) fn new(plane: Arc<Plane>, ip: IpAddr, default: Vec<TcpListener>) -> Self {
        let waiting = BTreeMap::from([(Entrance::Default, default)]);
        Self { plane, ip, open: BTreeSet::new(), closed: BTreeMap::new(), waiting }
    }

    /// Every worker serves a table that knows what is open.
    pub(crate) fn admit(&mut self) {
        for (entrance, sockets) in std::mem::take(&mut self.waiting) {
            self.plane.serve(entrance, sockets);
        }
    }

    /// Opens what is asked for and closes the rest. Says what could not be opened, and why.
    pub(crate) fn follow(&mut self, wanted: &BTreeSet<Entrance>) -> BTreeMap<Entrance, String> {
        let (plane, open, waiting) = (&self.plane, &mut self.open, &mut self.waiting);
        open.retain(|entrance| {
            let kept = wanted.contains(entrance);
            if !kept && waiting.remove(entrance).is_none() {
                plane.close(*entrance);
            }
            kept
        });
        self.closed.retain(|entrance, _| wanted.contains(entrance));
        for entrance in wanted {
            if !self.closed.contains_key(entrance) {
                self.try_open(*entrance);
            }
        }
        self.closed.clone()
    }

    pub(crate) fn any_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Tries once more what could not be opened.
    pub(crate) fn retry(&mut self) -> BTreeMap<Entrance, String> {
        for entrance in std::mem::take(&mut self.closed).into_keys() {
            self.try_open(entrance);
        }
        self.closed.clone()
    }

    fn try_open(&mut self, entrance: Entrance) {
        let address = match entrance {
            Entrance::Default => return,
            Entrance::Port(port) => SocketAddr::new(self.ip, port),
            Entrance::Own(address) => address,
        };
        if self.open.contains(&entrance) {
            return;
        }
        match open(address, self.plane.workers()) {
            Ok(sockets) => {
                self.waiting.insert(entrance, sockets);
                self.open.insert(entrance);
            }
            Err(error) => {
                tracing::warn!(%address, %error, "Listener not opened");
                self.closed.insert(entrance, format!("cannot listen on {address}: {error}"));
            }
        }
    }
}
