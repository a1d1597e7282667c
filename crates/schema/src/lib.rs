//! What Kubernetes knows about types: one table of kinds and the generic algorithms over it.

mod catalog;
mod convert;
pub mod crd;
pub mod decode;
pub mod defaults;
pub mod discovery;
mod edit;
pub mod families;
mod fault;
mod gateway_api;
mod go;
mod kinds;
pub mod managed;
pub mod merge;
mod metrics_api;
pub mod openapi;
pub mod prepare;
pub mod protobuf;
#[cfg(test)]
mod recorded;
pub mod selector;
pub mod table;
mod types;
pub mod validate;

pub use catalog::Catalog;
pub use convert::convert;
pub use fault::{Fault, FaultKind, summary};
pub use gateway_api::gateway_api;
pub use kinds::{GroupVersionKind, Kind, Subresource};
pub use metrics_api::{measured_api, metrics_api};
pub use types::{Arena, Field, List, ListKind, Native, Omit, Patch, Scalar, Shape, Struct, Ty, TypeId, Union};
