//! The controllers over a real API in memory, with a node that only says that its pods run and a gateway that only counts.

mod gateway;
mod jobs;
#[path = "../../examples/cluster/node.rs"]
mod node;
mod quotas;
mod releases;
mod sets;
mod town;
mod workload;
