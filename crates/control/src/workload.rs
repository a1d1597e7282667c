//! The controllers of a single machine: Deployments, ReplicaSets, endpoints, garbage, namespaces, scheduling.
