//! A strategy becomes absolute steps, and an observed situation becomes the next decision.
//!
//! Nothing here talks to anything: the clock, the measurements and the state of the pods come in as arguments.
//! [`Desired::read`] checks what the user wrote, [`plan`] shows what it will do, [`decide`] says what to do next and why,
//! and [`invariants`] holds every decision to the promises of the design.

mod copies;
mod decide;
mod decision;
mod desired;
pub mod invariants;
mod limits;
mod observed;
mod plan;
mod presets;
mod replicas;

pub use decide::{decide, window_start};
pub use decision::{Decision, Event, Outcome};
pub use desired::{Check, Desired, Hold, Probe, Shift, Size, SpecError, Step};
pub use limits::LimitError;
pub use observed::{Command, Fences, Measured, Observed, Version};
pub use plan::{Plan, plan};
pub use replicas::{Split, by_replicas};
