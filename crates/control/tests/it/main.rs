//! The controllers over a real API in memory, with a node that only says that its pods run.

#[path = "../../examples/cluster/node.rs"]
mod node;
mod workload;
