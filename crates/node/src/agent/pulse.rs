//! Whether a pod's supervisor is still able to do anything, as the kernel sees it: looking costs one small file and wakes nobody.

use std::{fs, future::Future, time::Duration};

use sluice_pod::{
    pod_dir::{PodDir, read_json},
    supervisor::keeper::Keepers,
    wire::Identity,
};
use tokio::time::{Instant, sleep};

/// How often a supervisor is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Whoever is seen stopped so many times in a row was not stopped by somebody who goes on at once.
const LOOKS_TO_BE_HUNG: u32 = 2;
/// A supervisor that is not stopped may hang all the same, and is asked this often.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// One that gets on with something may be this late with an answer: a busy machine is no reason to kill it.
const LATEST_ANSWER: Duration = Duration::from_secs(60);

/// What is noticed about a supervisor that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It is stopped, and nobody lets it go on.
    Stopped,
    /// The pod's directory was removed.
    Homeless,
    /// It looks well, and was not asked for long.
    DueToBeAsked,
}

/// No answer, and none to be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silent;

/// Returns when something is to be done about the supervisor over `dir`.
pub(super) async fn watch(dir: PodDir) -> Sign {
    let asked = Instant::now();
    let mut stopped = 0;
    while asked.elapsed() < ASK_EVERY {
        sleep(LOOK_EVERY).await;
        if is_homeless(&dir) {
            return Sign::Homeless;
        }
        stopped = if look(&dir).is_some_and(Vitals::is_stopped) { stopped + 1 } else { 0 };
        if stopped >= LOOKS_TO_BE_HUNG {
            return Sign::Stopped;
        }
    }
    Sign::DueToBeAsked
}

/// What a pod began with is no longer there.
pub(super) fn is_homeless(dir: &PodDir) -> bool {
    matches!(fs::symlink_metadata(dir.plan()), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
}

/// Waits for an answer: `patience` for one from a supervisor that does nothing, longer while it gets on with something, and
/// briefly when it is stopped.
pub(super) async fn answered<T>(
    dir: &PodDir,
    patience: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, Silent> {
    let (asked, mut since, mut stopped) = (Instant::now(), Instant::now(), 0);
    let mut known = look(dir);
    let mut answer = std::pin::pin!(answer);
    loop {
        if let Ok(answer) = tokio::time::timeout(LOOK_EVERY.min(patience), &mut answer).await {
            return Ok(answer);
        }
        let seen = look(dir);
        stopped = if seen.is_some_and(Vitals::is_stopped) { stopped + 1 } else { 0 };
        if stopped >= LOOKS_TO_BE_HUNG {
            return Err(Silent);
        }
        if since.elapsed() >= patience {
            let gets_on = seen.zip(known).is_some_and(|(seen, known)| seen.gets_on(known));
            if !gets_on || asked.elapsed() >= patience + LATEST_ANSWER {
                return Err(Silent);
            }
            (since, known) = (Instant::now(), seen);
        }
    }
}

/// What the kernel counts of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vitals {
    process: Identity,
    state: char,
    /// Clock ticks of processor time, of its own and in the kernel.
    worked: u64,
    /// Disk accesses that it had to wait for.
    faults: u64,
}

impl Vitals {
    /// By SIGSTOP. Whoever is traced is somebody's patient already.
    fn is_stopped(self) -> bool {
        self.state == 'T'
    }

    /// Since an earlier look: it worked, it would if it got a processor, or another one has come.
    fn gets_on(self, earlier: Self) -> bool {
        let moved = (self.process, self.worked, self.faults) != (earlier.process, earlier.worked, earlier.faults);
        !self.is_stopped() && (moved || self.state == 'R')
    }
}

fn look(dir: &PodDir) -> Option<Vitals> {
    let keepers: Keepers = read_json(&dir.keepers()).ok()??;
    let Identity { pid, ticks } = keepers.supervisor;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    vitals(pid, &stat).filter(|vitals| vitals.process.ticks == ticks)
}

/// Reads `/proc/PID/stat`. The command's name stands in parentheses and may hold anything.
fn vitals(pid: i32, stat: &str) -> Option<Vitals> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field)?.parse::<u64>().ok();
    Some(Vitals {
        process: Identity { pid, ticks: number(19)? },
        state: fields.first()?.chars().next()?,
        worked: number(11)? + number(12)?,
        faults: number(9)?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use sluice_pod::{kernel::start_ticks, pod_dir::write_json};

    /// Somebody who does nothing, as the supervisor of a pod.
    struct Idler {
        child: Child,
        dir: PodDir,
        _directory: tempfile::TempDir,
    }

    /// More than it takes to see that somebody is stopped.
    const PATIENCE: Duration = Duration::from_secs(40);

    impl Idler {
        fn start() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let dir = PodDir::new(directory.path());
            let child = Command::new("sleep").arg("1000").spawn().expect("a process");
            let pid = i32::try_from(child.id()).expect("an id");
            let supervisor = Identity { pid, ticks: start_ticks(pid).expect("a process") };
            write_json(&dir.keepers(), &Keepers { keeper: supervisor, supervisor }).expect("keepers");
            write_json(&dir.plan(), &()).expect("a plan");
            Self { child, dir, _directory: directory }
        }

        fn signal(&self, signal: Signal) {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("an id")).expect("an id");
            kill_process(pid, signal).expect("a process");
        }
    }

    impl Drop for Idler {
        fn drop(&mut self) {
            let _ended = self.child.kill();
            let _reaped = self.child.wait();
        }
    }

    #[tokio::test]
    async fn whoever_is_stopped_is_taken_for_hung_and_whoever_is_idle_is_not() {
        let idler = Idler::start();
        let idle = tokio::time::timeout(LOOK_EVERY * 3, watch(idler.dir.clone())).await;
        assert!(idle.is_err(), "{idle:?}");
        idler.signal(Signal::STOP);
        let (watched, asked) = tokio::join!(
            watch(idler.dir.clone()),
            tokio::time::timeout(PATIENCE / 2, answered(&idler.dir, PATIENCE, std::future::pending::<()>())),
        );
        assert_eq!((watched, asked), (Sign::Stopped, Ok(Err(Silent))));
        idler.signal(Signal::CONT);
    }

    #[tokio::test]
    async fn whoever_gets_nowhere_is_waited_for_no_longer_than_it_takes() {
        let idler = Idler::start();
        let patience = LOOK_EVERY;
        let never = answered(&idler.dir, patience, std::future::pending::<()>());
        assert_eq!(tokio::time::timeout(patience * 3, never).await, Ok(Err(Silent)));
        assert_eq!(answered(&idler.dir, patience, async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn a_pod_without_its_directory_is_homeless() {
        let idler = Idler::start();
        fs::remove_file(idler.dir.plan()).expect("a plan");
        assert_eq!(watch(idler.dir.clone()).await, Sign::Homeless);
    }

    #[test]
    fn a_busy_machine_is_told_from_a_hung_supervisor() {
        let stat = |state: char, worked: u64, ticks: u64| {
            let text = format!("7 (a) b) {state} 1 7 7 0 -1 0 0 0 3 0 {worked} 2 0 0 20 0 1 0 {ticks} 0");
            vitals(7, &text).expect("a line of the kernel")
        };
        assert_eq!(
            stat('S', 5, 9),
            Vitals { process: Identity { pid: 7, ticks: 9 }, state: 'S', worked: 7, faults: 3 }
        );
        let before = stat('S', 5, 9);
        assert!(!stat('S', 5, 9).gets_on(before), "it sleeps and does nothing");
        assert!(!stat('D', 5, 9).gets_on(before), "it waits for a disk that does not answer");
        assert!(stat('D', 6, 9).gets_on(before), "it worked");
        assert!(stat('R', 5, 9).gets_on(before), "it waits for a processor");
        assert!(!stat('T', 6, 9).gets_on(before), "it is stopped");
        assert!(stat('S', 5, 10).gets_on(before), "another one has come");
        assert_eq!(vitals(7, "7 (a) S 1 2"), None);
    }
}
