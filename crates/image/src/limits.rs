//! How much an image may ask for: every bound on what comes from outside, in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A manifest or an index.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// An image's configuration.
pub(crate) const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// overlayfs stacks no more.
pub(crate) const MAX_LAYERS: usize = 500;
/// Entries of an index.
pub(crate) const MAX_INDEX_ENTRIES: usize = 1000;
/// An index of indexes of …
pub(crate) const MAX_INDEX_DEPTH: usize = 4;
/// What stands before one file in a tar archive: long names, extended attributes.
pub(crate) const MAX_TAR_HEADER_BYTES: u64 = 1 << 20;
/// As the kernel has it.
pub(crate) const MAX_PATH_BYTES: usize = 4096;
/// Removing a tree takes an open directory for each.
pub(crate) const MAX_PATH_DEPTH: usize = 256;
/// Extended attributes of one file.
pub(crate) const MAX_XATTRS: usize = 128;
/// Holes and pieces of one sparse file.
pub(crate) const MAX_SPARSE_PIECES: usize = 65_536;
/// Symbolic links on the way to one file; as the kernel has it.
pub(crate) const MAX_SYMLINKS: usize = 40;
/// The window of a zstd frame, as a power of two: what one layer may make us remember.
pub(crate) const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// What is still read of a layer that is refused, to tell whether it is the one that was asked for.
pub(crate) const MAX_JUDGED_BYTES: u64 = 1 << 30;

/// What an image may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a layer's archive, and of the files in it.
    pub layer_bytes: u64,
    pub layer_entries: u64,
    /// Bytes of names and attributes that are remembered until a layer's end.
    pub layer_names: u64,
    /// Of all layers that one pull brings.
    pub image_bytes: u64,
    pub image_entries: u64,
    /// Bytes that come out for one that went in, once all layers together brought `ratio_free_bytes` more than that.
    pub ratio: u64,
    pub ratio_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 64 << 30,
            layer_entries: 2_000_000,
            layer_names: 256 << 20,
            image_bytes: 256 << 30,
            image_entries: 5_000_000,
            ratio: 200,
            ratio_free_bytes: 512 << 20,
        }
    }
}

/// What is left for the layers of one image, which share it; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    pub(crate) limits: Limits,
    left: Arc<Left>,
}

#[derive(Debug)]
struct Left {
    bytes: AtomicU64,
    entries: AtomicU64,
    ratio_free_bytes: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        let left = Left {
            bytes: AtomicU64::new(limits.image_bytes),
            entries: AtomicU64::new(limits.image_entries),
            ratio_free_bytes: AtomicU64::new(limits.ratio_free_bytes),
        };
        Self { limits, left: Arc::new(left) }
    }

    /// Each answers whether so much was left.
    pub(crate) fn take_bytes(&self, bytes: u64) -> bool {
        take(&self.left.bytes, bytes)
    }

    pub(crate) fn take_entry(&self) -> bool {
        take(&self.left.entries, 1)
    }

    pub(crate) fn take_ratio_free(&self, bytes: u64) -> bool {
        take(&self.left.ratio_free_bytes, bytes)
    }
}

fn take(left: &AtomicU64, n: u64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(n)).is_ok()
}
