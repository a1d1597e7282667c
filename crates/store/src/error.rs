//! Why a store refuses.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Entry, Revision};

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("`{}` has format {found}, this program reads up to {known}", path.display())]
    NewerFormat { path: PathBuf, found: u64, known: u64 },
    #[error("`{}` is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("cannot read `{}`: {detail}", path.display())]
    Corrupt { path: PathBuf, detail: String },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    #[error("`{}` exists at revision {}", entry.key, entry.revision)]
    Exists { entry: Arc<Entry> },
    #[error("no such key")]
    Missing,
    #[error("`{}` is at revision {} by now", current.key, current.revision)]
    Conflict { current: Arc<Entry> },
    /// Nothing was stored; writing works again once there is room.
    #[error("the disk is full")]
    Full,
    /// The writer's own closure panicked; nothing was stored.
    #[error("the value could not be rendered")]
    Render,
    /// The disk failed in a way that leaves unknown what is on it: reads go on, writes need a new start.
    #[error("the disk failed, so nothing is written until the next start: {cause}")]
    Broken { cause: Arc<str> },
    /// The store was told to close.
    #[error("the store takes no more writes")]
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("revision is older than {oldest}, the oldest one remembered")]
    Compacted { oldest: Revision },
    #[error("revision is newer than {current}, the newest one")]
    Future { current: Revision },
}

/// The watch has ended: list again, and watch from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    #[error("revision is older than {oldest}, the oldest one remembered")]
    Compacted { oldest: Revision },
    #[error("the watcher is {backlog} events behind")]
    Slow { backlog: usize },
    #[error("the store is closed")]
    Closed,
}
