//! Where the kernel counts: control groups for containers, `/proc` for processes and the machine itself.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sluice_pod::driver::cgroup::{Group, hierarchies};

/// Where one container is measured.
#[derive(Debug)]
pub(super) enum Meter {
    /// Its directories in all hierarchies.
    Group(Vec<PathBuf>),
    /// Its first process, which leads a group and a family.
    Process(i32),
}

/// The machine at one moment: what is read more than once is read once.
#[derive(Debug)]
pub(super) struct Machine {
    hierarchies: Vec<PathBuf>,
    ticks_per_second: u64,
    page_bytes: u64,
    processes: OnceCell<BTreeMap<i32, Process>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// Its own and that of children that it has waited for.
    cpu_ticks: u64,
    resident_pages: u64,
}

impl Machine {
    pub(super) fn look() -> Self {
        Self {
            hierarchies: hierarchies(),
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            page_bytes: rustix::param::page_size() as u64,
            processes: OnceCell::new(),
        }
    }

    /// A container without a group of its own is a process and its family.
    pub(super) fn meter(&self, uid: &str, container: &str, pid: i32) -> Meter {
        let group = Group::pod(uid).container(container);
        let places = self.hierarchies.iter().map(|hierarchy| hierarchy.join(group.path()));
        let places: Vec<PathBuf> = places.filter(|place| place.is_dir()).collect();
        if places.is_empty() { Meter::Process(pid) } else { Meter::Group(places) }
    }

    /// What all processors have worked.
    pub(super) fn cpu_time(&self) -> Duration {
        self.ticks(busy_ticks(&read(Path::new("/proc/stat"))))
    }

    /// As the kubelet counts it: in use, without files that nobody has touched lately.
    pub(super) fn memory_bytes(&self) -> u64 {
        let text = read(Path::new("/proc/meminfo"));
        let kib = |name: &str| field(&text, name).unwrap_or(0);
        kib("MemTotal:").saturating_sub(kib("MemFree:")).saturating_sub(kib("Inactive(file):")) * 1024
    }

    fn ticks(&self, ticks: u64) -> Duration {
        Duration::from_millis(ticks * 1000 / self.ticks_per_second)
    }

    fn family(&self, first: i32) -> Vec<&Process> {
        family(self.processes.get_or_init(processes), first)
    }
}

impl Meter {
    pub(super) fn cpu_time(&self, machine: &Machine) -> Option<Duration> {
        match self {
            Self::Group(places) => places.iter().find_map(|place| group_cpu(place)),
            Self::Process(first) => {
                let family = machine.family(*first);
                (!family.is_empty()).then(|| machine.ticks(family.iter().map(|process| process.cpu_ticks).sum()))
            }
        }
    }

    /// In use, without files that nobody has touched lately; of processes, what is resident.
    pub(super) fn memory_bytes(&self, machine: &Machine) -> Option<u64> {
        match self {
            Self::Group(places) => places.iter().find_map(|place| group_memory(place)),
            Self::Process(first) => {
                let pages: u64 = machine.family(*first).iter().map(|process| process.resident_pages).sum();
                Some(pages * machine.page_bytes)
            }
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn group_cpu(place: &Path) -> Option<Duration> {
    match read(&place.join("cpuacct.usage")).trim().parse() {
        Ok(nanoseconds) => Some(Duration::from_nanos(nanoseconds)),
        Err(_) => field(&read(&place.join("cpu.stat")), "usage_usec").map(Duration::from_micros),
    }
}

fn group_memory(place: &Path) -> Option<u64> {
    let in_use = |file: &str| read(&place.join(file)).trim().parse::<u64>().ok();
    let (bytes, untouched) = match in_use("memory.usage_in_bytes") {
        Some(bytes) => (bytes, "total_inactive_file"),
        None => (in_use("memory.current")?, "inactive_file"),
    };
    Some(bytes.saturating_sub(field(&read(&place.join("memory.stat")), untouched).unwrap_or(0)))
}

/// The number after a name, in a text of one such pair a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, rest) = line.split_once(char::is_whitespace)?;
        (key == name).then(|| rest.split_whitespace().next()?.parse().ok())?
    })
}

/// user, nice, system, irq, softirq and steal: all but waiting. Guests are in user already.
fn busy_ticks(stat: &str) -> u64 {
    let all = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let all: Vec<u64> = all.map(|ticks| ticks.parse().unwrap_or(0)).collect();
    [0, 1, 2, 5, 6, 7].iter().filter_map(|place| all.get(*place)).sum()
}

fn processes() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = entries.filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit));
    numbered.filter_map(|entry| process(&read(&entry.path().join("stat")))).map(|it| (it.pid, it)).collect()
}

fn process(stat: &str) -> Option<Process> {
    let pid = stat.split_once(' ')?.0.parse().ok()?;
    // The command's name stands in parentheses and may hold anything, so fields are counted from the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let id = |place: usize| fields.get(place)?.parse::<i32>().ok();
    Some(Process {
        pid,
        parent: id(1)?,
        group: id(2)?,
        session: id(3)?,
        cpu_ticks: (11..=14).filter_map(number).sum(),
        resident_pages: number(21)?,
    })
}

/// Everything that a process leads or has brought about.
fn family(all: &BTreeMap<i32, Process>, first: i32) -> Vec<&Process> {
    let led = |process: &Process| [process.pid, process.group, process.session].contains(&first);
    let mut members: BTreeSet<i32> = all.values().filter(|process| led(process)).map(|process| process.pid).collect();
    loop {
        let children = all.values().filter(|it| members.contains(&it.parent) && !members.contains(&it.pid));
        let children: Vec<i32> = children.map(|process| process.pid).collect();
        if children.is_empty() {
            return members.iter().filter_map(|pid| all.get(pid)).collect();
        }
        members.extend(children);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_read_whatever_they_are_called() {
        let stat =
            "42 (a ) b) S 7 42 40 0 -1 4194560 100 0 0 0 11 12 13 14 20 0 1 0 5000 1000000 321 18446744073709551615";
        let expected = Process { pid: 42, parent: 7, group: 42, session: 40, cpu_ticks: 50, resident_pages: 321 };
        assert_eq!(process(stat), Some(expected));
        assert_eq!(process("42 (half"), None);
    }

    #[test]
    fn a_family_is_who_is_led_and_who_was_brought_about() {
        let one =
            |pid, parent, group, session| Process { pid, parent, group, session, cpu_ticks: 1, resident_pages: 1 };
        let all = [
            one(1, 0, 1, 1),
            one(10, 1, 10, 10),
            one(11, 10, 11, 11),
            one(12, 11, 12, 12),
            one(13, 1, 10, 10),
            one(20, 1, 20, 20),
        ];
        let all: BTreeMap<i32, Process> = all.into_iter().map(|process| (process.pid, process)).collect();
        let pids: Vec<i32> = family(&all, 10).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [10, 11, 12, 13]);
        assert!(family(&all, 99).is_empty());
    }

    #[test]
    fn numbers_are_found_by_their_names() {
        assert_eq!(field("total_cache 5\ntotal_inactive_file 7\n", "total_inactive_file"), Some(7));
        assert_eq!(field("MemTotal:       24 kB\n", "MemTotal:"), Some(24));
        assert_eq!(field("usage_usec x\n", "usage_usec"), None);
        assert_eq!(busy_ticks("cpu  1 2 4 100 200 8 16 32 1000 1000\ncpu0 9 9\n"), 63);
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
        assert_eq!((group_cpu(dir.path()), group_memory(dir.path())), (None, None));
        write("cpu.stat", "nr_periods 3\nusage_usec 1500\n");
        write("memory.current", "1000\n");
        write("memory.stat", "inactive_file 300\ntotal_inactive_file 400\n");
        assert_eq!(group_cpu(dir.path()), Some(Duration::from_micros(1500)));
        assert_eq!(group_memory(dir.path()), Some(700));
        write("cpuacct.usage", "2500\n");
        write("memory.usage_in_bytes", "1000\n");
        assert_eq!(group_cpu(dir.path()), Some(Duration::from_nanos(2500)));
        assert_eq!(group_memory(dir.path()), Some(600));
    }
}
