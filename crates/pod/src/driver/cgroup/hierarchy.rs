//! Where control groups are mounted, which of those we use, and how a group there is made and limited.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use super::{MAX_SWEEPS, MEMBERS, members};
use crate::confinement::{CPU_PERIOD_US, Resources};

/// Of a group, or of a processor among groups.
const USUAL_SHARES: u64 = 1024;
/// In version 2: what a group may control, what it lets those in it control, and what of this limits pods.
const CONTROLLERS: &str = "cgroup.controllers";
const CONTROL_BELOW: &str = "cgroup.subtree_control";
const HANDED_ON: [&str; 3] = ["cpu", "memory", "pids"];
/// Where processes go that are in the way.
const ASIDE: &str = "init";
/// What limits, counts or denies: here each container has a group of its own. A hierarchy less is a directory less to make and
/// a membership less to change, whenever a container starts.
const BOUNDING: [&str; 5] = ["cpu", "cpuacct", "devices", "memory", "pids"];
/// Its pod's group is enough for a container, and it must be there: programs look for all of these before they believe any.
const SHOWN: &str = "cpuset";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) place: PathBuf,
    /// Of version 2.
    pub(super) unified: bool,
    /// Of version 1: what it controls.
    controllers: Vec<String>,
}

impl Hierarchy {
    pub(super) fn controls(&self, controller: &str) -> bool {
        self.unified || self.controllers.iter().any(|known| known == controller)
    }

    fn bounds(&self) -> bool {
        BOUNDING.iter().any(|controller| self.controls(controller))
    }

    /// Sets the limits that are kept here. A group of version 2 has only some of the files.
    pub(super) fn limit(&self, group: &Path, limits: &[(&'static str, String)]) -> io::Result<()> {
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

    /// In version 2, lets the groups in a group have the controllers that limit, level by level: a group has those that the one
    /// above hands on. Where there are none, there are no limits.
    pub(super) fn hand_on(&self, group: &Path) {
        let there = fs::read_to_string(self.place.join(CONTROLLERS)).unwrap_or_default();
        let there: Vec<&str> =
            HANDED_ON.into_iter().filter(|name| there.split_whitespace().any(|it| it == *name)).collect();
        if there.is_empty() || !make_room(&self.place) {
            return;
        }
        let levels: Vec<&Path> = group.ancestors().collect();
        for level in levels.into_iter().rev() {
            let file = self.place.join(level).join(CONTROL_BELOW);
            there.iter().for_each(|name| drop(fs::write(&file, format!("+{name}"))));
        }
    }

    /// Makes a group, unless that is not for us to do. Another engine may take the one above away just now, when its last pod
    /// ends.
    pub(super) fn make(&self, group: &Path) -> io::Result<bool> {
        let directory = self.place.join(group);
        for _ in 0..MAX_SWEEPS {
            match fs::create_dir_all(&directory) {
                Ok(()) => {
                    if !self.unified && self.controls(SHOWN) {
                        inherit_processors(&self.place, group);
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
                    return Err(io::Error::new(
                        error.kind(),
                        format!("cannot make `{}`: {error}", directory.display()),
                    ));
                }
            }
        }
        Err(io::Error::other(format!("cannot make `{}`: it is taken away again and again", directory.display())))
    }
}

/// They are mounted once, when a machine starts.
static ALL: LazyLock<Vec<Hierarchy>> =
    LazyLock::new(|| find(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()));

/// Those in which pods have groups.
pub(super) fn of_pods() -> impl Iterator<Item = &'static Hierarchy> {
    ALL.iter()
}

/// Those in which containers have groups.
pub(super) fn of_containers() -> impl Iterator<Item = &'static Hierarchy> {
    ALL.iter().filter(|hierarchy| hierarchy.bounds())
}

fn find(mountinfo: &str) -> Vec<Hierarchy> {
    let found = mountinfo.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let unified = kind.starts_with("cgroup2 ");
        let place = mount.split(' ').nth(4).filter(|_| unified || kind.starts_with("cgroup "))?;
        let controllers = kind.rsplit(' ').next()?.split(',').map(str::to_owned).collect();
        let hierarchy = Hierarchy { place: place.into(), unified, controllers };
        (hierarchy.bounds() || hierarchy.controls(SHOWN)).then_some(hierarchy)
    });
    found.collect()
}

pub(super) fn whole_machine() -> Resources {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Resources { cpu_shares: Some(processors as u64 * USUAL_SHARES), ..Resources::default() }
}

fn cannot_write(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write `{}`: {error}", file.display()))
}

/// The files that limit a group, of both versions; each hierarchy has some of them.
pub(super) fn limits(resources: &Resources) -> Vec<(&'static str, String)> {
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
        // What has no room left ends, rather than be slow: nothing of it goes to the machine's swap.
        limits.push(("memory.limit_in_bytes", limit.to_string()));
        limits.push(("memory.memsw.limit_in_bytes", limit.to_string()));
        limits.push(("memory.max", limit.to_string()));
        limits.push(("memory.swap.max", 0.to_string()));
    }
    if let Some(limit) = resources.pids {
        limits.push(("pids.max", limit.to_string()));
    }
    limits
}

/// What version 2 calls the share of a group, so that the usual share (1024) is its usual weight (100).
fn cpu_weight(shares: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "shares are small numbers")]
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

/// Whether no processes are in the way of groups with limits.
///
/// A group of version 2 has either processes or groups with limits in it; with both, some controllers make it one in which no
/// process can live any more. The group around all others may have both, but where a container has a view of its own, what
/// looks like that one is an ordinary group with all of the container's processes. They go aside, to where other engines in
/// containers have them, too.
fn make_room(place: &Path) -> bool {
    // Every other group has a type.
    if !place.join("cgroup.type").exists() {
        return true;
    }
    let aside = place.join(ASIDE);
    for _ in 0..MAX_SWEEPS {
        let in_the_way = members(place);
        if in_the_way.is_empty() {
            return true;
        }
        let _there = fs::create_dir(&aside);
        for process in in_the_way {
            let _ended = fs::write(aside.join(MEMBERS), process.as_raw_nonzero().to_string());
        }
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;

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
            cpu.max=20000 100000 memory.limit_in_bytes=4096 memory.memsw.limit_in_bytes=4096 memory.max=4096 memory.swap.max=0";
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn a_group_whose_processes_stay_hands_on_nothing() {
        let place = tempfile::tempdir().expect("a directory");
        let (file, group) = (|name: &str| place.path().join(name), Path::new("sluice/pod1"));
        fs::write(file(CONTROLLERS), "cpuset cpu pids\n").expect("a file");
        fs::write(file(MEMBERS), "41\n42\n").expect("a file");
        fs::create_dir_all(file("sluice/pod1")).expect("a directory");
        let hierarchy = Hierarchy { place: place.path().to_owned(), unified: true, controllers: Vec::new() };
        let handed_on =
            || ["", "sluice", "sluice/pod1"].map(|level| fs::read_to_string(file(level).join(CONTROL_BELOW)).ok());
        fs::write(file("cgroup.type"), "domain\n").expect("a file");
        hierarchy.hand_on(group);
        assert_eq!(handed_on(), [None, None, None]);
        // The group around all others has no type. The last of two words stays in a file that is no kernel's.
        fs::remove_file(file("cgroup.type")).expect("a file");
        hierarchy.hand_on(group);
        assert_eq!(handed_on(), [(); 3].map(|()| Some("+pids".to_owned())));
    }

    #[test]
    fn groups_lie_where_something_bounds_them_and_are_shown_where_programs_look_for_them() {
        let mountinfo = "30 23 0:27 / /sys rw - sysfs sysfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
            34 31 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            42 31 0:39 / /tmp rw - tmpfs memory rw\n";
        let found = find(mountinfo);
        let found: Vec<_> = found.iter().map(|it| (it.place.to_str(), it.unified, it.bounds())).collect();
        let expected = [("cpu", false, true), ("cpuset", false, false), ("unified", true, true)];
        let expected = expected.map(|(name, unified, bounds)| (format!("/sys/fs/cgroup/{name}"), unified, bounds));
        let expected: Vec<_> =
            expected.iter().map(|(place, unified, bounds)| (Some(&**place), *unified, *bounds)).collect();
        assert_eq!(found, expected);
    }
}
