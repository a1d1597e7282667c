//! Pulls from a registry in this process that can misbehave in every way that registries do.

mod bad;
mod pull;
mod registry;
mod silent;
