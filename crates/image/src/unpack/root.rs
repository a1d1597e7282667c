//! Paths below a layer's directory, and nowhere else.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, statat};
use rustix::io::Errno;

use super::{UnpackError, failed, lossy, whiteout};
use crate::limits::{MAX_PATH_DEPTH, MAX_SYMLINKS};

/// A directory that paths are looked up in.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// The way to a directory: `path` has no symbolic link in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) path: Vec<u8>,
    /// The directories of it that were made on the way.
    pub(super) made: Vec<Vec<u8>>,
    /// Those of them that stand where a whiteout stood.
    pub(super) uncovered: Vec<Vec<u8>>,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, UnpackError> {
        use std::os::unix::ffi::OsStrExt as _;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(failed("open", path.as_os_str().as_bytes()))?;
        Ok(Self(root))
    }

    /// Opens what lies at a path without symbolic links; an empty path is the root itself.
    pub(super) fn at(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let path = if path.is_empty() { b"." } else { path };
        loop {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty(), resolve) {
                // The kernel says so when something else was renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
    }

    pub(super) fn directory(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.at(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Where a directory really lies, as a process inside the image would find it; made where it is missing, if asked to.
    pub(super) fn resolve(&self, path: &[u8], make: bool) -> Result<Way, UnpackError> {
        if self.directory(path).is_ok() {
            return Ok(Way { path: path.to_vec(), made: Vec::new(), uncovered: Vec::new() });
        }
        let mut way = Way { path: Vec::new(), made: Vec::new(), uncovered: Vec::new() };
        let mut todo: VecDeque<Vec<u8>> = components(path).map(<[u8]>::to_vec).collect();
        let mut symlinks = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                way.path = parent(&way.path).to_vec();
                continue;
            }
            let here = self.directory(&way.path).map_err(failed("open", &way.path))?;
            let next = join(&way.path, &name);
            let stat = match statat(&here, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) if make => {
                    mkdirat(&here, &name[..], Mode::from(0o755)).map_err(failed("make directory", &next))?;
                    way.made.push(next.clone());
                    way.path = next;
                    within_depth(&way.path)?;
                    continue;
                }
                Err(errno) => return Err(failed("find", &next)(errno)),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    way.path = next;
                    within_depth(&way.path)?;
                }
                FileType::Symlink => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(UnpackError::TooManySymlinks { path: lossy(path), limit: MAX_SYMLINKS });
                    }
                    let target = readlinkat(&here, &name[..], Vec::new()).map_err(failed("read link", &next))?;
                    if target.as_bytes().starts_with(b"/") {
                        way.path.clear();
                    }
                    components(target.as_bytes()).rev().for_each(|name| todo.push_front(name.to_vec()));
                    if todo.len() > MAX_PATH_DEPTH * 2 {
                        return Err(UnpackError::TooDeep { path: lossy(path), limit: MAX_PATH_DEPTH });
                    }
                }
                _ if make && whiteout::is_whiteout(&stat) => {
                    whiteout::uncover(&here, &name, &next)?;
                    way.made.push(next.clone());
                    way.uncovered.push(next.clone());
                    way.path = next;
                }
                _ => return Err(UnpackError::NotADirectory { path: lossy(path), what: lossy(&next) }),
            }
        }
        Ok(way)
    }
}

/// Links lead deeper than any one name says.
fn within_depth(path: &[u8]) -> Result<(), UnpackError> {
    match components(path).count() > MAX_PATH_DEPTH {
        true => Err(UnpackError::TooDeep { path: lossy(path), limit: MAX_PATH_DEPTH }),
        false => Ok(()),
    }
}

/// The parts of a path that lead somewhere.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// A path of an archive without its detours; one that climbs above the image is refused.
pub(super) fn clean(path: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for name in components(path) {
        if name == b".." {
            kept.pop().ok_or_else(|| UnpackError::Escapes { path: lossy(path) })?;
        } else {
            kept.push(name);
        }
        if kept.len() > MAX_PATH_DEPTH {
            return Err(UnpackError::TooDeep { path: lossy(path), limit: MAX_PATH_DEPTH });
        }
    }
    Ok(kept.join(&b'/'))
}

/// Directory and name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

pub(super) fn parent(path: &[u8]) -> &[u8] {
    split(path).0
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
