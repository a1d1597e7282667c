//! The store as its users see it.

mod files;
mod memory;
