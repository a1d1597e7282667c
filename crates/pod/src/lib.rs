//! What runs a pod: a small process of its own, which outlives the engine.
//!
//! An agent writes down what a pod is to be (`plan`, with `bounds` for processes and `confinement` for containers) and starts its
//! [`supervisor`], which owns the pod's processes, their logs, restarts and deadlines. Both speak over a socket ([`wire`]). When
//! something starts, stops or is given up is decided by `lifecycle`, which is pure; a [`driver`] makes processes or containers; and
//! what systems do each in their way has one name in [`kernel`].
//!
//! Nothing here needs an async runtime, TLS or a client: a supervisor has one thread and 2 MB. The drivers are there on every
//! system that Rust calls its first tier; the supervisor takes a Unix, containers and the [`holder`] of their namespaces take Linux.

pub mod bounds;
pub mod confinement;
pub mod driver;
#[cfg(target_os = "linux")]
pub mod features;
#[cfg(all(test, unix))]
mod golden;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod holder;
#[cfg_attr(windows, path = "kernel/windows.rs")]
pub mod kernel;
pub mod lifecycle;
pub mod plan;
#[cfg(unix)]
pub mod pod_dir;
#[cfg(unix)]
pub mod supervisor;
pub mod wire;
