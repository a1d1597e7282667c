//! How a gateway instance is set up.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluice_route::Network;

/// The class whose Gateways, and the one whose Ingresses, are served here; the engine creates both.
pub const GATEWAY_CLASS: &str = "sluice";
/// `GatewayClass.spec.controllerName`, and `IngressClass.spec.controller`, of every class that is ours.
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
    /// Where listeners with port 443, or with the port given here, are served, and Ingresses with certificates; else that is port
    /// 443 of the same IP address.
    pub tls_address: Option<SocketAddr>,
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
            tls_address: None,
            addresses: Vec::new(),
            advertise: None,
            trusted_proxies: Vec::new(),
            access_log: None,
            workers: 0,
        }
    }
}
