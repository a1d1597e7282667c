//! Owners, modes, times and extended attributes.

use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr, futimens,
    utimensat,
};
use rustix::io::Errno;

use super::{Rights, UnpackError, failed};
use crate::tar::Entry;

/// What a file is like, apart from its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    pub(super) fn of(entry: &Entry) -> Self {
        let (mode, uid, gid, mtime) = (entry.mode, entry.uid, entry.gid, entry.mtime);
        let xattrs = entry.xattrs.iter().filter(|(name, _)| may_be_set(name)).cloned().collect();
        Self { mode, uid, gid, mtime, xattrs }
    }

    /// For files and directories, which can be opened.
    pub(super) fn set(&self, file: &impl AsFd, path: &[u8], rights: Rights) -> Result<(), UnpackError> {
        if rights.root {
            fchown(file, self.owner(), self.group()).map_err(failed("change owner of", path))?;
        }
        // After the owner: changing that takes setuid bits and capabilities away.
        fchmod(file, Mode::from(self.mode)).map_err(failed("change mode of", path))?;
        for (name, value) in &self.xattrs {
            match fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(Errno::PERM) if !rights.root => {}
                Err(errno) => return Err(failed("set an extended attribute of", path)(errno)),
            }
        }
        futimens(file, &self.times()).map_err(failed("set times of", path))
    }

    /// For what cannot be opened: links, devices, pipes.
    pub(super) fn set_at(
        &self,
        parent: &impl AsFd,
        name: &[u8],
        path: &[u8],
        is_link: bool,
        rights: Rights,
    ) -> Result<(), UnpackError> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        if rights.root {
            chownat(parent, name, self.owner(), self.group(), nofollow).map_err(failed("change owner of", path))?;
        }
        if !is_link {
            chmodat(parent, name, Mode::from(self.mode), AtFlags::empty()).map_err(failed("change mode of", path))?;
        }
        utimensat(parent, name, &self.times(), nofollow).map_err(failed("set times of", path))
    }

    fn owner(&self) -> Option<Uid> {
        (self.uid != u32::MAX).then(|| Uid::from_raw(self.uid))
    }

    fn group(&self) -> Option<Gid> {
        (self.gid != u32::MAX).then(|| Gid::from_raw(self.gid))
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1.into() };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// Attributes that an image may bring along. Those of overlayfs itself would let it point anywhere in the layers below, and
/// labels of the builder's machine mean nothing here.
pub(super) fn may_be_set(name: &[u8]) -> bool {
    let user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    user || name == b"security.capability"
}
