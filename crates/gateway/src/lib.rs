//! Listeners, connections and bodies around the routing table.

mod control;
mod options;
mod plane;
mod start;

pub use options::{CONTROLLER_NAME, GATEWAY_CLASS, GatewayOptions, LEASE_NAMESPACE};
pub use plane::{MirrorCounts, VersionKey};
pub use start::{Counters, Gateway, GatewayHandle, StartError};
