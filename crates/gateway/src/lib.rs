//! Listeners, connections and bodies around the routing table.

mod admin;
mod control;
mod options;
mod plane;
mod start;

pub use admin::admin;
pub use options::{CONTROLLER_NAME, GATEWAY_CLASS, GatewayOptions, LEASE_NAMESPACE, LogFormat};
pub use plane::{BookKey, CircuitCounts, MirrorCounts, VersionKey};
pub use sluice_route::{Network, NetworkError};
pub use start::{Counters, Gateway, GatewayHandle, StartError};
