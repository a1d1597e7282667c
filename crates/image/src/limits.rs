//! How much an image may ask for: every bound on what comes from outside, in one place.

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
pub(crate) const MAX_PATH_DEPTH: usize = 512;
/// Extended attributes of one file.
pub(crate) const MAX_XATTRS: usize = 128;
/// Holes and pieces of one sparse file.
pub(crate) const MAX_SPARSE_PIECES: usize = 65_536;
/// Symbolic links on the way to one file; as the kernel has it.
pub(crate) const MAX_SYMLINKS: usize = 40;
/// The window of a zstd frame, as a power of two: what one layer may make us remember.
pub(crate) const MAX_ZSTD_WINDOW_LOG: u32 = 27;

/// What one layer may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive, and of the files in it.
    pub layer_bytes: u64,
    pub layer_entries: u64,
    /// Bytes that come out for one that went in, once `ratio_free_bytes` have come out.
    pub ratio: u64,
    pub ratio_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { layer_bytes: 64 << 30, layer_entries: 2_000_000, ratio: 200, ratio_free_bytes: 512 << 20 }
    }
}
