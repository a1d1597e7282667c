//! A layer meets the layers below it: directories that it only implies take after theirs, and hard links find their files.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fgetxattr, flistxattr, fstat, linkat, openat, readlinkat,
    renameat, seek, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::apply::count_bytes;
use super::meta::{Meta, may_be_set};
use super::root::{Root, components, join, split};
use super::whiteout::{is_whiteout, opaque_attribute};
use super::{Rights, UnpackError, Unpacked, failed, lossy};
use crate::limits::{Budget, MAX_SYMLINKS};

/// Extended attributes that are copied are no larger.
const MAX_XATTR_BYTES: usize = 64 << 10;

/// Completes the layer in `into` upon `lowers`, bottom first.
pub(crate) fn settle(
    into: &Path,
    unpacked: &mut Unpacked,
    lowers: &[&Path],
    budget: &Budget,
    rights: Rights,
) -> Result<(), UnpackError> {
    let own = Root::open(into)?;
    let lowers = lowers.iter().rev().map(|lower| Root::open(lower)).collect::<Result<Vec<_>, _>>()?;
    let stack = Stack { own, lowers, rights };
    // Sorted, so that a directory comes before what lies in it.
    for path in &unpacked.implied {
        stack.adopt(path)?;
    }
    for (link, target) in &unpacked.links {
        stack.link(link, target, &mut unpacked.bytes, budget).map_err(|error| error.needing(unpacked.bytes))?;
    }
    Ok(())
}

struct Stack {
    own: Root,
    /// Topmost first.
    lowers: Vec<Root>,
    rights: Rights,
}

impl Stack {
    fn adopt(&self, path: &[u8]) -> Result<(), UnpackError> {
        // Moved already, together with a directory above it.
        let Ok(own) = self.own.at(path, OFlags::RDONLY | OFlags::DIRECTORY) else { return Ok(()) };
        let Some((lower, stat)) = self.lookup(path)? else { return Ok(()) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let theirs = lower.at(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
                meta_of(&theirs, path)?.set(&own, path, self.rights)
            }
            // `lib/x` in an archive means `usr/lib/x` where a lower layer has `lib -> usr/lib`.
            FileType::Symlink => {
                let real = self.follow(path)?;
                self.relocate(path, &real)
            }
            _ => Ok(()),
        }
    }

    /// What the layers below have at a path, and which of them.
    fn lookup(&self, path: &[u8]) -> Result<Option<(&Root, Stat)>, UnpackError> {
        for lower in &self.lowers {
            match in_layer(lower, path, self.rights)? {
                Seen::There(stat) => return Ok(Some((lower, stat))),
                Seen::Hidden => return Ok(None),
                Seen::Nothing => {}
            }
        }
        Ok(None)
    }

    /// Where the symbolic links of the layers below lead.
    fn follow(&self, path: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let mut todo: Vec<Vec<u8>> = components(path).rev().map(<[u8]>::to_vec).collect();
        let mut done: Vec<u8> = Vec::new();
        let mut symlinks = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                done = split(&done).0.to_vec();
                continue;
            }
            let next = join(&done, &name);
            match self.lookup(&next)? {
                Some((lower, stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    symlinks += 1;
                    if symlinks > MAX_SYMLINKS {
                        return Err(UnpackError::TooManySymlinks { path: lossy(path), limit: MAX_SYMLINKS });
                    }
                    let here = lower.directory(&done).map_err(failed("open", &done))?;
                    let target = readlinkat(&here, &name[..], Vec::new()).map_err(failed("read link", &next))?;
                    if target.as_bytes().starts_with(b"/") {
                        done.clear();
                    }
                    todo.extend(components(target.as_bytes()).rev().map(<[u8]>::to_vec));
                }
                _ => done = next,
            }
        }
        Ok(done)
    }

    /// Moves the content of a directory that should not be there to where it belongs.
    fn relocate(&self, from: &[u8], to: &[u8]) -> Result<(), UnpackError> {
        let way = self.own.resolve(to, true)?;
        for made in &way.made {
            self.adopt(made)?;
        }
        let source = self.own.at(from, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", from))?;
        for entry in rustix::fs::Dir::read_from(&source).map_err(failed("read", from))? {
            let entry = entry.map_err(failed("read", from))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = join(&way.path, name);
            let target = self.own.directory(&way.path).map_err(failed("open", &way.path))?;
            let both_directories = [&source, &target].iter().all(|d| is_directory(d, name)) && path != join(from, name);
            if both_directories {
                self.relocate(&join(from, name), &path)?;
            } else {
                renameat(&source, name, &target, name).map_err(failed("move", &path))?;
            }
        }
        let (directory, name) = split(from);
        let parent = self.own.directory(directory).map_err(failed("open", directory))?;
        unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(failed("remove", from))
    }

    /// Brings the file of a lower layer into this one and links it.
    fn link(&self, link: &[u8], target: &[u8], bytes: &mut u64, budget: &Budget) -> Result<(), UnpackError> {
        let missing = || UnpackError::LinkTarget { path: lossy(link), target: lossy(target) };
        let (link_directory, link_name) = split(link);
        let way = self.own.resolve(link_directory, true)?;
        let link_parent = self.own.directory(&way.path).map_err(failed("open", &way.path))?;
        let (directory, name) = split(target);
        let real = join(&self.follow(directory)?, name);
        let (directory, name) = split(&real);
        let here = self.own.resolve(directory, true)?;
        for made in &here.made {
            self.adopt(made)?;
        }
        let parent = self.own.directory(&here.path).map_err(failed("open", &here.path))?;
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // An earlier link brought it.
            Ok(stat) if !is_whiteout(&stat) => {}
            Ok(_) => return Err(missing()),
            Err(Errno::NOENT) => {
                let (lower, stat) = self.lookup(&real)?.ok_or_else(missing)?;
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile => {
                        count_bytes(bytes, u64::try_from(stat.st_size).unwrap_or(0), budget)?;
                        copy_file(lower, &real, &parent, name, self.rights)?;
                    }
                    FileType::Symlink => {
                        let from = lower.directory(directory).map_err(failed("open", directory))?;
                        let to = readlinkat(&from, name, Vec::new()).map_err(failed("read link", &real))?;
                        symlinkat(&to, &parent, name).map_err(failed("make symbolic link", &real))?;
                        plain_meta(&stat).set_at(&parent, name, &real, true, self.rights)?;
                    }
                    _ => return Err(missing()),
                }
            }
            Err(errno) => return Err(failed("find", &real)(errno)),
        }
        linkat(&parent, name, &link_parent, link_name, AtFlags::empty()).map_err(failed("link", link))
    }
}

enum Seen {
    There(Stat),
    Hidden,
    Nothing,
}

/// What one layer says of a path: something is there, nothing below it may show, or nothing at all.
fn in_layer(layer: &Root, path: &[u8], rights: Rights) -> Result<Seen, UnpackError> {
    let names: Vec<&[u8]> = components(path).collect();
    let mut at: Vec<u8> = Vec::new();
    let mut opaque = false;
    for (index, name) in names.iter().enumerate() {
        let here = layer.at(&at, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", &at))?;
        opaque |= is_opaque(&here, rights);
        at = join(&at, name);
        let stat = match statat(&here, *name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if opaque => return Ok(Seen::Hidden),
            Err(Errno::NOENT) => return Ok(Seen::Nothing),
            Err(errno) => return Err(failed("find", &at)(errno)),
        };
        match (is_whiteout(&stat), index + 1 == names.len()) {
            (true, _) => return Ok(Seen::Hidden),
            (false, true) => return Ok(Seen::There(stat)),
            (false, false) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            (false, false) => return Ok(Seen::Hidden),
        }
    }
    fstat(&layer.directory(b"").map_err(failed("open", path))?).map(Seen::There).map_err(failed("find", path))
}

fn is_opaque(directory: &OwnedFd, rights: Rights) -> bool {
    let mut value = [0; 2];
    fgetxattr(directory, opaque_attribute(rights), &mut value[..]).is_ok_and(|n| n == 1 && value[0] == b'y')
}

fn is_directory(parent: &OwnedFd, name: &[u8]) -> bool {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn plain_meta(stat: &Stat) -> Meta {
    let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    Meta { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime, xattrs: Vec::new() }
}

fn meta_of(file: &OwnedFd, path: &[u8]) -> Result<Meta, UnpackError> {
    let mut meta = plain_meta(&fstat(file).map_err(failed("find", path))?);
    let mut names = vec![0; MAX_XATTR_BYTES];
    let length = flistxattr(file, &mut names[..]).unwrap_or(0);
    for name in names[..length].split(|b| *b == 0).filter(|name| may_be_set(name)) {
        let mut value = vec![0; MAX_XATTR_BYTES];
        if let Ok(length) = fgetxattr(file, name, &mut value[..]) {
            value.truncate(length);
            meta.xattrs.push((name.to_vec(), value));
        }
    }
    Ok(meta)
}

fn copy_file(lower: &Root, path: &[u8], parent: &OwnedFd, name: &[u8], rights: Rights) -> Result<(), UnpackError> {
    let source = lower.at(path, OFlags::RDONLY).map_err(failed("open", path))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(parent, name, flags, Mode::from(0o600)).map_err(failed("make file", path))?;
    let meta = meta_of(&source, path)?;
    let (source, target) = (std::fs::File::from(source), std::fs::File::from(target));
    copy_data(&source, &target).map_err(|error| match Errno::from_io_error(&error) {
        Some(errno) => failed("copy", path)(errno),
        None => UnpackError::Io { act: "copy", path: lossy(path), source: error },
    })?;
    meta.set(&OwnedFd::from(target), path, rights)
}

/// Copies what a file holds and none of its holes: these may be larger than the disk.
fn copy_data(mut source: &std::fs::File, mut target: &std::fs::File) -> std::io::Result<()> {
    let mut end = 0;
    loop {
        let start = match seek(source, SeekFrom::Data(end)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        end = seek(source, SeekFrom::Hole(start))?;
        seek(source, SeekFrom::Start(start))?;
        seek(target, SeekFrom::Start(start))?;
        std::io::copy(&mut Read::take(&mut source, end - start), &mut target)?;
    }
    target.set_len(source.metadata()?.len())
}
