//! A container as a process group of the machine: no files, no network and no users of its own, but the control groups and limits
//! that its manifest wants, as far as this machine keeps them.
//!
//! `steps` is what a process goes through between fork and exec, `landlock` is about the files that are left to it.

#[cfg_attr(not(target_os = "linux"), path = "no_landlock.rs")]
pub mod landlock;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process,
};

use rustix::process::{Pid, Signal, kill_process_group};

use self::steps::Birth;
pub use self::steps::RLIMITS;
pub(crate) use self::steps::Steps;
use super::{Driver, Remains, Spawned, Stdio, Survivor, cgroup::Group, mark::Mark, not_started};
use crate::{
    bounds::Bounds,
    kernel,
    plan::{Command, PodPlan},
};

/// The processes of one pod.
#[derive(Debug)]
pub struct ProcessDriver {
    /// `None`: they are in no control group.
    group: Option<Group>,
    /// Those with groups of their own, by name.
    running: BTreeMap<String, Pid>,
    /// Ended, and their groups still to be taken away.
    leftovers: BTreeSet<String>,
}

impl ProcessDriver {
    /// Makes the pod's group, or takes it from `survivors`, what runs of a pod whose supervisor and keeper were killed together.
    pub fn new(plan: &PodPlan, survivors: &[Survivor]) -> io::Result<Self> {
        let group = plan.resources.as_ref().map(|_| Group::pod(&plan.uid));
        if let (Some(group), Some(resources), []) = (&group, &plan.resources, survivors) {
            group.kill();
            group.remove();
            group.make(resources)?;
        }
        Ok(Self { group, running: BTreeMap::new(), leftovers: BTreeSet::new() })
    }

    /// The group of a container, and what it is held to.
    fn group<'a>(&self, command: &'a Command) -> Option<(Group, &'a Bounds)> {
        let bounds = command.bounds.as_deref()?;
        Some((self.group.as_ref()?.container(&bounds.container), bounds))
    }

    fn of(&self, container: &str) -> Option<Group> {
        self.group.as_ref().map(|group| group.container(container))
    }

    fn name_of(&self, pid: Pid) -> Option<String> {
        self.running.iter().find(|(_, running)| **running == pid).map(|(name, _)| name.clone())
    }

    fn spawn(&self, command: &Command, argv: &[String], stdio: Stdio, mark: Option<Mark>) -> io::Result<Spawned> {
        let doors = self.group(command).map(|(group, _)| doors(&group)).transpose()?.unwrap_or_default();
        let terminal = matches!(stdio, Stdio::Terminal(_));
        spawn(command, stdio, Birth { argv, doors, terminal, mark })
    }
}

impl Driver for ProcessDriver {
    fn start(&mut self, command: &Command, stdio: Stdio, mark: Mark) -> io::Result<Spawned> {
        let Some((group, bounds)) = self.group(command) else {
            return self.spawn(command, &command.argv, stdio, Some(mark));
        };
        // What is left of the run before gives way to this one.
        self.leftovers.remove(&bounds.container);
        let made = group.make_inside(&bounds.resources);
        let started = made.and_then(|()| self.spawn(command, &command.argv, stdio, Some(mark)));
        match &started {
            Ok(spawned) => drop(self.running.insert(bounds.container.clone(), spawned.pid)),
            Err(_) => group.remove(),
        }
        started
    }

    fn exec(&mut self, command: &Command, argv: &[String], stdio: Stdio, mark: Option<Mark>) -> io::Result<Spawned> {
        self.spawn(command, argv, stdio, mark)
    }

    fn signal(&mut self, pid: Pid, signal: Signal) {
        // The only failure is that nobody is left, which is what a signal is for.
        let _gone = kill_process_group(pid, signal);
        // What cannot be refused is for those, too, who have left the process group.
        if signal == Signal::KILL
            && let Some(group) = self.name_of(pid).and_then(|name| self.of(&name))
        {
            group.kill();
        }
    }

    fn adopt(&mut self, command: &Command, pid: Pid) {
        if let Some((_, bounds)) = self.group(command) {
            self.running.insert(bounds.container.clone(), pid);
        }
    }

    fn abandon(&mut self, command: &Command) {
        if let Some((group, _)) = self.group(command) {
            group.kill();
            group.remove();
        }
    }

    fn ended(&mut self, pid: Pid) -> Remains {
        self.signal(pid, Signal::KILL);
        let Some(name) = self.name_of(pid) else { return Remains::default() };
        self.running.remove(&name);
        let out_of_memory = self.of(&name).is_some_and(|group| group.oom_kills() > 0);
        self.leftovers.insert(name);
        Remains { out_of_memory }
    }

    /// The next container does not wait for this.
    fn tidy(&mut self) {
        for name in std::mem::take(&mut self.leftovers) {
            if let Some(group) = self.of(&name) {
                group.remove();
            }
        }
    }

    fn close(&mut self) {
        if let Some(group) = &self.group {
            group.kill();
            group.remove();
        }
    }
}

/// The program itself, its arguments and its environment are in the steps.
fn spawn(command: &Command, stdio: Stdio, birth: Birth<'_>) -> io::Result<Spawned> {
    let program = birth.argv.first().ok_or_else(|| io::Error::other("no command given"))?;
    let mut process = process::Command::new(program);
    process.current_dir(&command.dir);
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => {
            process.stdin(stream(stdin)).stdout(stream(stdout)).stderr(stream(stderr)).process_group(0);
        }
        Stdio::Terminal(far) => on_terminal(&mut process, far, command)?,
    }
    let (steps, stumble) = Steps::new(command, birth)?;
    kernel::before_exec(&mut process, steps);
    let child = process.spawn().map_err(|error| match stumble.step() {
        Some(step) => io::Error::new(error.kind(), format!("cannot start `{program}`: {step}: {error}")),
        None => explain(&error, program, command),
    })?;
    Ok(Spawned::new(Pid::from_child(&child)))
}

/// All ways into a group. There is none left when somebody has taken away the pod's.
fn doors(group: &Group) -> io::Result<Vec<File>> {
    let mut doors = group.doors()?;
    doors.extend(group.front_door()?);
    match doors.is_empty() {
        true => Err(io::Error::other("the pod's control groups are gone")),
        false => Ok(doors),
    }
}

fn stream(end: Option<OwnedFd>) -> process::Stdio {
    end.map_or_else(process::Stdio::null, process::Stdio::from)
}

/// All three streams are the terminal, which belongs to the process's user and controls its session.
fn on_terminal(process: &mut process::Command, far: OwnedFd, command: &Command) -> io::Result<()> {
    if let Some(uid) = command.uid {
        rustix::fs::fchown(&far, Some(rustix::process::Uid::from_raw(uid)), None)?;
    }
    process.stdin(far.try_clone()?).stdout(far.try_clone()?).stderr(far);
    Ok(())
}

/// The kernel says "no such file" for a missing program and a missing directory alike.
fn explain(error: &io::Error, program: &str, command: &Command) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound && !command.dir.is_dir() {
        let dir = command.dir.display();
        let text = format!("cannot start `{program}`: its working directory `{dir}` does not exist");
        return io::Error::new(error.kind(), text);
    }
    let path = command.env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, path)| path.as_str());
    not_started(program, path, "", error)
}

#[cfg(test)]
mod tests {
    use rustix::process::{WaitOptions, waitpid};
    use serde_json::{Value, json};

    use super::{super::mark, *};

    /// Starts a command held to some bounds; what that came to, and who has begun by its mark.
    fn start(argv: &[&str], bounds: &Value, uid: Option<u32>) -> (Result<Pid, String>, Option<i32>) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("web");
        let mut whole = json!({"container": "web"});
        whole.as_object_mut().expect("an object").extend(bounds.as_object().expect("an object").clone());
        let command = json!({"argv": argv, "env": [["PATH", "/bin"]], "dir": "/", "uid": uid, "bounds": whole});
        let command: Command = serde_json::from_value(command).expect("a command");
        let stdio = Stdio::Pipes { stdin: None, stdout: None, stderr: None };
        let mut driver = ProcessDriver { group: None, running: BTreeMap::new(), leftovers: BTreeSet::new() };
        let started = driver.start(&command, stdio, Mark::new(&path).expect("a mark"));
        let pid = started.map(|spawned| spawned.pid).map_err(|error| error.to_string());
        if let Ok(pid) = pid {
            waitpid(Some(pid), WaitOptions::empty()).expect("our child");
        }
        (pid, mark::begun(&path))
    }

    #[test]
    fn a_mark_is_left_by_what_became_a_program_whatever_that_may_not_do() {
        let check = |bounds: Value, uid: Option<u32>| {
            let (started, begun) = start(&["sh", "-c", "exit 0"], &bounds, uid);
            assert_eq!(
                (started.map(|pid| pid.as_raw_nonzero().get()), true),
                (begun.ok_or_else(String::new), begun.is_some()),
                "{bounds}"
            );
        };
        check(json!({}), None);
        check(json!({"rlimits": [{"name": "fsize", "soft": 0, "hard": 0}]}), None);
        if landlock::version().is_some() {
            check(json!({"reach": {"places": []}}), None);
        }
        if rustix::process::geteuid().is_root() {
            check(json!({}), Some(65_534));
        }
    }

    #[test]
    fn what_did_not_become_a_program_leaves_no_mark() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = directory.path().join("script").to_string_lossy().into_owned();
        std::fs::write(&script, "#!/no/such/shell\n").expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).expect("a mode");
        let check = |program: &str, bounds: Value, why: &str| {
            let (started, begun) = start(&[program], &bounds, None);
            assert_eq!(started, Err(format!("cannot start `{program}`: {why}")));
            assert_eq!(begun, None, "{program}");
        };
        check("no-such-program", json!({}), "no such program; give its full path or check $PATH");
        check(&script, json!({}), "its interpreter or loader is missing");
        let upside_down = json!({"rlimits": [{"name": "nofile", "soft": 9, "hard": 8}]});
        let why = "its rlimits cannot be set, which takes CAP_SYS_RESOURCE where they are above the node's own: \
                   Invalid argument (os error 22)";
        check("true", upside_down, why);
    }

    #[test]
    fn the_last_variable_of_a_name_counts_and_files_without_a_head_are_run_by_the_shell() {
        let directory = tempfile::tempdir().expect("a directory");
        let script = directory.path().join("script");
        std::fs::write(&script, "test \"$NAME\" = last && echo $1 > said\n").expect("a file");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).expect("a mode");
        let command = json!({"argv": ["script", "word"], "dir": directory.path(),
            "env": [["NAME", "first"], ["PATH", directory.path()], ["NAME", "last"]]});
        let command: Command = serde_json::from_value(command).expect("a command");
        let stdio = Stdio::Pipes { stdin: None, stdout: None, stderr: None };
        let birth = Birth { argv: &command.argv, doors: Vec::new(), terminal: false, mark: None };
        let pid = spawn(&command, stdio, birth).expect("it starts").pid;
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).expect("our child").expect("its end");
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!(std::fs::read_to_string(directory.path().join("said")).expect("a file"), "word\n");
    }
}
