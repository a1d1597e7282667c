//! The demo shop: a small web shop that can be made sick, so that releases have something to catch.
//!
//! It is what `sluice.dev/demo:TAG` runs: our own binary, told its version by `DEMO_VERSION`.

mod answer;
mod server;
mod sickness;

pub(crate) use server::run;
