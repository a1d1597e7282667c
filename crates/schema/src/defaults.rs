//! What a real API server fills in where a manifest of a built-in kind is silent.
//!
//! [`apply`] is the only place that knows. It runs on decoded objects before admission; what admission adds (service
//! account, tolerations, priority, storage class) and what is allocated (addresses, ports) is the server's.

mod autoscaling;
mod batch;
mod cluster;
mod config;
mod kinds;
mod network;
mod pod;
mod storage;
mod webhooks;
mod workloads;

use serde_json::Value;

use crate::kinds::Kind;

pub(crate) use workloads::TEMPLATE_GENERATION;

/// Fills in the defaults of a built-in kind. Objects of other kinds stay as they are.
pub fn apply(kind: &Kind, object: &mut Value) {
    if kind.custom.is_none() {
        kinds::defaults(kind)(object);
    }
}
