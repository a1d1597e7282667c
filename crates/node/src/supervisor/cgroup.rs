//! Control groups of both versions: limits, who is in a group, ending everything in one, seeing that memory ran out, tidying up.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Signal, kill_process},
};

use crate::confinement::{CPU_PERIOD_US, Resources};

/// All that is ours lies below it, in every hierarchy.
const ROOT: &str = "sluice";
/// Files of version 2: what a group may control, and what it lets those below control.
const CONTROLLERS: &str = "cgroup.controllers";
const HANDED_ON: &str = "cgroup.subtree_control";
/// Of a group, or of a processor among groups.
const USUAL_SHARES: u64 = 1024;
/// Who is in a group, and the way into it: by whole processes, and in version 1 by single threads.
const MEMBERS: &str = "cgroup.procs";
const THREADS: &str = "tasks";
const KILL: &str = "cgroup.kill";
/// Rounds of killing; each can uncover what was forked during the one before.
const MAX_SWEEPS: usize = 64;

/// The group of one container, or of a whole pod, as a path below the hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group(PathBuf);

impl Group {
    pub(crate) fn pod(uid: &str) -> Self {
        Self(Path::new(ROOT).join(format!("pod{uid}")))
    }

    pub(crate) fn container(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// Makes the group of a pod and limits it, wherever we may. Its containers' groups will lie in it.
    pub(super) fn make(&self, resources: &Resources) -> io::Result<()> {
        self.make_in(controlling(), resources)
    }

    /// The same for a pod of processes, which need no hierarchy that neither limits nor counts.
    pub(super) fn make_for_processes(&self, resources: &Resources) -> io::Result<()> {
        self.make_in(of_processes(&HIERARCHIES), resources)
    }

    fn make_in(&self, hierarchies: impl Iterator<Item = &'static Hierarchy>, resources: &Resources) -> io::Result<()> {
        for hierarchy in hierarchies {
            if !make_group(hierarchy, &self.0)? {
                continue;
            }
            let directory = hierarchy.place.join(&self.0);
            // As below a kubelet, all pods together weigh what the machine's processors do: by default, what one process does.
            let _best_effort = hierarchy.limit(Path::new(ROOT), &limits(&whole_machine()));
            if hierarchy.unified && directory.join(CONTROLLERS).exists() {
                // Level by level: a group has those controllers that the one above hands on.
                for above in [&hierarchy.place, &hierarchy.place.join(ROOT), &directory] {
                    ["+cpu", "+memory", "+pids"].iter().for_each(|name| drop(fs::write(above.join(HANDED_ON), name)));
                }
            }
            hierarchy.limit(&self.0, &limits(resources))?;
        }
        Ok(())
    }

    /// Makes the group of a process in that of its pod.
    pub(super) fn make_inside(&self, resources: &Resources) -> io::Result<()> {
        for hierarchy in self.beside() {
            make_group(hierarchy, &self.0)?;
            hierarchy.limit(&self.0, &limits(resources))?;
        }
        Ok(())
    }

    /// What a process that has yet to begin writes `0` to, to be in the group: see [`Group::join`].
    pub(super) fn doors(&self) -> io::Result<Vec<fs::File>> {
        let doors = self.beside().map(|hierarchy| {
            let name = if hierarchy.unified { MEMBERS } else { THREADS };
            let door = hierarchy.place.join(&self.0).join(name);
            fs::File::options()
                .write(true)
                .open(&door)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot open `{}`: {error}", door.display())))
        });
        let doors: Vec<fs::File> = doors.collect::<io::Result<_>>()?;
        match doors.is_empty() {
            true => Err(io::Error::other("the pod's control groups are gone")),
            false => Ok(doors),
        }
    }

    /// Where the group of a process is, or would be: wherever that of its pod is.
    fn beside(&self) -> impl Iterator<Item = &'static Hierarchy> {
        of_processes(&HIERARCHIES).filter(|hierarchy| hierarchy.place.join(&self.0).parent().is_some_and(Path::is_dir))
    }

    /// Makes the group of a container in its pod's, and limits it.
    pub(super) fn make_for_container(&self, resources: &Resources) -> io::Result<()> {
        let mut limits = limits(resources);
        // A container that lost one of its processes for want of memory is worth no more than one that ended.
        limits.push(("memory.oom.group", "1".to_owned()));
        for hierarchy in controlling() {
            if make_group(hierarchy, &self.0)? {
                hierarchy.limit(&self.0, &limits)?;
            }
        }
        Ok(())
    }

    /// Puts the calling process, which has one thread, into the group in all hierarchies of version 1.
    ///
    /// To `tasks`, not to `cgroup.procs`: for a thread that moves itself the kernel does not stop everybody's forks, for which
    /// it would wait for many milliseconds.
    pub(super) fn join(&self) -> io::Result<()> {
        let groups = controlling().filter(|hierarchy| !hierarchy.unified).map(|it| it.place.join(&self.0));
        groups.filter(|group| group.is_dir()).try_for_each(|group| {
            let file = group.join(THREADS);
            fs::write(&file, "0").map_err(|error| cannot_write(&file, &error))
        })
    }

    /// The group in the hierarchy of version 2, where there is one: a process is born into it.
    pub(super) fn unified(&self) -> Option<OwnedFd> {
        let hierarchy = controlling().find(|hierarchy| hierarchy.unified)?;
        directory_at(&hierarchy.place.join(&self.0)).ok()
    }

    /// Puts a process into the group, wherever there are groups: without any it could not be ended with the others.
    pub(super) fn take(&self, process: Pid) -> io::Result<()> {
        let mut taken = Err(io::Error::other("there is no control group to put a process into"));
        for hierarchy in controlling() {
            let directory = hierarchy.place.join(&self.0);
            let number = process.as_raw_nonzero().to_string();
            match make_group(hierarchy, &self.0)? && fs::write(directory.join(MEMBERS), number).is_ok() {
                true => taken = Ok(()),
                // A hierarchy that wants more settings first.
                false => drop(fs::remove_dir(&directory)),
            }
        }
        taken
    }

    /// Where a container finds what is counted for it, by name below `/sys/fs/cgroup`; empty where there is one hierarchy alone,
    /// which is mounted as it is.
    pub(super) fn views(&self) -> Vec<(String, PathBuf)> {
        let version_1 = controlling().filter(|hierarchy| !hierarchy.unified);
        let views = version_1.filter_map(|hierarchy| {
            let name = hierarchy.place.file_name()?.to_string_lossy().into_owned();
            Some((name, hierarchy.place.join(&self.0))).filter(|(_, group)| group.is_dir())
        });
        views.collect()
    }

    /// Below any hierarchy.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// How often the kernel has ended something in this group for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let texts = controlling().filter(|hierarchy| hierarchy.controls("memory")).map(|hierarchy| {
            let file = if hierarchy.unified { "memory.events" } else { "memory.oom_control" };
            hierarchy.place.join(&self.0).join(file)
        });
        texts.filter_map(|path| oom_kills(&fs::read_to_string(path).ok()?)).max().unwrap_or(0)
    }

    /// Ends everything in the group and in those below it. What is in it is so in every hierarchy: one ends all where the kernel
    /// can end a whole group, and another one has those that were on their way in.
    pub(crate) fn kill(&self) {
        let directories = self.directories();
        let (whole, single): (Vec<_>, Vec<_>) =
            directories.into_iter().partition(|directory| directory.join(KILL).exists());
        whole.iter().chain(single.first()).for_each(|directory| kill_below(directory));
    }

    /// Removes the group and those below it; what still lives in one keeps it.
    pub(crate) fn remove(&self) {
        for directory in self.directories() {
            remove_below(&directory);
            // The last pod's takes ours along; with others in it, it stays.
            if let Some(ours) = directory.parent().filter(|parent| parent.ends_with(ROOT)) {
                let _others = fs::remove_dir(ours);
            }
        }
    }

    pub(super) fn directories(&self) -> Vec<PathBuf> {
        controlling().map(|hierarchy| hierarchy.place.join(&self.0)).filter(|directory| directory.is_dir()).collect()
    }
}

/// Where control groups are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    place: PathBuf,
    /// Of version 2.
    unified: bool,
    /// It has but a name, and controls nothing.
    named: bool,
    /// Of version 1: what it controls.
    controllers: Vec<String>,
}

impl Hierarchy {
    fn controls(&self, controller: &str) -> bool {
        self.unified || self.controllers.iter().any(|known| known == controller)
    }

    /// Sets the limits that are kept here. A group of version 2 has only some of the files.
    fn limit(&self, group: &Path, limits: &[(&'static str, String)]) -> io::Result<()> {
        for (file, value) in limits {
            if !file.split_once('.').is_some_and(|(controller, _)| self.controls(controller)) {
                continue;
            }
            let file = self.place.join(group).join(file);
            match fs::OpenOptions::new().write(true).open(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot_write(&file, &error)),
                Ok(mut open) => {
                    io::Write::write_all(&mut open, value.as_bytes()).map_err(|error| cannot_write(&file, &error))?;
                }
            }
        }
        Ok(())
    }
}

/// They are mounted once, when a machine starts.
static HIERARCHIES: LazyLock<Vec<Hierarchy>> =
    LazyLock::new(|| find_hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()));

fn find_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let found = mountinfo.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let unified = kind.starts_with("cgroup2 ");
        let place = mount.split(' ').nth(4).filter(|_| unified || kind.starts_with("cgroup "))?;
        let controllers = kind.split([' ', ',']).skip(1).map(str::to_owned).collect();
        Some(Hierarchy { place: place.into(), unified, named: kind.contains("name="), controllers })
    });
    found.collect()
}

/// Those in which our groups lie.
fn controlling() -> impl Iterator<Item = &'static Hierarchy> {
    HIERARCHIES.iter().filter(|hierarchy| !hierarchy.named)
}

/// Those that limit or count what processes use.
fn of_processes(all: &[Hierarchy]) -> impl Iterator<Item = &Hierarchy> {
    let matters = |it: &&Hierarchy| ["cpu", "cpuacct", "memory", "pids"].iter().any(|name| it.controls(name));
    all.iter().filter(|hierarchy| !hierarchy.named).filter(matters)
}

/// Where control groups are mounted.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    HIERARCHIES.iter().map(|hierarchy| hierarchy.place.clone()).collect()
}

/// Whether the machine has nothing but cgroup v2.
pub(super) fn unified_only() -> bool {
    !HIERARCHIES.is_empty() && HIERARCHIES.iter().all(|hierarchy| hierarchy.unified)
}

/// Which limits are kept here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) cpu: bool,
    pub(crate) memory: bool,
}

/// Tries what this machine lets us do with groups; `None`: nothing.
pub(crate) fn try_out() -> Option<Limits> {
    let pod = Group::pod(&format!("-try-{}", std::process::id()));
    let made = pod.make_for_processes(&Resources::default()).is_ok();
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
pub(crate) fn announce_move() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)?.strip_prefix('/'));
    let places = paths.flat_map(|path| controlling().map(move |hierarchy| hierarchy.place.join(path).join(MEMBERS)));
    let id = std::process::id().to_string();
    // Only where we really are: the path may be another group's in another hierarchy.
    let ours =
        |place: &PathBuf| fs::read_to_string(place).is_ok_and(|members| members.lines().any(|member| member == id));
    if let Some(place) = places.into_iter().find(ours) {
        let _slower_then = fs::write(place, "0");
    }
}

fn whole_machine() -> Resources {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Resources { cpu_shares: Some(processors as u64 * USUAL_SHARES), ..Resources::default() }
}

fn directory_at(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn cannot_write(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write `{}`: {error}", file.display()))
}

/// The files that limit a group, of both versions; each hierarchy has some of them.
fn limits(resources: &Resources) -> Vec<(&'static str, String)> {
    let mut limits = Vec::new();
    if let Some(shares) = resources.cpu_shares {
        limits.push(("cpu.shares", shares.to_string()));
        limits.push(("cpu.weight", cpu_weight(shares).to_string()));
    }
    if let Some(quota) = resources.cpu_quota_us {
        limits.push(("cpu.cfs_period_us", CPU_PERIOD_US.to_string()));
        limits.push(("cpu.cfs_quota_us", quota.to_string()));
        limits.push(("cpu.max", format!("{quota} {CPU_PERIOD_US}")));
    }
    if let Some(limit) = resources.memory_bytes {
        limits.push(("memory.limit_in_bytes", limit.to_string()));
        limits.push(("memory.max", limit.to_string()));
    }
    if let Some(limit) = resources.pids {
        limits.push(("pids.max", limit.to_string()));
    }
    limits
}

/// What version 2 calls the share of a group, so that the usual share (1024) is its usual weight (100).
pub(super) fn cpu_weight(shares: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "shares are small numbers")]
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// Whether there is such a group now. Another engine may take the one above away just now, when its last pod ends.
fn make_group(hierarchy: &Hierarchy, group: &Path) -> io::Result<bool> {
    let directory = hierarchy.place.join(group);
    for _ in 0..MAX_SWEEPS {
        match fs::create_dir_all(&directory) {
            Ok(()) => {
                if !hierarchy.unified && hierarchy.controls("cpuset") {
                    inherit_processors(&hierarchy.place, group);
                }
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Somebody else's machine: containers go without.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                return Ok(false);
            }
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("cannot make `{}`: {error}", directory.display())));
            }
        }
    }
    Err(io::Error::other(format!("cannot make `{}`: it is taken away again and again", directory.display())))
}

/// In version 1 a new group has no processors and no memory to run on until somebody gives it some.
fn inherit_processors(place: &Path, group: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut above = place.to_owned();
        for part in group.components() {
            let here = above.join(part);
            if let Ok(all) = fs::read_to_string(above.join(file))
                && fs::read_to_string(here.join(file)).is_ok_and(|own| own.trim().is_empty())
            {
                // Who cannot have them is refused when a process is to join.
                let _refused = fs::write(here.join(file), all.trim());
            }
            above = here;
        }
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

fn processes(directory: &Path) -> Vec<Pid> {
    let own = fs::read_to_string(directory.join(MEMBERS)).unwrap_or_default();
    let mut all: Vec<Pid> = own.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect();
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
    fn shares_become_weights_that_keep_what_is_usual() {
        let weights = [(2, 1), (102, 17), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)];
        for (shares, weight) in weights {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn limits_are_said_in_the_words_of_both_versions() {
        let pids = Resources { pids: Some(7), ..Resources::default() };
        assert_eq!(limits(&pids), [("pids.max", "7".to_owned())]);
        let all =
            Resources { cpu_shares: Some(1024), cpu_quota_us: Some(20_000), memory_bytes: Some(4096), pids: None };
        let text: Vec<String> = limits(&all).iter().map(|(file, value)| format!("{file}={value}")).collect();
        let expected = "cpu.shares=1024 cpu.weight=100 cpu.cfs_period_us=100000 cpu.cfs_quota_us=20000 \
            cpu.max=20000 100000 memory.limit_in_bytes=4096 memory.max=4096";
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn hierarchies_that_have_but_a_name_control_nothing() {
        let mountinfo = "30 23 0:27 / /sys rw - sysfs sysfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found: Vec<_> = find_hierarchies(mountinfo)
            .into_iter()
            .map(|hierarchy| (hierarchy.place.to_string_lossy().into_owned(), hierarchy.unified, hierarchy.named))
            .collect();
        let expected = [("cpu", false, false), ("systemd", false, true), ("unified", true, false)];
        let expected = expected.map(|(name, unified, named)| (format!("/sys/fs/cgroup/{name}"), unified, named));
        assert_eq!(found, expected);
    }

    #[test]
    fn processes_are_where_something_limits_or_counts_them() {
        let mountinfo = "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            42 31 0:39 / /tmp rw - tmpfs memory rw\n";
        let all = find_hierarchies(mountinfo);
        let found: Vec<&Path> = of_processes(&all).map(|hierarchy| hierarchy.place.as_path()).collect();
        assert_eq!(found, ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"].map(Path::new));
    }

    #[test]
    fn groups_lie_below_ours() {
        assert_eq!(Group::pod("1-2").container("web").path(), Path::new("sluice/pod1-2/web"));
    }
}
