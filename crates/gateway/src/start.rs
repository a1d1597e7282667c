//! Starting a gateway, and the handle to a running one.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use sluice_stats::VersionSnapshot;

use crate::options::GatewayOptions;

/// A version as the gateway tells them apart: the namespace and `pod-template-hash` of its pods (empty when unlabelled).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey {
    pub namespace: String,
    pub hash: String,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start gateway worker {worker}")]
    Worker { worker: usize, source: io::Error },
}

pub struct Gateway;

impl Gateway {
    /// Binds the default listener and starts the workers; routes follow as the control side reads them through `client`.
    #[expect(clippy::unused_async, reason = "the signature comes first; the control side is started here next")]
    pub async fn start(client: kube::Client, options: GatewayOptions) -> Result<GatewayHandle, StartError> {
        drop(client);
        let listener = std::net::TcpListener::bind(options.address)
            .map_err(|source| StartError::Listen { address: options.address, source })?;
        let address =
            listener.local_addr().map_err(|source| StartError::Listen { address: options.address, source })?;
        Ok(GatewayHandle { address, _listener: listener })
    }
}

/// A running gateway. Dropping the handle leaves it running; [`GatewayHandle::shutdown`] ends it.
pub struct GatewayHandle {
    address: SocketAddr,
    _listener: std::net::TcpListener,
}

impl GatewayHandle {
    /// Where the default listener is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The newest routing table that every worker serves.
    pub fn generation(&self) -> u64 {
        0
    }

    /// Counters since start of every version that got a request.
    pub fn snapshot(&self) -> BTreeMap<VersionKey, VersionSnapshot> {
        BTreeMap::new()
    }

    /// Takes no more connections, finishes the requests in flight within a bounded time and gives the Lease back.
    #[expect(clippy::unused_async, reason = "the signature comes first")]
    pub async fn shutdown(self) {}
}
