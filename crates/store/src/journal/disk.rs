//! Where files come from: a directory, or a pretended disk with power cuts in tests.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use redb::StorageBackend;
use redb::backends::FileBackend;

pub(crate) const OBJECTS: &str = "store.redb";
pub(crate) const LOGS: [&str; 2] = ["store.log.0", "store.log.1"];

/// Objects hold secrets.
const PRIVATE: u32 = 0o600;

pub(crate) trait Disk: Clone + Send + 'static {
    type File: StorageBackend;

    /// Opens a file, or makes an empty one.
    fn open(&self, name: &'static str) -> io::Result<Self::File>;

    /// For error messages.
    fn path(&self, name: &'static str) -> PathBuf;
}

#[derive(Debug, Clone)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Disk for Directory {
    type File = FileBackend;

    fn open(&self, name: &'static str) -> io::Result<FileBackend> {
        let path = self.path(name);
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(PRIVATE).open(path)?;
        // Also one that was made or copied with another mode.
        file.set_permissions(Permissions::from_mode(PRIVATE))?;
        if is_new {
            // Without this a power cut may take the file with all that was synced into it.
            File::open(&self.0)?.sync_all()?;
        }
        FileBackend::new(file).map_err(io::Error::other)
    }

    fn path(&self, name: &'static str) -> PathBuf {
        self.0.join(name)
    }
}
