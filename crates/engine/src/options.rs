//! What an engine is started with, and why it may not start.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use sluice_gateway::{LogFormat, Network};

#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept; made when missing.
    pub data: PathBuf,
    pub api: SocketAddr,
    pub gateway: SocketAddr,
    /// Where TLS is served at the gateway, if not at port 443 of its address.
    pub gateway_tls: Option<SocketAddr>,
    /// For Gateways, one for each; without any all share the one above.
    pub gateway_addresses: Vec<IpAddr>,
    /// Who may say whom a request comes from.
    pub trusted_proxies: Vec<Network>,
    /// A line on standard output for each request to the gateway.
    pub access_log: Option<LogFormat>,
    /// Where to write the kubeconfig instead of `kubeconfig` in the data directory.
    pub kubeconfig: Option<PathBuf>,
    /// `false` leaves the API alone.
    pub controllers: bool,
    /// Whether pods are stopped with the engine or run on.
    pub stop_pods: bool,
    /// What runs pods that do not say so themselves.
    pub driver: sluice_node::Driver,
    /// How services are reached.
    pub services: sluice_services::Wish,
    pub dns: DnsWish,
    /// Pods in containers and services may have IPv6 where the machine has it.
    pub ipv6: bool,
    /// Our own binary: pods' supervisors are started from it.
    pub program: PathBuf,
}

/// Where names of services are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsWish {
    /// On a loopback address of the engine's own.
    #[default]
    Auto,
    Off,
    At(SocketAddr),
}

impl std::str::FromStr for DnsWish {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("services cannot be forwarded by the kernel: its packet filter is not ours to change")]
    Services { source: io::Error },
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
