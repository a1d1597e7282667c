//! What Kubernetes knows about types: one table of kinds and the generic algorithms over it.

pub mod crd;
mod fault;
mod kinds;
pub mod managed;
pub mod merge;
mod types;

pub use fault::{Fault, FaultKind};
pub use kinds::{GroupVersionKind, Kind, Subresource};
pub use types::{Arena, Field, List, ListKind, Patch, Scalar, Shape, Struct, Ty, TypeId};
