//! What Sluice means by a Rollout, a Gateway route, a quantity, a selector: our API types, without I/O.

pub mod amount;
pub mod condition;
pub mod crds;
pub mod duration;
pub mod gateway;
mod hash;
pub mod image;
pub mod ingress;
pub mod limit_range;
pub mod pod_security;
mod quality;
pub mod quantity;
pub mod quota;
pub mod resources;
pub mod rollout;
pub mod schedule;
pub mod selector;
pub mod sticky;

pub use hash::fnv1a;
pub use quality::qos_class;

/// The release of Kubernetes whose API is served, and whose node and controllers are the measure.
pub const KUBERNETES_VERSION: &str = "v1.35.4";
/// What server and node say they are: that API, by us.
pub const OUR_VERSION: &str = "v1.35.4+sluice";
