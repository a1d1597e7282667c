//! What Sluice means by a Rollout, a Gateway route, a quantity, a selector: our API types, without I/O.

pub mod amount;
pub mod condition;
pub mod crds;
pub mod duration;
pub mod gateway;
mod hash;
pub mod image;
pub mod quantity;
pub mod rollout;
pub mod schedule;
pub mod selector;

pub use hash::fnv1a;
