//! `fsGroup`: a volume belongs to a group of the pod, and so does what will be made in it.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, chownat, fstat, openat};

/// What a group may do in a volume that is written to, and where only the engine writes.
const READ_WRITE: u32 = 0o660;
const READ_ONLY: u32 = 0o440;
/// Directories can be passed through, and hand their group on.
const DIRECTORY: u32 = 0o2110;
/// How deep a volume may be nested.
const MAX_DEPTH: usize = 256;

/// A volume to be given to a group, however much lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::agent) struct Ownership {
    pub(super) path: PathBuf,
    pub(super) group: u32,
    /// `OnRootMismatch`: a volume whose top is right is right.
    pub(super) only_if_root_differs: bool,
}

impl Ownership {
    pub(in crate::agent) fn give(&self) -> io::Result<()> {
        if self.only_if_root_differs && is_given(&self.path, self.group)? {
            return Ok(());
        }
        give_all(&self.path, self.group)
            .map_err(|error| io::Error::new(error.kind(), format!("fsGroup of `{}`: {error}", self.path.display())))
    }
}

/// What a file of ours may be read by, once a group has it.
pub(super) fn readable(mode: u32) -> u32 {
    mode | READ_ONLY
}

/// A directory that only the engine writes to, with everything in it.
pub(super) fn give_read_only(path: &Path, group: u32) -> io::Result<()> {
    give(&open(CWD.as_fd(), path)?, group, READ_ONLY, 0)
}

fn give_all(path: &Path, group: u32) -> io::Result<()> {
    // The top of a volume may be reached by a link, what lies in it may not.
    let top = fs::canonicalize(path)?;
    give(&open(CWD.as_fd(), &top)?, group, READ_WRITE, 0)
}

/// Each thing is opened first, never by a link, and changed through what was opened: another pod may be at work in the volume.
fn give(entry: &OwnedFd, group: u32, access: u32, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("nested deeper than {MAX_DEPTH} directories")));
    }
    let status = fstat(entry)?;
    let kind = FileType::from_raw_mode(status.st_mode);
    chownat(entry, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    if kind == FileType::Symlink {
        return Ok(());
    }
    let more = if kind == FileType::Directory { access | DIRECTORY } else { access };
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    fs::set_permissions(&path, fs::Permissions::from_mode((status.st_mode & 0o7777) | more))?;
    if kind != FileType::Directory {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(entry, ".", flags, Mode::empty())?;
    for below in Dir::read_from(&directory)? {
        let below = below?;
        let name = below.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match open(directory.as_fd(), name) {
            // Gone since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => give(&found?, group, access, depth + 1)?,
        }
    }
    Ok(())
}

fn open(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(openat(at, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn is_given(path: &Path, group: u32) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let needed = READ_WRITE | DIRECTORY;
    let metadata = fs::metadata(path)?;
    Ok(metadata.gid() == group && metadata.mode() & needed == needed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn a_volume_is_given_with_everything_in_it_and_nothing_beside_it() {
        let place = tempfile::tempdir().expect("a directory");
        let (volume, outside) = (place.path().join("volume"), place.path().join("outside"));
        fs::create_dir_all(volume.join("sub")).expect("directories");
        fs::write(volume.join("sub/file"), "").expect("a file");
        fs::write(&outside, "").expect("a file");
        for (path, mode) in [(&volume, 0o755), (&volume.join("sub/file"), 0o600), (&outside, 0o600)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        symlink(&outside, volume.join("link")).expect("a link");
        // Our own group is one that we may always give.
        let group = rustix::process::getegid().as_raw();
        let mut wish = Ownership { path: volume.clone(), group, only_if_root_differs: false };
        wish.give().expect("given");
        let mode = |path: &Path| fs::symlink_metadata(path).expect("metadata").mode() & 0o7777;
        assert_eq!(mode(&volume), 0o2775);
        assert_eq!(mode(&volume.join("sub/file")), 0o660);
        assert_eq!(mode(&outside), 0o600, "a link leads nowhere");
        fs::set_permissions(volume.join("sub/file"), fs::Permissions::from_mode(0o600)).expect("a mode");
        wish.only_if_root_differs = true;
        wish.give().expect("nothing to do");
        assert_eq!(mode(&volume.join("sub/file")), 0o600, "the top is right, the rest is left alone");
    }
}
