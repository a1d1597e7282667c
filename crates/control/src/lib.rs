//! Controllers: workloads, releases, and how a release takes hold of a workload.

pub mod release;
pub mod workload;
