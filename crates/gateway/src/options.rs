//! How a gateway instance is set up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::network::Network;

/// The class whose Gateways are served here; the engine creates it.
pub const GATEWAY_CLASS: &str = "sluice";
/// `GatewayClass.spec.controllerName` of every class that is ours.
pub const CONTROLLER_NAME: &str = "sluice.dev/gateway";
/// The namespace of the Leases in which gateways acknowledge what they serve.
pub const LEASE_NAMESPACE: &str = "sluice-system";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayOptions {
    /// Names this gateway among others: its Lease is `gateway-<instance>`.
    pub instance: String,
    /// Where listeners with port 80, or with the port given here, are served; other ports open on the same IP address.
    /// Port 0 takes any free one.
    pub address: SocketAddr,
    /// Each Gateway gets one of these for itself, whatever ports its listeners have; those for whom none is left share `address`.
    pub addresses: Vec<IpAddr>,
    /// What the status of Gateways that share `address` tells, where that is not an address that clients reach.
    pub advertise: Option<IpAddr>,
    /// Who may say whom a request comes from, and what it is called.
    pub trusted_proxies: Vec<Network>,
    /// A line on standard output for each request.
    pub access_log: Option<LogFormat>,
    /// Worker threads, each with its own runtime, listeners and upstream connections; 0 stands for one per core.
    pub workers: usize,
}

/// How a line of the access log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// An object with everything that there is to say.
    Json,
    /// As Apache and nginx do.
    Combined,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            instance: "local".to_owned(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            addresses: Vec::new(),
            advertise: None,
            trusted_proxies: Vec::new(),
            access_log: None,
            workers: 0,
        }
    }
}
