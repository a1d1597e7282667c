//! How an image says "not here any more", and how overlayfs wants to hear it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, XattrFlags, fsetxattr, mkdirat, mknodat, openat, unlinkat};
use rustix::io::Errno;

use super::{Rights, UnpackError, failed, lossy};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bookkeeping of a file system that some old builders used.
const AUFS: &[u8] = b".wh..wh.";

/// What a file name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name<'a> {
    Plain,
    /// Hides this name of the layers below.
    Whiteout(&'a [u8]),
    /// Hides everything that the layers below have in this directory.
    Opaque,
    Ignored,
    Unusable,
}

pub(super) fn classify(name: &[u8]) -> Name<'_> {
    match name.strip_prefix(PREFIX) {
        None => Name::Plain,
        Some(_) if name == OPAQUE => Name::Opaque,
        Some(_) if name.starts_with(AUFS) => Name::Ignored,
        Some(b"" | b"." | b"..") => Name::Unusable,
        Some(hidden) => Name::Whiteout(hidden),
    }
}

/// A character device 0/0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Hides a name; anyone may make this one device.
pub(super) fn hide(parent: &impl AsFd, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
    mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0).map_err(failed("make whiteout", path))
}

/// Puts a directory in a whiteout's place; the caller makes it opaque.
pub(super) fn uncover(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
    unlinkat(parent, name, AtFlags::empty()).map_err(failed("remove", path))?;
    mkdirat(parent, name, Mode::from(0o755)).map_err(failed("make directory", path))
}

pub(super) fn opaque_attribute(rights: Rights) -> &'static str {
    if rights.root { "trusted.overlay.opaque" } else { "user.overlay.opaque" }
}

/// Hides what the layers below have in a directory.
pub(super) fn make_opaque(parent: &impl AsFd, name: &[u8], path: &[u8], rights: Rights) -> Result<(), UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = if name.is_empty() { b"." } else { name };
    let directory = openat(parent, name, flags, Mode::empty()).map_err(failed("open", path))?;
    fsetxattr(&directory, opaque_attribute(rights), b"y", XattrFlags::empty()).map_err(|errno| match errno {
        Errno::OPNOTSUPP => UnpackError::Io {
            act: "mark as opaque (the file system of the data directory keeps no extended attributes)",
            path: lossy(path),
            source: errno.into(),
        },
        errno => failed("mark as opaque", path)(errno),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(classify(b"etc"), Name::Plain);
        assert_eq!(classify(b".wh.etc"), Name::Whiteout(b"etc"));
        assert_eq!(classify(b".wh..wh..opq"), Name::Opaque);
        assert_eq!(classify(b".wh..wh.plnk"), Name::Ignored);
        assert_eq!(classify(b".wh..hidden"), Name::Whiteout(b".hidden"));
        for name in [&b".wh."[..], b".wh..", b".wh..."] {
            assert_eq!(classify(name), Name::Unusable);
        }
    }
}
