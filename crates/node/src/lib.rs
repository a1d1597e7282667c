//! Pods on this machine: the [`Agent`] lives in the engine. It follows the pods of its node through the API, prepares what they need,
//! drives their supervisors (`sluice-pod`, a process for each pod that outlives the engine), probes them and reports.

mod agent;

pub use agent::{
    Agent, ContainerUsage, Driver, Ended, LogError, LogOptions, LogReader, LogSource, LogStream, LogTarget,
    NodeOptions, NodeUsage, PROVISIONER, PodUsage, StartError, StreamError, StreamOpener, StreamSource, StreamWish,
    Streams, TerminalSize, Usage, UsageReader,
};
