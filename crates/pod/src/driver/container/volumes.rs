//! The volumes of a pod's containers, each found once and held where nobody can exchange it.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, openat2, statx},
    mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{
    layout::{Access, Bind},
    rootfs::{is_mounted, memory_disk},
};
use crate::confinement::{Confinement, MemoryDisk, Mount, Propagation};

/// How deep an image's own directory may be nested that a volume of the image starts with.
const MAX_IMAGE_VOLUME_DEPTH: usize = 64;

#[derive(Debug)]
pub(super) struct Volumes {
    pod: PathBuf,
    /// The mount namespace of the machine, where a container's mounts are to show up; held when one may do that.
    machine: Option<File>,
}

impl Volumes {
    /// `shared`: some volume is propagated in both directions. Our parent is still the agent, which sees what the machine sees.
    pub(super) fn new(pod: &Path, shared: bool) -> io::Result<Self> {
        let parent = rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
        let machine = shared.then(|| File::open(format!("/proc/{parent}/ns/mnt"))).transpose()?;
        Ok(Self { pod: pod.to_owned(), machine })
    }

    /// What a container gets bound, below `held` where it must be held.
    pub(super) fn binds(&self, confinement: &Confinement, held: &Path) -> io::Result<Vec<Bind>> {
        let all = confinement.propagation();
        let binds = confinement.mounts.iter().enumerate().map(|(number, mount)| {
            let source = self.source(mount, all, &held.join(number.to_string()))?;
            let access = match (mount.read_only, mount.recursively) {
                (false, _) => Access::Full,
                (true, false) => Access::ReadOnly,
                (true, true) => Access::AllReadOnly,
            };
            Ok(Bind { source, target: mount.target.clone(), access })
        });
        binds.collect()
    }

    /// Where the content of a mount lies. What a container could have replaced by a link is looked up once, beneath its
    /// volume, and held by a mount of its own from then on.
    fn source(&self, wanted: &Mount, all: Propagation, held: &Path) -> io::Result<PathBuf> {
        let base = match wanted.memory {
            None => wanted.source.clone(),
            Some(disk) => self.memory_volume(&wanted.source, disk)?,
        };
        // Where nothing is propagated, everything in the container is its own anyway.
        if wanted.sub_path.is_none() && wanted.propagation == all && all != Propagation::Bidirectional {
            return Ok(base);
        }
        let tree = match (&self.machine, wanted.propagation) {
            (Some(machine), Propagation::Bidirectional) => self.on_machine(machine, || {
                let found = find(&base, wanted.sub_path.as_deref())?;
                is_shared(&found)?;
                clone(&found)
            })?,
            _ => clone(&find(&base, wanted.sub_path.as_deref())?)?,
        };
        attach(&tree, held)?;
        if wanted.propagation == Propagation::None {
            mount_change(held, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        }
        Ok(held.to_owned())
    }

    /// Does something in the machine's own mount namespace and comes back.
    fn on_machine<T>(&self, machine: &File, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let home = File::open("/proc/thread-self/ns/mnt")?;
        move_into_link_name_space(machine.as_fd(), Some(LinkNameSpaceType::Mount))?;
        let done = act();
        // Staying there would undo what keeps this pod's mounts to itself.
        move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Mount))?;
        std::env::set_current_dir(&self.pod)?;
        done
    }

    fn memory_volume(&self, name: &Path, disk: MemoryDisk) -> io::Result<PathBuf> {
        let place = memory_place(&self.pod, name);
        if !is_mounted(&place) {
            let size = disk.limit_bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
            let group = disk.group.map(|group| format!(",gid={group}")).unwrap_or_default();
            let mode = if disk.group.is_some() { "2777" } else { "1777" };
            memory_disk(&place, &format!("mode={mode}{size}{group}"))?;
        }
        Ok(place)
    }
}

/// Where a volume in memory is mounted, by the place that it would have on the disk.
pub(super) fn memory_place(pod: &Path, name: &Path) -> PathBuf {
    pod.join("run/memory").join(name.file_name().unwrap_or_default())
}

/// A volume, or what lies in it.
fn find(base: &Path, sub_path: Option<&Path>) -> io::Result<OwnedFd> {
    let volume = rustix::fs::open(base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", base.display())))?;
    match sub_path {
        Some(sub_path) => beneath(&volume, sub_path, None).map_err(|error| named(sub_path, &error)),
        None => Ok(volume),
    }
}

/// Opens `path` below `root`, made first if it is not there, without ever following a link out of `root`. A new directory is as
/// open as the root unless a mode is given.
pub(super) fn beneath(root: &OwnedFd, path: &Path, mode: Option<Mode>) -> io::Result<OwnedFd> {
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), flags) {
        Err(rustix::io::Errno::NOENT) => {}
        found => return Ok(found?),
    }
    let mode = match mode {
        Some(mode) => mode,
        None => Mode::from_raw_mode(rustix::fs::fstat(root)?.st_mode & 0o7777),
    };
    let mut here = root.try_clone()?;
    let mut walked = PathBuf::new();
    for part in path.components() {
        let Component::Normal(part) = part else { continue };
        walked.push(part);
        match rustix::fs::mkdirat(&here, part, mode) {
            // The umask has no say.
            Ok(()) => {
                let made = openat2(root, &walked, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty(), flags)?;
                rustix::fs::fchmod(made, mode)?;
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        here = openat2(root, &walked, OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty(), flags)?;
    }
    Ok(here)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("subPath `{}` cannot be used: {error}", path.display()))
}

/// What a container mounts reaches the machine only through a mount that is shared there.
fn is_shared(found: &OwnedFd) -> io::Result<()> {
    let path = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let number = statx(found, "", AtFlags::EMPTY_PATH, rustix::fs::StatxFlags::MNT_ID)?.stx_mnt_id;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    if shared_in(&table, number) {
        return Ok(());
    }
    Err(io::Error::other(format!("path `{}` does not lie on a shared mount of the machine", path.display())))
}

fn shared_in(mountinfo: &str, number: u64) -> bool {
    let mut fields = mountinfo.lines().map(|line| line.split(' '));
    let found = fields.find_map(|mut line| (line.next()?.parse() == Ok(number)).then_some(line));
    found.is_some_and(|line| line.skip(5).take_while(|field| *field != "-").any(|field| field.starts_with("shared:")))
}

fn clone(found: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(found, "", flags)?)
}

/// Mounts a tree onto a place that only we know.
fn attach(tree: &OwnedFd, place: &Path) -> io::Result<()> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode);
    match kind {
        FileType::Directory => fs::create_dir_all(place)?,
        _ => {
            fs::create_dir_all(place.parent().unwrap_or(place))?;
            File::create(place)?;
        }
    }
    Ok(move_mount(tree.as_fd(), "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Clears the way for files that are mounted over what an image has: a link there that leads nowhere cannot be mounted on. Such
/// are `/etc/resolv.conf` in images of systems that would make its target when they boot.
pub(super) fn clear_way(root: BorrowedFd<'_>, binds: &[Bind]) -> io::Result<()> {
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let look = |path: &Path, more| openat2(root, path, OFlags::PATH | OFlags::CLOEXEC | more, Mode::empty(), flags);
    for target in binds.iter().filter(|bind| bind.source.is_file()).map(|bind| bind.target.as_path()) {
        let inside = target.strip_prefix("/").unwrap_or(target);
        let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else { continue };
        let is_link = look(inside, OFlags::NOFOLLOW).is_ok_and(|found| {
            rustix::fs::fstat(&found).is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Symlink)
        });
        if is_link && look(inside, OFlags::empty()).is_err_and(|error| error == rustix::io::Errno::NOENT) {
            let parent = if parent == Path::new("") { Path::new(".") } else { parent };
            rustix::fs::unlinkat(look(parent, OFlags::DIRECTORY)?, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// The volumes that an image declares, where no mount takes their place: each begins with what the image has there, and ends
/// with the container.
pub(super) fn anonymous(confinement: &Confinement, root: BorrowedFd<'_>, volumes: &Path) -> io::Result<Vec<Bind>> {
    let taken = |path: &Path| confinement.mounts.iter().any(|mount| mount.target == path);
    let wanted = confinement.image_volumes.iter().filter(|path| path.is_absolute() && !taken(path)).enumerate();
    let binds = wanted.map(|(number, path)| {
        let volume = volumes.join(number.to_string());
        fs::create_dir_all(&volume)?;
        let inside = path.strip_prefix("/").unwrap_or(path);
        let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(root, inside, OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty(), flags) {
            Ok(found) => copy_tree(Path::new(&format!("/proc/self/fd/{}", found.as_raw_fd())), &volume, 0)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Bind { source: volume, target: path.clone(), access: Access::Full })
    });
    binds.collect()
}

/// Copies what a directory holds, and who may use it. Nothing runs in it yet that could exchange anything.
fn copy_tree(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    if depth > MAX_IMAGE_VOLUME_DEPTH {
        return Err(io::Error::other("a volume of the image is nested too deeply"));
    }
    let own = fs::metadata(from)?;
    chown(to, Some(own.uid()), Some(own.gid()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(own.mode() & 0o7777))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&source, &target, depth + 1)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source)?, &target)?;
            lchown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
            chown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
            fs::set_permissions(&target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_a_volume_leads_nowhere_else() {
        let volume = tempfile::tempdir().expect("a directory");
        fs::create_dir(volume.path().join("data")).expect("a directory");
        symlink("/etc", volume.path().join("etc")).expect("a link");
        symlink("../../../..", volume.path().join("up")).expect("a link");
        let lead = |path: &str| {
            let found = find(volume.path(), Some(Path::new(path)))?;
            fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
        };
        assert_eq!(lead("data").expect("a directory"), volume.path().join("data"));
        assert_eq!(lead("up").expect("the volume itself"), volume.path());
        assert_eq!(lead("../data").expect("a directory"), volume.path().join("data"));
        assert_eq!(lead("new/below").expect("a new directory"), volume.path().join("new/below"));
        // `/etc` means the volume's own, which is not there.
        assert!(lead("etc/passwd").is_err());
    }

    #[test]
    fn a_new_directory_is_as_open_as_its_volume() {
        let volume = tempfile::tempdir().expect("a directory");
        fs::set_permissions(volume.path(), fs::Permissions::from_mode(0o2775)).expect("a mode");
        find(volume.path(), Some(Path::new("a/b"))).expect("new directories");
        for made in ["a", "a/b"] {
            let mode = fs::metadata(volume.path().join(made)).expect("a directory").mode();
            assert_eq!(mode & 0o7777, 0o2775, "{made}");
        }
    }

    #[test]
    fn shared_mounts_are_told_from_others() {
        let table = "22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n\
            23 22 0:21 / /a rw - tmpfs shared:9 rw\n24 22 0:22 / /b rw master:1 - tmpfs tmpfs rw\n";
        let found: Vec<bool> = [22, 23, 24, 25].into_iter().map(|number| shared_in(table, number)).collect();
        assert_eq!(found, [true, false, false, false]);
    }

    #[test]
    fn a_volume_of_an_image_begins_with_what_the_image_has() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("root");
        fs::create_dir_all(root.join("var/data/sub")).expect("directories");
        fs::write(root.join("var/data/sub/file"), "text").expect("a file");
        symlink("/etc/passwd", root.join("var/data/link")).expect("a link");
        // A link as a volume stays in the root, where it leads to nothing.
        symlink("/outside", root.join("var/link")).expect("a link");
        let confinement: Confinement = serde_json::from_value(serde_json::json!({
            "container": "c", "root": "machine",
            "imageVolumes": ["/var/data", "/new", "/var/link", "/mounted", "relative"],
            "mounts": [{"source": "/x", "target": "/mounted"}],
        }))
        .expect("a confinement");
        let root = File::open(root).expect("the root");
        let binds = anonymous(&confinement, root.as_fd(), &place.path().join("volumes")).expect("volumes");
        let targets: Vec<_> = binds.iter().map(|bind| bind.target.to_string_lossy().into_owned()).collect();
        assert_eq!(targets, ["/var/data", "/new", "/var/link"]);
        assert_eq!(fs::read_to_string(binds[0].source.join("sub/file")).expect("a copy"), "text");
        assert_eq!(fs::read_link(binds[0].source.join("link")).expect("a link"), Path::new("/etc/passwd"));
        assert_eq!(fs::read_dir(&binds[2].source).expect("a directory").count(), 0);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_in_nobodys_way() {
        let place = tempfile::tempdir().expect("a directory");
        let (root, own) = (place.path().join("root"), place.path().join("own"));
        fs::create_dir_all(root.join("etc")).expect("directories");
        fs::write(&own, "").expect("a file");
        fs::write(root.join("etc/real"), "").expect("a file");
        for (name, target) in [("gone", "../run/resolv.conf"), ("kept", "real"), ("outside", "/proc/version")] {
            symlink(target, root.join("etc").join(name)).expect("a link");
        }
        let bind = |target: &str| Bind { source: own.clone(), target: target.into(), access: Access::Full };
        let held = File::open(&root).expect("the root");
        clear_way(held.as_fd(), &["/etc/gone", "/etc/kept", "/etc/outside", "/etc/none", "/none/none"].map(bind))
            .expect("cleared");
        let left = |name: &str| fs::symlink_metadata(root.join("etc").join(name)).is_ok();
        // `/proc/version` means the image's own, which is not there.
        assert_eq!(["gone", "kept", "outside", "real"].map(left), [false, true, false, true]);
    }
}
