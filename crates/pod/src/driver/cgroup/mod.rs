//! Control groups of both versions: who is in a group, its limits, ending everything in one, seeing that memory ran out, tidying
//! up.

mod hierarchy;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod views;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use self::hierarchy::{Hierarchy, limits, of_containers, of_pods, whole_machine};
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) use self::views::unified_only;
use crate::confinement::Resources;

/// All that is ours lies below it, in every hierarchy.
const ROOT: &str = "sluice";
/// Who is in a group, and the way into it: by whole processes, and in version 1 by single threads.
const MEMBERS: &str = "cgroup.procs";
const THREADS: &str = "tasks";
const KILL: &str = "cgroup.kill";
/// Rounds of killing; each can uncover what was forked during the one before.
const MAX_SWEEPS: usize = 64;

/// The group of one container, or of a whole pod, as a path below the hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(PathBuf);

impl Group {
    pub fn pod(uid: &str) -> Self {
        Self(Path::new(ROOT).join(format!("pod{uid}")))
    }

    pub fn container(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// Makes the group of a pod and limits it, wherever we may. Its containers' groups will lie in it.
    pub(super) fn make(&self, resources: &Resources) -> io::Result<()> {
        let (limits, of_all_pods) = (limits(resources), limits(&whole_machine()));
        for hierarchy in of_pods() {
            if !hierarchy.make(&self.0)? {
                continue;
            }
            if hierarchy.unified {
                hierarchy.hand_on(&self.0);
            }
            // As below a kubelet, all pods together weigh what the machine's processors do: by default, what one process does.
            let _best_effort = hierarchy.limit(Path::new(ROOT), &of_all_pods);
            hierarchy.limit(&self.0, &limits)?;
        }
        Ok(())
    }

    /// Makes the group of a container in its pod's, and limits it.
    ///
    /// One that a run before has left, perhaps under a supervisor that is lost, is taken away first: it counts what that run did,
    /// and a kernel that has once killed a whole group takes whoever is born into it for somebody who was to be killed, too.
    pub(super) fn make_inside(&self, resources: &Resources) -> io::Result<()> {
        self.remove();
        let mut limits = limits(resources);
        // A container that lost one of its processes for want of memory is worth no more than one that ended.
        limits.push(("memory.oom.group", "1".to_owned()));
        for hierarchy in self.beside() {
            hierarchy.make(&self.0)?;
            hierarchy.limit(&self.0, &limits)?;
        }
        Ok(())
    }

    /// Where the group of a container is, or would be: wherever that of its pod is.
    fn beside(&self) -> impl Iterator<Item = &'static Hierarchy> {
        of_containers().filter(|hierarchy| hierarchy.place.join(&self.0).parent().is_some_and(Path::is_dir))
    }

    /// The ways into a container's group for a process that has yet to begin, and writes `0` to each: by version 1.
    ///
    /// To `tasks`, not to `cgroup.procs`: for a thread that moves itself the kernel does not stop everybody's forks, for which
    /// it would wait for many milliseconds.
    pub(super) fn doors(&self) -> io::Result<Vec<File>> {
        self.beside().filter(|hierarchy| !hierarchy.unified).map(|hierarchy| self.door(hierarchy, THREADS)).collect()
    }

    /// The same by version 2, for whoever cannot be born there: see `Group::unified`.
    pub(super) fn front_door(&self) -> io::Result<Option<File>> {
        self.beside().find(|hierarchy| hierarchy.unified).map(|hierarchy| self.door(hierarchy, MEMBERS)).transpose()
    }

    fn door(&self, hierarchy: &Hierarchy, name: &str) -> io::Result<File> {
        let door = hierarchy.place.join(&self.0).join(name);
        File::options()
            .write(true)
            .open(&door)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot open `{}`: {error}", door.display())))
    }

    /// Below any hierarchy.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// How often the kernel has ended something in this group for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let texts = of_containers().filter(|hierarchy| hierarchy.controls("memory")).map(|hierarchy| {
            let file = if hierarchy.unified { "memory.events" } else { "memory.oom_control" };
            hierarchy.place.join(&self.0).join(file)
        });
        texts.filter_map(|path| oom_kills(&fs::read_to_string(path).ok()?)).max().unwrap_or(0)
    }

    /// Ends everything in the group and in those below it. What is in it is so in every hierarchy: one ends all where the kernel
    /// can end a whole group, and another one has those that were on their way in.
    pub fn kill(&self) {
        let directories = of_containers().map(|hierarchy| hierarchy.place.join(&self.0)).filter(|group| group.is_dir());
        let (whole, single): (Vec<_>, Vec<_>) = directories.partition(|directory| directory.join(KILL).exists());
        whole.iter().chain(single.first()).for_each(|directory| kill_below(directory));
    }

    /// Removes the group and those below it; what still lives in one keeps it.
    pub fn remove(&self) {
        for directory in self.directories() {
            remove_below(&directory);
            // The last pod's takes ours along; with others in it, it stays.
            if let Some(ours) = directory.parent().filter(|parent| parent.ends_with(ROOT)) {
                let _others = fs::remove_dir(ours);
            }
        }
    }

    pub(super) fn directories(&self) -> Vec<PathBuf> {
        of_pods().map(|hierarchy| hierarchy.place.join(&self.0)).filter(|directory| directory.is_dir()).collect()
    }
}

/// Where control groups are mounted.
pub fn hierarchies() -> Vec<PathBuf> {
    of_containers().map(|hierarchy| hierarchy.place.clone()).collect()
}

/// Which limits are kept here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub cpu: bool,
    pub memory: bool,
}

/// Tries what this machine lets us do with groups; `None`: nothing.
pub fn try_out() -> Option<Limits> {
    let pod = Group::pod(&format!("-try-{}", std::process::id()));
    let made = pod.make(&Resources::default()).is_ok();
    let process = pod.container("process");
    let found = process.make_inside(&Resources::default()).ok().filter(|()| made).and_then(|()| {
        let places: Vec<PathBuf> = process.beside().map(|hierarchy| hierarchy.place.join(&process.0)).collect();
        let any = |files: [&str; 2]| places.iter().any(|place| files.iter().any(|file| place.join(file).exists()));
        let limits =
            Limits { cpu: any(["cpu.cfs_quota_us", "cpu.max"]), memory: any(["memory.limit_in_bytes", "memory.max"]) };
        (!places.is_empty()).then_some(limits)
    });
    pod.remove();
    found
}

/// Has the kernel make ready for a process that is to move into a group: the first who moves waits, some ten milliseconds, until
/// every processor has seen that somebody does, and whoever comes soon after does not. So we move to where we are.
pub fn announce_move() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)?.strip_prefix('/'));
    let places = paths.flat_map(|path| of_pods().map(move |hierarchy| hierarchy.place.join(path).join(MEMBERS)));
    let id = std::process::id().to_string();
    // Only where we really are: the path may be another group's in another hierarchy.
    let ours =
        |place: &PathBuf| fs::read_to_string(place).is_ok_and(|members| members.lines().any(|member| member == id));
    if let Some(place) = places.into_iter().find(ours) {
        let _slower_then = fs::write(place, "0");
    }
}

/// Both versions write the count in a line of its own.
fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

fn kill_below(directory: &Path) {
    if fs::write(directory.join(KILL), "1").is_ok() {
        return;
    }
    for _ in 0..MAX_SWEEPS {
        let living = processes(directory);
        if living.is_empty() {
            return;
        }
        for process in living {
            let _gone = kill_process(process, Signal::KILL);
        }
        // The dying are listed for a moment longer.
        std::thread::yield_now();
    }
}

fn members(directory: &Path) -> Vec<Pid> {
    let own = fs::read_to_string(directory.join(MEMBERS)).unwrap_or_default();
    own.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

fn processes(directory: &Path) -> Vec<Pid> {
    let mut all = members(directory);
    subgroups(directory).iter().for_each(|group| all.extend(processes(group)));
    all
}

fn remove_below(directory: &Path) {
    subgroups(directory).iter().for_each(|group| remove_below(group));
    // The last process may still be on its way out: the kernel says busy until it is.
    for _ in 0..MAX_SWEEPS {
        match fs::remove_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
                let _interrupted = rustix::event::poll(&mut [], Some(&pause));
            }
            _ => return,
        }
    }
}

fn subgroups(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count_what_ran_out_of_memory() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n"), Some(2));
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), Some(1));
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\n"), None);
    }

    #[test]
    fn groups_lie_below_ours() {
        assert_eq!(Group::pod("1-2").container("web").path(), Path::new("sluice/pod1-2/web"));
    }
}
