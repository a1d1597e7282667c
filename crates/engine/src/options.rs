//! What an engine is started with, and why it may not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept; made when missing.
    pub data: PathBuf,
    pub api: SocketAddr,
    pub gateway: SocketAddr,
    /// Where to write the kubeconfig instead of `kubeconfig` in the data directory.
    pub kubeconfig: Option<PathBuf>,
    /// `false` leaves the API alone.
    pub controllers: bool,
    /// Whether pods are stopped with the engine or run on.
    pub stop_pods: bool,
    /// What runs pods that do not say so themselves.
    pub driver: sluice_node::Driver,
    /// Our own binary: pods' supervisors are started from it.
    pub program: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on `{flag} {address}`: the address is in use")]
    AddressInUse { address: SocketAddr, flag: &'static str },
    #[error("the data directory `{}` is used by another engine", path.display())]
    DataInUse { path: PathBuf },
    #[error("the data directory `{}` cannot be written", path.display())]
    DataUnwritable { path: PathBuf, source: io::Error },
    #[error("the data in `{}` were written by a newer version of sluice", path.display())]
    DataNewer { path: PathBuf },
    #[error("cannot listen on `{flag} {address}`")]
    Listen { address: SocketAddr, flag: &'static str, source: io::Error },
    #[error("the engine's own API refused a request")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

impl StartError {
    pub(crate) fn other(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Other(Box::new(error))
    }
}
