//! The binary as a user runs it.

mod sluice;
mod up;
