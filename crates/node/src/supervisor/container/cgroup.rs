//! What libcontainer leaves to us of control groups: ending everything in one, seeing that memory ran out, tidying up.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

/// All that is ours lies below it, in every hierarchy.
const ROOT: &str = "sluice";
/// Rounds of killing; each can uncover what was forked during the one before.
const MAX_SWEEPS: usize = 64;

/// The group of one container, or of a whole pod, as a path below the hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group(PathBuf);

impl Group {
    pub(crate) fn pod(uid: &str) -> Self {
        Self(Path::new(ROOT).join(format!("pod{uid}")))
    }

    pub(super) fn container(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// As the OCI specification writes it.
    pub(super) fn absolute(&self) -> String {
        Path::new("/").join(&self.0).to_string_lossy().into_owned()
    }

    /// How often the kernel has ended something in this group for want of memory.
    pub(super) fn oom_kills(&self) -> u64 {
        let files = ["memory.events", "memory.oom_control"];
        let texts =
            hierarchies().into_iter().flat_map(|hierarchy| files.map(|file| hierarchy.join(&self.0).join(file)));
        texts.filter_map(|path| oom_kills(&fs::read_to_string(path).ok()?)).max().unwrap_or(0)
    }

    /// Ends everything in the group and in those below it.
    pub(crate) fn kill(&self) {
        for directory in self.directories() {
            kill_below(&directory);
        }
    }

    /// Removes the group and those below it; what still lives in one keeps it.
    pub(crate) fn remove(&self) {
        for directory in self.directories() {
            remove_below(&directory);
        }
    }

    fn directories(&self) -> Vec<PathBuf> {
        hierarchies()
            .into_iter()
            .map(|hierarchy| hierarchy.join(&self.0))
            .filter(|directory| directory.is_dir())
            .collect()
    }
}

/// Whether the machine has nothing but cgroup v2.
pub(super) fn unified_only() -> bool {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    !text.lines().any(|line| line.contains(" - cgroup ")) && text.lines().any(|line| line.contains(" - cgroup2 "))
}

fn hierarchies() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_cgroups = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    text.lines().filter(of_cgroups).filter_map(|line| line.split(' ').nth(4).map(PathBuf::from)).collect()
}

/// Both versions write the count in a line of its own.
fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

fn kill_below(directory: &Path) {
    if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
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
    let own = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
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
    fn groups_lie_below_ours() {
        assert_eq!(Group::pod("1-2").container("web").absolute(), "/sluice/pod1-2/web");
    }
}
