//! What the first process of a container does to be in it: mounts, devices and masks, and then the way in for good.
//!
//! Every place is looked up beneath the container's root, without following anything out of it, and held by a descriptor until
//! something is mounted there: what an image or a neighbour in a volume has laid out leads nowhere else.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, openat2},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
    },
};

use super::{
    layout::{Content, LINKS, Layout, Mounted, Node},
    syscalls,
    volumes::beneath,
};
use crate::confinement::Propagation;

/// Of directories and files that are made for something to be mounted on.
const POINT_DIRECTORY: Mode = Mode::from_raw_mode(0o755);
const POINT_FILE: Mode = Mode::from_raw_mode(0o644);

/// What programs begin with.
pub(super) const UMASK: Mode = Mode::WGRP.union(Mode::WOTH);

/// Makes all of a layout in a root that is mounted nowhere yet, and goes in. The process must be alone in its mount namespace, and sees nothing but the container
/// afterwards. Programs start in its directory, unless only their user may enter that: then `false` comes back.
pub(super) fn move_in(root: &OwnedFd, layout: &Layout) -> io::Result<bool> {
    // What is made here has the modes that are asked for.
    rustix::process::umask(Mode::empty());
    step("prepare the root", || lay_over(root, layout.propagation))?;
    for mounted in &layout.mounts {
        step(format!("mount `{}`", mounted.target.display()), || mount(root, mounted))?;
    }
    step("make `/dev`", || furnish_devices(root, layout))?;
    step(format!("make the working directory `{}`", layout.dir.display()), || {
        beneath(root, inside(&layout.dir), Some(POINT_DIRECTORY)).map(drop)
    })?;
    mask(root, layout)?;
    step("enter the root", || enter(root, layout))?;
    rustix::process::umask(UMASK);
    enter_directory(&layout.dir)
}

/// Whether we could: somebody else's directory may be closed even to root, in a user namespace.
pub(super) fn enter_directory(dir: &Path) -> io::Result<bool> {
    match std::env::set_current_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(explain(&format!("enter the working directory `{}`", dir.display()), &error)),
        Ok(()) => Ok(true),
    }
}

fn step<T>(what: impl AsRef<str>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act().map_err(|error| explain(what.as_ref(), &error))
}

fn explain(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}

/// Lays the container's root over the machine's, which stays what absolute paths begin at until it is taken away.
fn lay_over(root: &OwnedFd, propagation: Propagation) -> io::Result<()> {
    let kind = match propagation {
        Propagation::None => MountPropagationFlags::PRIVATE,
        Propagation::HostToContainer => MountPropagationFlags::DOWNSTREAM,
        // Shared within the container; only what is held as shared with the machine reaches it.
        Propagation::Bidirectional => MountPropagationFlags::SHARED,
    };
    mount_change("/", kind | MountPropagationFlags::REC)?;
    if propagation == Propagation::Bidirectional {
        // What lies over it would be shared, too, and could not take its place.
        mount_change("/", MountPropagationFlags::PRIVATE)?;
    }
    Ok(move_mount(root.as_fd(), "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn inside(path: &Path) -> &Path {
    match path.strip_prefix("/").unwrap_or(path) {
        root if root == Path::new("") => Path::new("."),
        path => path,
    }
}

/// Something that exists in the container.
fn look(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, inside(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags)
}

fn mount(root: &OwnedFd, mounted: &Mounted) -> io::Result<()> {
    let (tree, is_directory) = match &mounted.content {
        Content::New { kind, options } => (new(kind, options, mounted.attributes)?, true),
        Content::Bound { source, recursive } => {
            let tree = bound(CWD, source, *recursive)?;
            if !mounted.attributes.is_empty() {
                syscalls::set_mount_attributes(tree.as_fd(), mounted.attributes, mounted.with_all_below)?;
            }
            let is_directory = kind(&tree)? == FileType::Directory;
            (tree, is_directory)
        }
    };
    let point = match is_directory {
        true => beneath(root, inside(&mounted.target), Some(POINT_DIRECTORY))?,
        false => file_point(root, inside(&mounted.target))?,
    };
    attach(&tree, &point)
}

fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    options.iter().try_for_each(|(name, value)| fsconfig_set_string(context.as_fd(), *name, *value))?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn bound(at: BorrowedFd<'_>, source: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(at, source, flags).map_err(|error| explain(&format!("find `{}`", source.display()), &error.into()))
}

/// Whatever is there is covered, unless it is a directory.
fn file_point(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    match look(root, path) {
        Err(rustix::io::Errno::NOENT) => {}
        found => return Ok(found?),
    }
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let parent = match path.parent().filter(|parent| *parent != Path::new("")) {
        Some(parent) => beneath(root, parent, Some(POINT_DIRECTORY))?,
        None => root.try_clone()?,
    };
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, POINT_FILE)?)
}

fn attach(tree: &OwnedFd, point: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree.as_fd(), "", point.as_fd(), "", flags)?)
}

fn kind(file: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// `/dev` is our own by now, and empty but for what is mounted in it.
fn furnish_devices(root: &OwnedFd, layout: &Layout) -> io::Result<()> {
    let dev = look(root, Path::new("/dev"))?;
    for node in &layout.devices {
        let done = if layout.bind_devices { bind_device(&dev, node) } else { make_device(&dev, node) };
        done.map_err(|error| explain(&format!("make the device `{}`", node.name.display()), &error))?;
    }
    for (target, name) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn make_device(dev: &OwnedFd, node: &Node) -> io::Result<()> {
    if let Some(parent) = node.name.parent().filter(|parent| *parent != Path::new("")) {
        beneath(dev, parent, Some(POINT_DIRECTORY))?;
    }
    let device = rustix::fs::makedev(node.major, node.minor);
    rustix::fs::mknodat(dev, &node.name, node.kind, Mode::from_raw_mode(node.mode), device)?;
    let (uid, gid) = node.owner;
    if node.owner != (0, 0) {
        rustix::fs::chownat(
            dev,
            &node.name,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

fn bind_device(dev: &OwnedFd, node: &Node) -> io::Result<()> {
    let source = Path::new("/dev").join(&node.name);
    let found = rustix::fs::open(&source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let point = file_point(dev, &node.name)?;
    attach(&bound(found.as_fd(), Path::new(""), false)?, &point)
}

/// Covers what tells about the machine, and protects what changes it. What is not there needs neither.
fn mask(root: &OwnedFd, layout: &Layout) -> io::Result<()> {
    for path in &layout.masked {
        let Some(found) = found(root, path)? else { continue };
        let name = format!("mask `{}`", path.display());
        step(name, || attach(&cover(kind(&found)? == FileType::Directory)?, &found))?;
    }
    for path in &layout.read_only {
        let Some(found) = found(root, path)? else { continue };
        step(format!("protect `{}`", path.display()), || {
            let tree = bound(found.as_fd(), Path::new(""), true)?;
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                | MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            syscalls::set_mount_attributes(tree.as_fd(), attributes, true)?;
            attach(&tree, &found)
        })?;
    }
    Ok(())
}

fn found(root: &OwnedFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    match look(root, path) {
        Ok(found) => Ok(Some(found)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(explain(&format!("look at `{}`", path.display()), &error.into())),
    }
}

/// Nothing, as a directory or as a file. The file is the machine's own `/dev/null`: a container's could be anything.
fn cover(directory: bool) -> io::Result<OwnedFd> {
    if directory {
        return new("tmpfs", &[("mode", "755")], MountAttrFlags::MOUNT_ATTR_RDONLY);
    }
    let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let status = rustix::fs::fstat(&null)?;
    let is_null = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == rustix::fs::makedev(1, 3);
    match is_null {
        true => bound(null.as_fd(), Path::new(""), false),
        false => Err(io::Error::other("the machine's `/dev/null` is something else")),
    }
}

/// Goes in for good: the machine's files are behind a door that is gone.
fn enter(root: &OwnedFd, layout: &Layout) -> io::Result<()> {
    if layout.read_only_root {
        syscalls::set_mount_attributes(root.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
    }
    let outside = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::process::fchdir(&outside)?;
    // What is taken away here stays where others see it.
    mount_change(".", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    if layout.propagation == Propagation::Bidirectional {
        mount_change("/", MountPropagationFlags::SHARED)?;
    }
    Ok(())
}

/// The nodes of the machine's `/dev`, for a container that may use them all.
pub(super) fn machine_devices() -> Vec<Node> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let devices = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => FileType::CharacterDevice,
            kind if kind.is_block_device() => FileType::BlockDevice,
            _ => return None,
        };
        let name = entry.file_name();
        // The container has its own terminals.
        if name == "ptmx" || name == "console" {
            return None;
        }
        let number = metadata.rdev();
        Some(Node {
            name: name.into(),
            kind,
            major: rustix::fs::major(number),
            minor: rustix::fs::minor(number),
            mode: metadata.mode() & 0o777,
            owner: (metadata.uid(), metadata.gid()),
        })
    });
    devices.collect()
}
