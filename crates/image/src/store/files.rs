//! Files that are there whole or not at all, and locks between processes.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};

use super::StoreError;

/// Only their owner: layers hold setuid programs and whatever else images bring.
const DIRECTORY_MODE: u32 = 0o700;

pub(super) fn make_directory(path: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(StoreError::io("make", path))
}

/// A name that no other process and no other thread uses.
pub(super) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), std::process::id());
    format!("{}-{seed:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Replaces a file: on disk before it has its name.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_file_name(format!(".{}", unique()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    })();
    written.map_err(|source| {
        // Gone already when the rename was what worked.
        let _gone = fs::remove_file(&temporary);
        StoreError::io("write", path)(source)
    })
}

pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().expect("below the store"))?.sync_all()
}

/// Everything below a directory to disk.
pub(super) fn sync_all_below(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// A lock that ends with its value, or with its process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    With,
    Alone,
}

pub(super) fn lock(path: &Path, share: Share) -> Result<Lock, StoreError> {
    let operation = match share {
        Share::With => FlockOperation::LockShared,
        Share::Alone => FlockOperation::LockExclusive,
    };
    let file = open_lock(path)?;
    loop {
        match flock(&file, operation) {
            Ok(()) => return Ok(Lock { _file: file }),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(StoreError::io("lock", path)(errno.into())),
        }
    }
}

/// `None` when somebody else holds it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, StoreError> {
    let file = open_lock(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(None),
        Err(errno) => Err(StoreError::io("lock", path)(errno.into())),
    }
}

fn open_lock(path: &Path) -> Result<File, StoreError> {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    open.map_err(StoreError::io("open", path))
}

/// Removes a tree, also one whose directories forbid it to their owner.
pub(super) fn remove_tree(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_up(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
