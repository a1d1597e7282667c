//! Pods on this machine.
//!
//! Two halves of one binary. The [`supervisor`] is a small single-threaded process per pod that owns its processes, their
//! logs, restarts and deadlines, and outlives the engine. The [`Agent`] lives in the engine: it follows the pods of its node
//! through the API, prepares what they need, drives their supervisors, probes them and reports.

mod agent;
mod bounds;
mod confinement;
mod features;
#[cfg(test)]
mod golden;
pub mod holder;
mod lifecycle;
mod plan;
mod pod_dir;
pub mod supervisor;
mod wire;

pub use agent::{
    Agent, ContainerUsage, Driver, Ended, LogError, LogOptions, LogReader, LogSource, LogStream, LogTarget,
    NodeOptions, NodeUsage, PROVISIONER, PodUsage, StartError, StreamError, StreamOpener, StreamSource, StreamWish,
    Streams, TerminalSize, Usage, UsageReader,
};
