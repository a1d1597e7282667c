//! The files of a container, put together in the supervisor's own mount namespace: nobody else sees these mounts, and they
//! are gone with the supervisor and its containers however these end.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat2, statx},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
        UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, mount_bind,
        mount_change, mount_remount, move_mount, open_tree, unmount,
    },
    process::Pid,
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

use super::{
    Survivor,
    layout::{Bind, terminal_options},
    users,
    volumes::{Volumes, anonymous, clear_way, memory_place},
};
use crate::{
    confinement::{Confinement, Root},
    plan::{Command, Launch, PodPlan},
};

/// What the containers of a pod that run on the machine's own files may change in them; they are in memory.
const MACHINE_SCRATCH: &str = "mode=755,size=1G";
/// `/dev/shm` of a pod.
const SHARED_MEMORY: &str = "mode=1777,size=64M";
/// What every container has mounted.
const MACHINERY_POINTS: [&str; 3] = ["dev", "proc", "sys"];
/// Disks of the machine that are laid under a container on the machine's own files, beside the root.
const MAX_MACHINE_DISKS: usize = 32;
/// File systems that are machinery or another container's, and nothing that a program is read from.
const MACHINERY: [&str; 24] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.lxcfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
    "nfsd",
];

/// Where the files of a pod's containers are put together.
#[derive(Debug)]
pub(super) struct Files {
    pod: PathBuf,
    volumes: Volumes,
}

impl Files {
    /// The process must be [`seclude`]d.
    pub(super) fn new(pod: &Path, shared: bool) -> io::Result<Self> {
        let files = Self { pod: pod.to_owned(), volumes: Volumes::new(pod, shared)? };
        memory_disk(&files.shared_memory(), SHARED_MEMORY)?;
        memory_disk(&files.scratch(), MACHINE_SCRATCH)?;
        Ok(files)
    }

    /// What survivors have in memory is shared with whoever is started beside them, as before. The process must be
    /// [`seclude`]d.
    pub(super) fn take_over(pod: &Path, plan: &PodPlan, survivors: &[Survivor], shared: bool) -> io::Result<Self> {
        let files = Self { pod: pod.to_owned(), volumes: Volumes::new(pod, shared)? };
        memory_disk(&files.scratch(), MACHINE_SCRATCH)?;
        for survivor in survivors {
            let container = plan.containers.iter().find(|container| container.name == survivor.container);
            let Some(Launch::Ready(Command { confinement: Some(confinement), .. })) = container.map(|it| &it.launch)
            else {
                continue;
            };
            let in_memory = confinement.mounts.iter().filter(|mount| mount.memory.is_some() && !mount.read_only);
            let whole = in_memory.filter(|mount| mount.sub_path.is_none());
            let disks = whole.map(|mount| (memory_place(pod, &mount.source), mount.target.as_path()));
            for (place, target) in disks.chain([(files.shared_memory(), Path::new("/dev/shm"))]) {
                if !is_mounted(&place) {
                    fs::create_dir_all(&place)?;
                    let borrowed = borrow_mount(pod, survivor.pid, target)?;
                    move_mount(borrowed.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
                }
            }
        }
        Ok(files)
    }

    pub(super) fn shared_memory(&self) -> PathBuf {
        self.pod.join("run/shm")
    }

    /// An empty directory with a place for each of these hierarchies of control groups.
    pub(super) fn cgroups(&self, views: &[(String, PathBuf)]) -> io::Result<PathBuf> {
        let place = self.pod.join("run/cgroup");
        if !is_mounted(&place) {
            memory_disk(&place, "mode=755,size=64k")?;
            // A machine may have mounted one hierarchy twice.
            views.iter().try_for_each(|(name, _)| fs::create_dir_all(place.join(name)))?;
        }
        Ok(place)
    }

    /// The terminals of a container that starts on one.
    pub(super) fn terminals(&self, container: &str) -> PathBuf {
        self.pod.join("containers").join(container).join("pts")
    }

    /// Makes them before the container is there, so that it can start on one. Returns our side of the first.
    pub(super) fn first_terminal(&self, container: &str) -> io::Result<OwnedFd> {
        let place = self.terminals(container);
        self.remove_terminals(container);
        fs::create_dir_all(&place)?;
        let options =
            terminal_options(users::terminal_group()).into_iter().map(|(name, value)| format!("{name}={value}"));
        let options = std::ffi::CString::new(options.collect::<Vec<_>>().join(","))?;
        mount("devpts", &place, "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, options.as_c_str())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(place.join("ptmx"), flags, Mode::empty())?)
    }

    fn remove_terminals(&self, container: &str) {
        let place = self.terminals(container);
        if place.exists() {
            let _none = unmount(&place, UnmountFlags::DETACH);
            let _gone = fs::remove_dir(&place);
        }
    }

    fn scratch(&self) -> PathBuf {
        self.pod.join("run/scratch")
    }

    /// Everything about one container lies below it.
    pub(super) fn bundle(&self, container: &str) -> PathBuf {
        self.pod.join("containers").join(container).join("bundle")
    }

    /// Lays out a root file system, which is mounted nowhere, and the sources of its mounts, afresh.
    pub(super) fn build(&self, confinement: &Confinement) -> io::Result<(OwnedFd, Vec<Bind>)> {
        self.clear(&confinement.container);
        let bundle = self.bundle(&confinement.container);
        let mut binds = self.volumes.binds(confinement, &bundle.join("mounts"))?;
        let root = match &confinement.root {
            Root::Machine => self.machine(&confinement.container, &bundle.join("root"))?,
            Root::Layers(layers) => {
                let points = self.scratch().join(&confinement.container);
                make_points(&points, &binds)?;
                let layers: Vec<PathBuf> = std::iter::once(points).chain(layers.iter().cloned()).collect();
                overlay(&layers, &Changes::below(&bundle)?, &bundle.join("root"))?
            }
        };
        binds.extend(anonymous(confinement, root.as_fd(), &bundle.join("volumes"))?);
        if matches!(confinement.root, Root::Layers(_)) {
            clear_way(root.as_fd(), &binds)?;
        }
        Ok((root, binds))
    }

    /// Takes away everything of a container. The mounts go when nobody uses them any more.
    pub(super) fn remove(&self, container: &str) {
        self.clear(container);
        self.remove_terminals(container);
    }

    /// Takes away what [`Files::build`] has made.
    fn clear(&self, container: &str) {
        let bundle = self.bundle(container);
        if !bundle.exists() {
            return;
        }
        let points = mounts_below(&bundle);
        // What a container has mounted for the machine stays there: nothing that is done here reaches so far.
        for point in &points {
            let _alone = mount_change(point, MountPropagationFlags::PRIVATE);
        }
        // The kernel lists them in the order in which they were made.
        for point in points.into_iter().rev() {
            let _gone = unmount(&point, UnmountFlags::DETACH);
        }
        for leftover in [bundle, self.scratch().join(container)] {
            let _none = fs::remove_dir_all(leftover);
        }
    }

    /// The machine's own disks, each under a layer of its own. They are put together in a place and taken from there.
    fn machine(&self, container: &str, root: &Path) -> io::Result<OwnedFd> {
        let scratch = self.scratch().join(container);
        fs::create_dir_all(root)?;
        let attach = |tree: &OwnedFd, point: &Path| {
            move_mount(tree.as_fd(), "", CWD, point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        attach(&overlay(&[PathBuf::from("/")], &Changes::below(&scratch.join("0"))?, root)?, root)?;
        let own = self.pod.parent().and_then(Path::parent).unwrap_or(&self.pod);
        for (number, disk) in machine_disks(own).into_iter().take(MAX_MACHINE_DISKS).enumerate() {
            let point = root.join(disk.strip_prefix("/").unwrap_or(&disk));
            if point.is_dir() {
                let changes = Changes::below(&scratch.join((number + 1).to_string()))?;
                // A disk that cannot be the lower half of an overlay stays out: its directory is empty then.
                let _absent = overlay(&[disk], &changes, &point).and_then(|tree| Ok(attach(&tree, &point)?));
            }
        }
        take_from(root)
    }
}

/// Goes on in a mount namespace of its own, from a copy of our program's file that nobody can write to.
///
/// What this process mounts from then on is its own affair. And a container can get hold of the program that is about to become
/// its own (`/proc/self/exe`): through that link it must not be able to change the file that the whole node runs. Returns once
/// this is so; before that, the program starts over with the same arguments. The process must have one thread.
#[expect(unsafe_code, reason = "unshare can break what other threads rely on")]
pub(super) fn seclude(pod: &Path) -> io::Result<()> {
    let copy = pod.join("run/sluice");
    let program = fs::read_link("/proc/self/exe")?;
    if program == copy {
        return Ok(());
    }
    // SAFETY: the supervisor has one thread, and its descriptors stay as they are.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    // Mounts of the machine still arrive here, ours never leave.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    fs::create_dir_all(pod.join("run"))?;
    fs::File::create(&copy)?;
    if program.is_file() {
        mount_bind(&program, &copy)?;
    } else {
        // Replaced by a newer one since the engine was started: what runs is still there, but has no name.
        fs::copy("/proc/self/exe", &copy)?;
        mount_bind(&copy, &copy)?;
    }
    // Inside a user namespace, what the machine's disk denies must stay denied.
    let locked = rustix::fs::statvfs(&copy)?.f_flag.bits();
    let kept = [
        (libc::ST_NOSUID, MountFlags::NOSUID),
        (libc::ST_NODEV, MountFlags::NODEV),
        (libc::ST_NOEXEC, MountFlags::NOEXEC),
    ];
    let kept =
        kept.into_iter().filter(|(bit, _)| locked & bit != 0).fold(MountFlags::empty(), |all, (_, flag)| all | flag);
    mount_remount(&copy, MountFlags::BIND | MountFlags::RDONLY | kept, c"")?;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    Err(std::process::Command::new(&copy).arg0(name).args(arguments).exec())
}

/// A second mount of what is mounted in a container.
fn borrow_mount(pod: &Path, container: Pid, target: &Path) -> io::Result<OwnedFd> {
    let here = fs::File::open("/proc/thread-self/ns/mnt")?;
    let there = fs::File::open(format!("/proc/{}/ns/mnt", container.as_raw_nonzero()))?;
    let mount = Some(LinkNameSpaceType::Mount);
    move_into_link_name_space(there.as_fd(), mount)?;
    let borrowed = open_tree(CWD, target, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    move_into_link_name_space(here.as_fd(), mount)?;
    // Going there and back has led to the root.
    std::env::set_current_dir(pod)?;
    Ok(borrowed?)
}

/// A new terminal of a container that runs; our side of it. The container may have put anything in its place.
pub(super) fn terminal_inside(pid: Pid) -> io::Result<OwnedFd> {
    const PTMX_INODE: u64 = 2;
    let root = format!("/proc/{}/root", pid.as_raw_nonzero());
    let root = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty())?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(&root, "dev/pts/ptmx", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside)
        .map_err(|error| io::Error::other(format!("`/dev/pts/ptmx` of the container: {error}")))?;
    let status = rustix::fs::fstat(&found)?;
    let is_ptmx = status.st_ino == PTMX_INODE
        && status.st_rdev == rustix::fs::makedev(5, 2)
        && FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && rustix::fs::fstatfs(&found)?.f_type == libc::DEVPTS_SUPER_MAGIC;
    if !is_ptmx {
        return Err(io::Error::other("the container's `/dev/pts/ptmx` makes no terminals"));
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(format!("/proc/self/fd/{}", found.as_raw_fd()), flags, Mode::empty())?)
}

/// Reads a file of a container's root, such as its `/etc/passwd`, following links only inside.
pub(super) fn read_inside(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(root, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty(), flags)?;
    io::read_to_string(io::Read::take(fs::File::from(file), MAX_USER_FILE_BYTES))
}

/// Images are foreign: a list of users beyond this is cut.
const MAX_USER_FILE_BYTES: u64 = 1 << 20;

/// The two directories in which an overlay keeps changes.
struct Changes {
    upper: PathBuf,
    work: PathBuf,
}

impl Changes {
    fn below(directory: &Path) -> io::Result<Self> {
        let changes = Self { upper: directory.join("upper"), work: directory.join("work") };
        fs::create_dir_all(&changes.upper)?;
        fs::create_dir_all(&changes.work)?;
        Ok(changes)
    }
}

/// Makes the places that a container mounts something on, as the lowest layer of all. In memory they cost next to nothing; those
/// that the image does not have itself would else be made on the disk, one by one, before each container begins. So may still be
/// made what cannot be made here.
fn make_points(points: &Path, binds: &[Bind]) -> io::Result<()> {
    MACHINERY_POINTS.iter().try_for_each(|name| fs::create_dir_all(points.join(name)))?;
    for Bind { source, target, .. } in binds {
        let Some(point) = below(points, target) else { continue };
        let _later = match (source.is_dir(), point.parent()) {
            (true, _) => fs::create_dir_all(&point),
            (false, Some(parent)) => fs::create_dir_all(parent).and_then(|()| fs::File::create(&point).map(drop)),
            (false, None) => Ok(()),
        };
    }
    Ok(())
}

/// A path of a container as one below a directory, unless it leads up somewhere.
fn below(directory: &Path, path: &Path) -> Option<PathBuf> {
    let parts = path.components().filter(|part| !matches!(part, Component::RootDir | Component::CurDir));
    let mut found = directory.to_owned();
    for part in parts {
        match part {
            Component::Normal(name) => found.push(name),
            _ => return None,
        }
    }
    Some(found)
}

/// Layers bottom first, as images list them. The place is for those who need one to mount them.
fn overlay(layers: &[PathBuf], changes: &Changes, place: &Path) -> io::Result<OwnedFd> {
    match overlay_by_steps(layers, changes) {
        // Kernels before 6.8 do not know layers one by one.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::create_dir_all(place)?;
            overlay_at_once(layers, changes, place)?;
            take_from(place)
        }
        other => Ok(other?),
    }
}

/// What is mounted in a place, with all below it, as mounted nowhere.
fn take_from(place: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, place, flags)?;
    unmount(place, UnmountFlags::DETACH)?;
    Ok(tree)
}

fn overlay_by_steps(layers: &[PathBuf], changes: &Changes) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "sluice")?;
    for layer in layers.iter().rev() {
        fsconfig_set_string(context.as_fd(), "lowerdir+", layer.as_path())?;
    }
    fsconfig_set_string(context.as_fd(), "upperdir", changes.upper.as_path())?;
    fsconfig_set_string(context.as_fd(), "workdir", changes.work.as_path())?;
    if users::in_namespace() {
        // The attributes of the machine's root are not ours to set.
        fsconfig_set_flag(context.as_fd(), "userxattr")?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn overlay_at_once(layers: &[PathBuf], changes: &Changes, target: &Path) -> io::Result<()> {
    let escape = |path: &Path| path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let lower: Vec<String> = layers.iter().rev().map(|layer| escape(layer)).collect();
    let own = if users::in_namespace() { ",userxattr" } else { "" };
    let options = format!(
        "lowerdir={},upperdir={},workdir={}{own}",
        lower.join(":"),
        escape(&changes.upper),
        escape(&changes.work)
    );
    let options = std::ffi::CString::new(options)?;
    Ok(mount("sluice", target, "overlay", MountFlags::empty(), options.as_c_str())?)
}

pub(super) fn memory_disk(place: &Path, options: &str) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let options = std::ffi::CString::new(options)?;
    Ok(mount("tmpfs", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())?)
}

/// Whether something is mounted in a place.
pub(super) fn is_mounted(place: &Path) -> bool {
    statx(CWD, place, AtFlags::empty(), StatxFlags::empty())
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Mount points at or below a directory, in the order in which they were made.
pub(super) fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(mount_point).filter(|point| point.starts_with(directory)).collect()
}

fn mount_point(line: &str) -> Option<PathBuf> {
    Some(PathBuf::from(unescape(line.split(' ').nth(4)?)))
}

/// The machine's disks other than its root, without machinery and without what lies in `own`.
fn machine_disks(own: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    select_disks(&text, own)
}

fn select_disks(mountinfo: &str, own: &Path) -> Vec<PathBuf> {
    let disks = mountinfo.lines().filter_map(|line| {
        let kind = line.split_once(" - ")?.1.split(' ').next()?;
        let point = mount_point(line)?;
        let machinery = ["/proc", "/sys", "/dev", "/run"].iter().any(|place| point.starts_with(place));
        let wanted = !MACHINERY.contains(&kind) && !machinery && point != Path::new("/") && !point.starts_with(own);
        wanted.then_some(point)
    });
    disks.collect()
}

/// The kernel writes blanks and backslashes in paths as octal numbers.
fn unescape(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_for_mounts_stay_in_their_layer() {
        let place = tempfile::tempdir().expect("a directory");
        let (points, file) = (place.path().join("points"), place.path().join("file"));
        fs::write(&file, "").expect("a file");
        let bind = |source: &Path, target: &str| Bind {
            source: source.to_owned(),
            target: target.into(),
            access: super::super::layout::Access::Full,
        };
        let binds = [
            bind(&file, "/etc/./hosts"),
            bind(place.path(), "/srv/data"),
            bind(&file, "/a/../../out"),
            bind(place.path(), "/etc/hosts/below"),
        ];
        make_points(&points, &binds).expect("points");
        let found = ["etc/hosts", "srv/data", "proc", "dev", "sys"].map(|name| points.join(name).exists());
        assert_eq!(found, [true; 5]);
        assert!(points.join("etc/hosts").is_file() && !place.path().join("out").exists());
    }

    #[test]
    fn disks_are_what_programs_are_read_from() {
        let mountinfo = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
            23 22 0:21 / /proc rw - proc proc rw\n\
            24 22 254:1 / /home rw shared:1 - ext4 /dev/vdb rw\n\
            25 22 0:30 / /run/user rw - tmpfs tmpfs rw\n\
            26 22 0:31 / /data/pods/1/run rw - tmpfs tmpfs rw\n\
            27 22 0:32 / /mnt/my\\040disk rw - xfs /dev/vdc rw\n\
            28 22 0:33 / /var/lib/other rw - overlay overlay rw\n";
        assert_eq!(
            select_disks(mountinfo, Path::new("/data")),
            [PathBuf::from("/home"), PathBuf::from("/mnt/my disk")]
        );
    }
}
