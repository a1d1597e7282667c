//! Controllers: workloads, releases, and how a release takes hold of a workload.
