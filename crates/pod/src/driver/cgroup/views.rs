//! What containers alone want of control groups: to be born in one, and to see theirs.

use std::{os::fd::OwnedFd, path::PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{Group, hierarchy::of_pods};

impl Group {
    /// The group in the hierarchy of version 2, where there is one: a process is born into it.
    pub(in crate::driver) fn unified(&self) -> Option<OwnedFd> {
        let hierarchy = self.beside().find(|hierarchy| hierarchy.unified)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(hierarchy.place.join(&self.0), flags, Mode::empty()).ok()
    }

    /// Where a container finds what is counted for it, by name below `/sys/fs/cgroup`; empty where there is one hierarchy alone,
    /// which is mounted as it is. Where it has no group of its own, it sees its pod's.
    pub(in crate::driver) fn views(&self) -> Vec<(String, PathBuf)> {
        let version_1 = of_pods().filter(|hierarchy| !hierarchy.unified);
        let views = version_1.filter_map(|hierarchy| {
            let name = hierarchy.place.file_name()?.to_string_lossy().into_owned();
            let own = hierarchy.place.join(&self.0);
            let group = own.ancestors().take(2).find(|group| group.is_dir())?;
            Some((name, group.to_owned()))
        });
        views.collect()
    }
}

/// Whether the machine has nothing but cgroup v2.
pub(in crate::driver) fn unified_only() -> bool {
    of_pods().count() > 0 && of_pods().all(|hierarchy| hierarchy.unified)
}
