//! The rules of built-in kinds against what a real API server answered.

mod properties;
mod recorded;
