//! Listening sockets follow what the listeners ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;

use futures::future::join_all;
use sluice_route::Entrance;

use tokio::time::timeout;

use crate::plane::{Door, LAST_REQUESTS, Plane, SOCKETS_CLOSED, open};

pub(crate) struct Doors {
    plane: Arc<Plane>,
    ip: IpAddr,
    /// Beside the default one, which was opened at the start and stays.
    open: BTreeSet<Entrance>,
    /// What of it workers take from.
    served: BTreeMap<Entrance, Door>,
    /// Closed since [`Self::settle`] was called last.
    leaving: Vec<Door>,
    closed: BTreeMap<Entrance, String>,
    /// Listening, but no worker takes from them before it knows their routes: until then clients wait in the kernel's queue,
    /// where a worker could only answer 404.
    waiting: BTreeMap<Entrance, Vec<TcpListener>>,
}

impl Doors {
    pub(crate) fn new(plane: Arc<Plane>, ip: IpAddr, default: Vec<TcpListener>) -> Self {
        let waiting = BTreeMap::from([(Entrance::Default, default)]);
        let (served, leaving) = (BTreeMap::new(), Vec::new());
        Self { plane, ip, open: BTreeSet::new(), served, leaving, closed: BTreeMap::new(), waiting }
    }

    /// Every worker serves a table that knows what is open.
    pub(crate) fn admit(&mut self) {
        for (entrance, sockets) in std::mem::take(&mut self.waiting) {
            self.served.insert(entrance, self.plane.serve(entrance, sockets));
        }
    }

    /// Waits until nobody listens any more at what was closed, and those who came in by it had time for their request.
    pub(crate) async fn settle(&mut self) {
        let mut leaving = std::mem::take(&mut self.leaving);
        if leaving.is_empty() {
            return;
        }
        let closed = join_all(leaving.iter_mut().map(Door::closed));
        if timeout(SOCKETS_CLOSED, closed).await.is_err() {
            tracing::warn!("Listeners are slow to close");
        }
        // Who stays longer is told by the next answer to go.
        let _left = timeout(LAST_REQUESTS, join_all(leaving.iter_mut().map(Door::left))).await;
    }

    /// Opens what is asked for and closes the rest. Says what could not be opened, and why.
    pub(crate) fn follow(&mut self, wanted: &BTreeSet<Entrance>) -> BTreeMap<Entrance, String> {
        let (plane, open, waiting) = (&self.plane, &mut self.open, &mut self.waiting);
        let (served, leaving) = (&mut self.served, &mut self.leaving);
        open.retain(|entrance| {
            let kept = wanted.contains(entrance);
            if !kept && waiting.remove(entrance).is_none() {
                plane.close(*entrance);
                leaving.extend(served.remove(entrance));
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
