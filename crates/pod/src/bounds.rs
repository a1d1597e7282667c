//! What a process of the machine is held to: the part of the plan that only the process driver reads.
//!
//! Like all of the plan it only ever grows, and absent fields mean what the older side did.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::confinement::Resources;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// The container's name, which its control group has, too.
    pub container: String,
    /// What it may use where its pod has a control group.
    #[serde(default)]
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Beside the one that it runs as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    /// The files that are left to it; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// What root is left of its capabilities, by name; `None`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
}

/// Where a process may go that is kept from the rest of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// It may read everywhere, not only what programs need of a system.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub machine: bool,
    pub places: Vec<Place>,
}

/// A file, or a directory with everything in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    pub path: PathBuf,
    /// Beneath `path`, whatever links were made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writable: bool,
}

/// One of `setrlimit`'s; `None` is without limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rlimit {
    /// As shells call it, such as `nofile`.
    pub name: String,
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}
