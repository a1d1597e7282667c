//! What the agent must not forget about a pod when it is restarted.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::packet_filter::HostPort;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Memory {
    pub(super) address: Option<Ipv4Addr>,
    pub(super) address_v6: Option<Ipv6Addr>,
    /// The pod runs in containers.
    pub(super) confined: bool,
    /// The ports of the machine that lead to it.
    pub(super) host_ports: Vec<HostPort>,
    /// The number of the newest notice that became an event.
    pub(super) published: u64,
    pub(super) readiness: BTreeMap<String, Readiness>,
    /// Since when, and from which revision on, the gateways are asked to let go of the pod.
    pub(super) drain: Option<Drain>,
    /// The grace that the supervisor was last told to stop with.
    pub(super) stop_grace_seconds: Option<u64>,
    /// The pod was ended because its `activeDeadlineSeconds` were over.
    pub(super) deadline_exceeded: bool,
}

/// A readiness holds for one start of a container; the start time tells apart what an id alone might not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Readiness {
    pub(super) id: String,
    pub(super) started_at: Timestamp,
    pub(super) ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Drain {
    pub(super) since: Timestamp,
    pub(super) revision: u64,
}
