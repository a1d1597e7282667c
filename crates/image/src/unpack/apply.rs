//! Entries of an archive, done to a directory one after the other.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ftruncate, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::meta::Meta;
use super::root::{Root, clean, join, split};
use super::whiteout::{self, Name};
use super::{Rights, UnpackError, Unpacked, failed, lossy, stream_failed};
use crate::limits::Budget;
use crate::tar::{Entry, Kind, TarReader};

/// What remembering one name takes besides the name.
const REMEMBERED_BYTES: usize = 128;

pub(super) struct Applier {
    root: Root,
    budget: Budget,
    rights: Rights,
    unpacked: Unpacked,
    /// Bytes of what is remembered below, and of what was.
    names: u64,
    /// Hard links to lower layers, in the order of the archive.
    links: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    /// Directories get what they should have last: until then files are made in them.
    directories: BTreeMap<Vec<u8>, Meta>,
    /// The directory that the last entry lay in: mostly also the next one's.
    last: Option<Parent>,
}

struct Parent {
    /// As the archive writes it.
    written: Vec<u8>,
    /// As it is on disk.
    path: Vec<u8>,
    fd: OwnedFd,
}

impl Applier {
    pub(super) fn open(into: &Path, budget: &Budget, rights: Rights) -> Result<Self, UnpackError> {
        Ok(Self {
            root: Root::open(into)?,
            budget: budget.clone(),
            rights,
            unpacked: Unpacked::default(),
            names: 0,
            links: BTreeMap::new(),
            directories: BTreeMap::new(),
            last: None,
        })
    }

    pub(super) fn apply<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut TarReader<R>,
        buffer: &mut [u8],
    ) -> Result<(), UnpackError> {
        self.count(entry)?;
        self.place(entry, archive, buffer).map_err(|error| error.needing(self.unpacked.bytes))
    }

    fn place<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut TarReader<R>,
        buffer: &mut [u8],
    ) -> Result<(), UnpackError> {
        let written = clean(&entry.path)?;
        if written.is_empty() {
            // The root itself.
            if entry.kind == Kind::Directory {
                self.remember(Vec::new(), Meta::of(entry))?;
            }
            return Ok(());
        }
        let (directory, name) = split(&written);
        match whiteout::classify(name) {
            Name::Ignored => Ok(()),
            Name::Unusable => Err(UnpackError::Whiteout { path: lossy(&entry.path) }),
            Name::Opaque => {
                let rights = self.rights;
                let parent = self.parent(directory)?;
                whiteout::make_opaque(&parent.fd, b"", &parent.path, rights)
            }
            Name::Whiteout(hidden) => self.hide(directory, hidden),
            Name::Plain => self.create(directory, name, entry, archive, buffer),
        }
    }

    fn count(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        let limits = self.budget.limits;
        self.unpacked.entries += 1;
        if self.unpacked.entries > limits.layer_entries {
            return Err(UnpackError::limit("layer_entries", limits.layer_entries));
        }
        if !self.budget.take_entry() {
            return Err(UnpackError::limit("image_entries", limits.image_entries));
        }
        count_bytes(&mut self.unpacked.bytes, entry.size, &self.budget)
    }

    /// Notes what a directory is to be like at the end.
    fn remember(&mut self, path: Vec<u8>, meta: Meta) -> Result<(), UnpackError> {
        self.count_names(path.len() + meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>())?;
        self.directories.insert(path, meta);
        Ok(())
    }

    fn count_names(&mut self, bytes: usize) -> Result<(), UnpackError> {
        self.names += (REMEMBERED_BYTES + bytes) as u64;
        match self.names > self.budget.limits.layer_names {
            true => Err(UnpackError::limit("layer_names", self.budget.limits.layer_names)),
            false => Ok(()),
        }
    }

    /// Hides a name of the layers below; what this layer itself has under that name stays.
    fn hide(&mut self, directory: &[u8], name: &[u8]) -> Result<(), UnpackError> {
        let rights = self.rights;
        let parent = self.parent(directory)?;
        let path = join(&parent.path, name);
        match statat(&parent.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => whiteout::hide(&parent.fd, name, &path),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                // Entries of the same layer may come in any order; the one below is gone, this one is new.
                let made_up = self.unpacked.implied.contains(&path);
                let parent = self.parent(directory)?;
                whiteout::make_opaque(&parent.fd, name, &path, rights)?;
                if made_up {
                    self.unpacked.implied.remove(&path);
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(errno) => Err(failed("find", &path)(errno)),
        }
    }

    fn create<R: Read>(
        &mut self,
        directory: &[u8],
        name: &[u8],
        entry: &Entry,
        archive: &mut TarReader<R>,
        buffer: &mut [u8],
    ) -> Result<(), UnpackError> {
        let rights = self.rights;
        let meta = Meta::of(entry);
        let (path, was) = {
            let parent = self.parent(directory)?;
            (join(&parent.path, name), existing(&parent.fd, name))
        };
        let was = was.map_err(failed("find", &path))?;
        if entry.kind == Kind::Directory && was == Existing::Directory {
            self.unpacked.implied.remove(&path);
            return self.remember(path, meta);
        }
        // Found before anything is removed: a link to itself must not destroy its own target.
        let target = match &entry.kind {
            Kind::Hardlink(target) => self.link_target(&path, target)?,
            _ => None,
        };
        if target.as_ref().is_some_and(|(directory, name)| join(directory, name) == path) {
            return Ok(());
        }
        let from = match &target {
            Some((from, name)) => Some((self.root.directory(from).map_err(failed("open", from))?, name)),
            None => None,
        };
        if was != Existing::Nothing {
            self.remove(directory, name, &path)?;
        }
        let parent = self.parent(directory)?;
        let fd = &parent.fd;
        match &entry.kind {
            Kind::File => write_file(fd, name, &path, entry, archive, buffer, &meta, rights)?,
            Kind::Directory => {
                mkdirat(fd, name, Mode::from(0o700)).map_err(failed("make directory", &path))?;
                if was == Existing::Whiteout {
                    whiteout::make_opaque(fd, name, &path, rights)?;
                }
                self.remember(path, meta)?;
            }
            Kind::Symlink(target) => {
                symlinkat(&target[..], fd, name).map_err(failed("make symbolic link", &path))?;
                meta.set_at(fd, name, &path, true, rights)?;
            }
            Kind::Hardlink(written) => match from {
                Some((from, from_name)) => {
                    linkat(&from, &from_name[..], fd, name, AtFlags::empty()).map_err(failed("link", &path))?;
                }
                None => {
                    let target = clean(written)?;
                    self.count_names(path.len() + target.len())?;
                    self.links.insert(path, (self.unpacked.entries, target));
                }
            },
            Kind::Fifo => {
                mknodat(fd, name, FileType::Fifo, Mode::from(0o600), 0).map_err(failed("make pipe", &path))?;
                meta.set_at(fd, name, &path, false, rights)?;
            }
            Kind::CharDevice { major, minor } => {
                let device = makedev(*major, *minor);
                make_device(fd, name, &path, FileType::CharacterDevice, device, &meta, rights)?;
            }
            Kind::BlockDevice { major, minor } => {
                let device = makedev(*major, *minor);
                make_device(fd, name, &path, FileType::BlockDevice, device, &meta, rights)?;
            }
        }
        Ok(())
    }

    /// Directory and name of the file that a hard link means; `None` when this layer does not have it.
    fn link_target(&self, path: &[u8], written: &[u8]) -> Result<Option<Target>, UnpackError> {
        let target = clean(written)?;
        let wrong = || UnpackError::LinkTarget { path: lossy(path), target: lossy(written) };
        let (directory, name) = split(&target);
        if name.is_empty() {
            return Err(wrong());
        }
        let Ok(way) = self.root.resolve(directory, false) else { return Ok(None) };
        let fd = self.root.directory(&way.path).map_err(failed("open", &way.path))?;
        match existing(&fd, name).map_err(failed("find", &target))? {
            Existing::Nothing | Existing::Whiteout => Ok(None),
            Existing::Directory => Err(wrong()),
            Existing::Other => Ok(Some((way.path, name.to_vec()))),
        }
    }

    /// The directory that an entry goes into, made where the archive left it out.
    fn parent(&mut self, written: &[u8]) -> Result<&Parent, UnpackError> {
        if self.last.as_ref().is_none_or(|last| last.written != written) {
            let way = self.root.resolve(written, true)?;
            for made in way.made.into_iter().filter(|made| !way.uncovered.contains(made)) {
                self.count_names(made.len())?;
                self.unpacked.implied.insert(made);
            }
            for path in &way.uncovered {
                let (directory, name) = split(path);
                let parent = self.root.directory(directory).map_err(failed("open", directory))?;
                whiteout::make_opaque(&parent, name, path, self.rights)?;
            }
            let fd = self.root.directory(&way.path).map_err(failed("open", &way.path))?;
            self.last = Some(Parent { written: written.to_vec(), path: way.path, fd });
        }
        Ok(self.last.as_ref().expect("set just now"))
    }

    /// Takes away what an earlier entry made: the last one of a name wins.
    fn remove(&mut self, directory: &[u8], name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        let parent = self.parent(directory)?;
        remove_tree(&parent.fd, name).map_err(failed("replace", path))?;
        // Directories may be gone that were remembered; what else is remembered is not looked through.
        forget(&mut self.directories, path);
        forget(&mut self.links, path);
        let implied: Vec<_> = self.unpacked.implied.range(below(path)).cloned().collect();
        for gone in implied.iter().map(Vec::as_slice).chain([path]) {
            self.unpacked.implied.remove(gone);
        }
        if self.last.as_ref().is_some_and(|last| last.path == path || below(path).contains(&last.path)) {
            self.last = None;
        }
        Ok(())
    }

    /// Gives the directories their owners, modes and times, now that nothing more is made in them.
    pub(super) fn finish(mut self) -> Result<Unpacked, UnpackError> {
        let mut links: Vec<_> = std::mem::take(&mut self.links).into_iter().collect();
        links.sort_by_key(|(_, (entry, _))| *entry);
        self.unpacked.links = links.into_iter().map(|(link, (_, target))| (link, target)).collect();
        for (path, meta) in self.directories.iter().rev() {
            let fd = self.root.at(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open", path))?;
            meta.set(&fd, path, self.rights)?;
        }
        Ok(self.unpacked)
    }
}

/// Adds to the bytes of a layer, within what it and its image may have.
pub(super) fn count_bytes(layer: &mut u64, more: u64, budget: &Budget) -> Result<(), UnpackError> {
    *layer = layer.saturating_add(more);
    if *layer > budget.limits.layer_bytes {
        return Err(UnpackError::limit("layer_bytes", budget.limits.layer_bytes));
    }
    match budget.take_bytes(more) {
        true => Ok(()),
        false => Err(UnpackError::limit("image_bytes", budget.limits.image_bytes)),
    }
}

/// The paths of what lies in a directory: `a/`, but not `a0`.
fn below(path: &[u8]) -> Range<Vec<u8>> {
    [path, b"/"].concat()..[path, b"0"].concat()
}

fn forget<T>(known: &mut BTreeMap<Vec<u8>, T>, path: &[u8]) {
    known.remove(path);
    let gone: Vec<_> = known.range(below(path)).map(|(path, _)| path.clone()).collect();
    gone.iter().for_each(|path| drop(known.remove(path)));
}

/// Directory and name, without symbolic links.
type Target = (Vec<u8>, Vec<u8>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Nothing,
    Directory,
    Whiteout,
    Other,
}

fn existing(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<Existing> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(Existing::Nothing),
        Err(errno) => Err(errno),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(Existing::Directory),
        Ok(stat) if whiteout::is_whiteout(&stat) => Ok(Existing::Whiteout),
        Ok(_) => Ok(Existing::Other),
    }
}

#[expect(clippy::too_many_arguments, reason = "where it goes, what it is, where it comes from: nothing to group")]
fn write_file<R: Read>(
    parent: &OwnedFd,
    name: &[u8],
    path: &[u8],
    entry: &Entry,
    archive: &mut TarReader<R>,
    buffer: &mut [u8],
    meta: &Meta,
    rights: Rights,
) -> Result<(), UnpackError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::from(0o600)).map_err(failed("make file", path))?;
    let mut disk = None;
    let mut end = 0;
    let copied = archive.content(entry, buffer, |at, mut bytes| {
        end = at + bytes.len() as u64;
        let mut at = at;
        while !bytes.is_empty() {
            match rustix::io::pwrite(&file, bytes, at) {
                Ok(n) => {
                    bytes = &bytes[n..];
                    at += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => {
                    disk = Some(errno);
                    return Err(io::Error::from(errno));
                }
            }
        }
        Ok(())
    });
    match (copied, disk) {
        (Ok(()), _) => {}
        (Err(_), Some(errno)) => return Err(failed("write", path)(errno)),
        (Err(error), None) => return Err(stream_failed(error)),
    }
    if end != entry.size {
        // A hole at the end.
        ftruncate(&file, entry.size).map_err(failed("write", path))?;
    }
    meta.set(&file, path, rights)
}

fn make_device(
    parent: &OwnedFd,
    name: &[u8],
    path: &[u8],
    kind: FileType,
    device: rustix::fs::Dev,
    meta: &Meta,
    rights: Rights,
) -> Result<(), UnpackError> {
    match mknodat(parent, name, kind, Mode::from(0o600), device) {
        Ok(()) => meta.set_at(parent, name, path, false, rights),
        // Who may make no devices gets an image without them; a container's own /dev is none of the image's business.
        Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(failed("make device", path)(errno)),
    }
}

/// Removes a file or a whole directory, never through a symbolic link.
fn remove_tree(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_tree(&directory, name)?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}
