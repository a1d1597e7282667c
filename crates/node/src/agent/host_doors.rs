//! Ports of the machine that lead to pods in a network which the machine's packet filter does not see: carried by us.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use sluice_netlink::nft::TCP;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tracing::warn;

use super::packet_filter::HostPort;

/// Connections through all ports together; the next ones wait.
const MAX_CONNECTIONS: usize = 4096;
/// A pod of this machine that has not answered by then does not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Out of descriptors: others must finish first.
const PAUSE: Duration = Duration::from_millis(50);

/// The ports that are open.
#[derive(Debug)]
pub(super) struct HostDoors {
    open: BTreeMap<HostPort, Door>,
    room: Arc<Semaphore>,
}

impl Default for HostDoors {
    fn default() -> Self {
        Self { open: BTreeMap::new(), room: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

#[derive(Debug)]
struct Door(JoinHandle<()>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HostDoors {
    /// Opens and closes until it is as wanted. Connections that are there go on.
    pub(super) async fn keep(&mut self, wanted: BTreeSet<HostPort>) {
        self.open.retain(|port, _| wanted.contains(port));
        for port in wanted {
            if self.open.contains_key(&port) {
                continue;
            }
            match self.listen(&port).await {
                Ok(door) => drop(self.open.insert(port, door)),
                Err(error) => warn!(address = %port.address, port = port.port, %error, "hostPort not reachable"),
            }
        }
    }

    async fn listen(&self, port: &HostPort) -> io::Result<Door> {
        if port.protocol != TCP {
            return Err(io::Error::other("without root, a hostPort is carried for TCP alone"));
        }
        let listener = TcpListener::bind((port.address, port.port)).await?;
        let pod = SocketAddr::from((port.pod, port.pod_port));
        Ok(Door(tokio::spawn(serve(listener, pod, Arc::clone(&self.room)))))
    }
}

async fn serve(listener: TcpListener, pod: SocketAddr, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((mut client, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        tokio::spawn(async move {
            if let Ok(Ok(mut backend)) = tokio::time::timeout(CONNECT_TIMEOUT, sluice_reach::connect(pod)).await {
                let _no_delay = (client.set_nodelay(true), backend.set_nodelay(true));
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
            }
            drop(permit);
        });
    }
}
