//! Listeners, connections and bodies around the routing table.

mod options;
mod start;

pub use options::{CONTROLLER_NAME, GATEWAY_CLASS, GatewayOptions, LEASE_NAMESPACE};
pub use start::{Gateway, GatewayHandle, StartError, VersionKey};
