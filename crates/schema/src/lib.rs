//! What Kubernetes knows about types: one table of kinds and the generic algorithms over it.

mod catalog;
pub mod crd;
pub mod decode;
mod fault;
mod gateway_api;
mod kinds;
pub mod managed;
pub mod merge;
pub mod protobuf;
#[cfg(test)]
mod recorded;
mod types;

pub use catalog::Catalog;
pub use fault::{Fault, FaultKind};
pub use gateway_api::gateway_api;
pub use kinds::{GroupVersionKind, Kind, Subresource};
pub use types::{Arena, Field, List, ListKind, Native, Omit, Patch, Scalar, Shape, Struct, Ty, TypeId, Union};
