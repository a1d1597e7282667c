//! Durable revisioned objects: one committer, reads and watches from memory.
//!
//! Values are opaque bytes under keys such as `/apps/deployments/shop/web`. Every write gets the next number of one
//! counter, its [`Revision`]. One thread commits all writes in groups; what readers see is durable by then.
//!
//! Reading order: [`Store`], [`Write`], [`Entry`], [`Page`], [`Watch`]; then `memory` (what readers see), `committer`
//! (the one thread that writes) and `journal` (the files).

mod committer;
mod entry;
mod error;
mod journal;
mod memory;
mod parsed;
mod revision;
mod store;
mod watch;
mod write;

pub use entry::Entry;
pub use error::{ListError, OpenError, WatchError, WriteError};
pub use memory::Page;
pub use revision::Revision;
pub use store::Store;
pub use watch::{Event, EventKind, Watch};
pub use write::{Expect, Op, Render, Write};

/// The file that every store has in its directory.
pub const FILE: &str = journal::OBJECTS;
