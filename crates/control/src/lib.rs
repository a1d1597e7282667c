//! Controllers: workloads, releases, and how a release takes hold of a workload.
//!
//! Every controller is a pass of gather, validate, decide, apply, report. Reading order: `informer` (what the API holds, in
//! memory), `queue` (which object is looked at next), `events`; then `release` and `workload`, which know nothing of each other.

mod attach;
mod error;
mod events;
mod informer;
mod owner;
mod pod;
mod queue;
pub mod release;
mod template;
mod time;
pub mod workload;

pub use error::Error;
