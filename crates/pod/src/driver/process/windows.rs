//! A container as a job of Windows: no files, no network and no users of its own, but whatever a process of it starts belongs to it
//! and ends with it.
//!
//! A process is created suspended, put into its jobs, marked, and only then let run: there is no moment at which it runs outside of
//! them. It outlives us, and whoever comes next finds its job by name.

mod job;

use std::{
    collections::BTreeMap,
    io,
    os::windows::{
        io::{AsHandle as _, OwnedHandle},
        process::CommandExt as _,
    },
    process::{self, Child},
};

use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_SUSPENDED};

use self::job::Job;
use super::{Driver, Remains, Spawned, Stdio, Survivor, mark::Mark, not_started};
use crate::{
    confinement::Resources,
    kernel::{self, Pid, Signal, StreamEnd},
    plan::{Command, PodPlan},
};

/// The processes of one pod.
#[derive(Debug)]
pub struct ProcessDriver {
    pod: String,
    /// Around those of its containers; `None`: nothing holds them together.
    job: Option<Job>,
    /// First processes of containers.
    running: BTreeMap<Pid, Held>,
    /// Hooks, probes and commands.
    beside: BTreeMap<Pid, Held>,
}

/// A process, whose id is its own for as long as it is held, and what it has started.
#[derive(Debug)]
struct Held {
    container: Option<String>,
    job: Job,
    process: OwnedHandle,
}

impl ProcessDriver {
    /// Makes the pod's job, or takes it from `survivors`, what runs of a pod that has lost its supervisor.
    pub fn new(plan: &PodPlan, survivors: &[Survivor]) -> io::Result<Self> {
        let job = plan.resources.as_ref().map(|resources| pods_job(&plan.uid, resources, survivors)).transpose()?;
        Ok(Self { pod: plan.uid.clone(), job, running: BTreeMap::new(), beside: BTreeMap::new() })
    }

    fn job_name(&self, container: &str) -> String {
        format!("{}-{container}", name_of_pod(&self.pod))
    }

    fn held(&mut self, pid: Pid) -> Option<&mut Held> {
        self.running.get_mut(&pid).or_else(|| self.beside.get_mut(&pid))
    }
}

fn pods_job(uid: &str, resources: &Resources, survivors: &[Survivor]) -> io::Result<Job> {
    let job = Job::new(Some(&name_of_pod(uid)))?;
    if survivors.is_empty() {
        job.end();
        job.limit(resources)?;
    }
    Ok(job)
}

/// Among the jobs of all sessions, because a service comes back in another one than a user.
fn name_of_pod(uid: &str) -> String {
    format!("Global\\sluice-{uid}")
}

/// Who is told to be whose.
fn container(command: &Command) -> Option<&str> {
    command.bounds.as_deref().map(|bounds| bounds.container.as_str())
}

impl Driver for ProcessDriver {
    fn start(&mut self, command: &Command, stdio: Stdio, mark: Mark) -> io::Result<Spawned> {
        let container = container(command);
        let job = Job::new(container.map(|container| self.job_name(container)).as_deref())?;
        // What is left of the run before gives way to this one.
        job.end();
        if let Some(bounds) = &command.bounds {
            job.limit(&bounds.resources)?;
        }
        let around: Vec<&Job> = self.job.iter().collect();
        let (pid, process) = spawn(command, &command.argv, stdio, Some(&mark), &around, &job)?;
        self.running.insert(pid, Held { container: container.map(str::to_owned), job, process });
        Ok(Spawned::new(pid))
    }

    fn exec(&mut self, command: &Command, argv: &[String], stdio: Stdio, mark: Option<Mark>) -> io::Result<Spawned> {
        self.beside.retain(|_, held| !kernel::has_ended(&held.process));
        let container = container(command);
        let of_container = self.running.values().filter(|held| held.container.is_some());
        let of_container = of_container.filter(|held| held.container.as_deref() == container);
        let around: Vec<&Job> = self.job.iter().chain(of_container.map(|held| &held.job)).collect();
        let job = Job::new(None)?;
        let (pid, process) = spawn(command, argv, stdio, mark.as_ref(), &around, &job)?;
        self.beside.insert(pid, Held { container: container.map(str::to_owned), job, process });
        Ok(Spawned::new(pid))
    }

    fn signal(&mut self, pid: Pid, signal: Signal) {
        let Some(held) = self.held(pid) else { return };
        match signal {
            Signal::KILL => held.job.end(),
            // Who has no ears for it is given until its deadline.
            _ => drop(kernel::interrupt(pid)),
        }
    }

    fn adopt(&mut self, command: &Command, pid: Pid) {
        let container = container(command);
        let job = container.and_then(|container| Job::open(&self.job_name(container)));
        let raw = pid.as_raw_nonzero().get();
        let process = kernel::start_ticks(raw).and_then(|ticks| kernel::hold_process(raw, ticks));
        if let (Some(job), Some(process)) = (job, process) {
            self.running.insert(pid, Held { container: container.map(str::to_owned), job, process });
        }
    }

    fn abandon(&mut self, command: &Command) {
        if let Some(job) = container(command).and_then(|container| Job::open(&self.job_name(container))) {
            job.end();
        }
    }

    fn ended(&mut self, pid: Pid) -> Remains {
        self.signal(pid, Signal::KILL);
        self.running.remove(&pid);
        self.beside.remove(&pid);
        Remains::default()
    }

    fn close(&mut self) {
        self.job.iter().chain(self.running.values().map(|held| &held.job)).for_each(Job::end);
    }
}

fn spawn(
    command: &Command,
    argv: &[String],
    stdio: Stdio,
    mark: Option<&Mark>,
    around: &[&Job],
    job: &Job,
) -> io::Result<(Pid, OwnedHandle)> {
    let (program, arguments) = argv.split_first().ok_or_else(|| io::Error::other("no command given"))?;
    let (stdin, stdout, stderr) = match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => (stdin, stdout, stderr),
        Stdio::Terminal(_) => return Err(refused(program, "`tty`")),
    };
    if let Some(field) = lacking(command) {
        return Err(refused(program, field));
    }
    let child = process::Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(command.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&command.dir)
        .stdin(stream(stdin))
        .stdout(stream(stdout))
        .stderr(stream(stderr))
        // On a console of its own: it does not end with ours, and hears nothing that is not meant for it.
        .creation_flags(CREATE_SUSPENDED | CREATE_NEW_PROCESS_GROUP | CREATE_NO_WINDOW)
        .spawn();
    let mut child = child.map_err(|error| explain(&error, program, command))?;
    let begun = begin(&child, mark, around, job);
    if begun.is_err() {
        let _gone = child.kill();
        if let Some(mark) = mark {
            mark.take_back();
        }
    }
    let pid = begun.map_err(|error| io::Error::new(error.kind(), format!("cannot start `{program}`: {error}")))?;
    Ok((pid, OwnedHandle::from(child)))
}

/// What stands between a suspended process and its program.
fn begin(child: &Child, mark: Option<&Mark>, around: &[&Job], job: &Job) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other(format!("its id {} is none that others can have", child.id())))?;
    for job in around.iter().chain([&job]) {
        job.take_in(child.as_handle())?;
    }
    job.be_held_by(child.as_handle())?;
    if let Some(mark) = mark {
        mark.announce(child.id())?;
        mark.begin()?;
    }
    kernel::resume(child.id())?;
    Ok(pid)
}

/// What a command asks for that this system has not.
fn lacking(command: &Command) -> Option<&'static str> {
    let bounds = command.bounds.as_deref();
    let wanted = [
        ("a container", command.confinement.is_some()),
        ("`runAsUser`", command.uid.is_some()),
        ("`runAsGroup`", command.gid.is_some()),
        ("`supplementalGroups` or `fsGroup`", bounds.is_some_and(|bounds| !bounds.groups.is_empty())),
        ("`allowPrivilegeEscalation: false`", bounds.is_some_and(|bounds| bounds.no_new_privileges)),
        ("`capabilities`", bounds.is_some_and(|bounds| bounds.capabilities.is_some())),
        ("`sluice.dev/confine` or `readOnlyRootFilesystem`", bounds.is_some_and(|bounds| bounds.reach.is_some())),
        ("`sluice.dev/rlimits`", bounds.is_some_and(|bounds| !bounds.rlimits.is_empty())),
    ];
    wanted.into_iter().find(|(_, wanted)| *wanted).map(|(field, _)| field)
}

fn refused(program: &str, field: &str) -> io::Error {
    let text = format!("cannot start `{program}`: {field} is not to be had for processes on Windows");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

fn stream(end: Option<StreamEnd>) -> process::Stdio {
    end.map_or_else(process::Stdio::null, process::Stdio::from)
}

fn explain(error: &io::Error, program: &str, command: &Command) -> io::Error {
    if !command.dir.is_dir() {
        let dir = command.dir.display();
        let text = format!("cannot start `{program}`: its working directory `{dir}` does not exist");
        return io::Error::new(error.kind(), text);
    }
    let path = command.env.iter().find(|(name, _)| name.eq_ignore_ascii_case("PATH"));
    not_started(program, path.map_or("", |(_, path)| path.as_str()), "", error)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeReader, PipeWriter, Read as _, Write as _, pipe},
        path::PathBuf,
        time::{Duration, Instant},
    };

    use serde_json::{Value, json};

    use super::{super::mark, *};

    /// No process takes longer to come or to go, on a busy machine too.
    const PATIENCE: Duration = Duration::from_secs(30);
    /// Waits for a line, and says what it heard.
    const WAITING: &str = "echo up& set /p line=& cmd /c echo heard";
    /// What programs need of an environment on any Windows.
    const MACHINES: [&str; 4] = ["PATH", "SystemRoot", "ComSpec", "TEMP"];

    struct Pod {
        driver: ProcessDriver,
        plan: PodPlan,
        place: tempfile::TempDir,
    }

    /// A process with our ends of its streams.
    struct Run {
        pid: Pid,
        process: OwnedHandle,
        stdin: PipeWriter,
        stdout: PipeReader,
    }

    impl Pod {
        fn new(name: &str) -> Self {
            let place = tempfile::tempdir().expect("a directory");
            let uid = format!("{name}-{}", process::id());
            let plan = json!({"version": 1, "namespace": "default", "name": name, "uid": uid, "restartPolicy": "Never",
                "graceSeconds": 1, "logDir": place.path(), "containers": [], "resources": {"pids": 100}});
            let plan: PodPlan = serde_json::from_value(plan).expect("a plan");
            Self { driver: ProcessDriver::new(&plan, &[]).expect("a job"), plan, place }
        }

        fn command(&self, script: &str) -> Command {
            let machines = MACHINES.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
            let env: Vec<(&str, String)> = machines.chain([("NAME", "web".to_owned())]).collect();
            let command = json!({"argv": ["cmd", "/c", script], "env": env, "dir": self.place.path(),
                "bounds": {"container": "web", "resources": {"memoryBytes": 1 << 30, "pids": 50}}});
            serde_json::from_value(command).expect("a command")
        }

        fn mark(&self) -> PathBuf {
            self.place.path().join("mark")
        }

        fn run(&mut self, command: &Command, start: bool) -> io::Result<Run> {
            let (their_stdin, stdin) = pipe().expect("a pipe");
            let (stdout, their_stdout) = pipe().expect("a pipe");
            let stdio =
                Stdio::Pipes { stdin: Some(their_stdin.into()), stdout: Some(their_stdout.into()), stderr: None };
            let mark = Mark::new(&self.mark()).expect("a mark");
            let Spawned { pid, ticks } = match start {
                true => self.driver.start(command, stdio, mark)?,
                false => self.driver.exec(command, &command.argv, stdio, Some(mark))?,
            };
            let process = kernel::hold_process(pid.as_raw_nonzero().get(), ticks).expect("it is there");
            Ok(Run { pid, process, stdin, stdout })
        }

        fn start(&mut self, script: &str) -> Run {
            self.run(&self.command(script), true).expect("it starts")
        }
    }

    impl Run {
        /// Until all who write to it are gone.
        fn said(&mut self) -> String {
            let mut said = String::new();
            self.stdout.read_to_string(&mut said).expect("words");
            said.replace("\r\n", "\n")
        }

        fn until_up(&mut self) {
            let mut up = [0; 2];
            self.stdout.read_exact(&mut up).expect("a word");
            assert_eq!(&up, b"up");
        }

        fn code(&self) -> u32 {
            let deadline = Instant::now() + PATIENCE;
            while !kernel::has_ended(&self.process) {
                assert!(Instant::now() < deadline, "it never ends");
                std::thread::yield_now();
            }
            kernel::exit_code(&self.process).expect("an exit code")
        }
    }

    #[test]
    fn a_command_has_its_environment_directory_and_streams() {
        let mut pod = Pod::new("plain");
        let mut run = pod.start("echo name %NAME%& set /p line=& type file& exit 3");
        std::fs::write(pod.place.path().join("file"), "of its directory\n").expect("a file");
        run.stdin.write_all(b"go\r\n").expect("a reader");
        assert_eq!(run.said(), "name web\nof its directory\n");
        assert_eq!(run.code(), 3);
        assert_eq!(mark::begun(&pod.mark()), Some(run.pid.as_raw_nonzero().get()));
        assert!(!pod.driver.ended(run.pid).out_of_memory);
    }

    #[test]
    fn whatever_a_process_has_started_ends_with_it() {
        let mut pod = Pod::new("family");
        std::fs::write(pod.place.path().join("child.cmd"), format!("@{WAITING}\r\n")).expect("a file");
        let mut run = pod.start("cmd /c child.cmd");
        run.until_up();
        assert!(!kernel::has_ended(&run.process));
        pod.driver.signal(run.pid, Signal::KILL);
        assert_eq!(run.said().trim(), "", "nobody is left to write");
        assert_eq!(run.code(), 137);
    }

    #[test]
    fn a_process_outlives_its_driver_and_is_taken_over() {
        let mut pod = Pod::new("adopted");
        let mut run = pod.start(WAITING);
        run.until_up();
        let survivors = [Survivor { container: "web".to_owned(), pid: run.pid }];
        pod.driver = ProcessDriver::new(&pod.plan, &survivors).expect("a job");
        assert!(!kernel::has_ended(&run.process));
        pod.driver.adopt(&pod.command(WAITING), run.pid);
        let ticks = kernel::start_ticks(run.pid.as_raw_nonzero().get()).expect("it is there");
        assert!(kernel::hold_process(run.pid.as_raw_nonzero().get(), ticks + 1).is_none(), "that is another one");
        pod.driver.signal(run.pid, Signal::KILL);
        assert_eq!(run.code(), 137);
    }

    #[test]
    fn what_nobody_knows_of_is_found_by_its_name_and_ended() {
        let mut pod = Pod::new("abandoned");
        let mut run = pod.start(WAITING);
        run.until_up();
        pod.driver =
            ProcessDriver::new(&pod.plan, &[Survivor { container: "web".to_owned(), pid: run.pid }]).expect("a job");
        let command = pod.command(WAITING);
        pod.driver.abandon(&command);
        assert_eq!(run.code(), 137);
    }

    #[test]
    fn commands_run_beside_a_container_and_end_with_it() {
        let mut pod = Pod::new("beside");
        let mut web = pod.start(WAITING);
        web.until_up();
        let command = pod.command("echo up& exit 4");
        let mut short = pod.run(&command, false).expect("it starts");
        assert_eq!((short.said().trim(), short.code()), ("up", 4));
        let command = pod.command(WAITING);
        let mut long = pod.run(&command, false).expect("it starts");
        long.until_up();
        pod.driver.ended(web.pid);
        assert_eq!((web.code(), long.code()), (137, 137));
    }

    #[test]
    fn a_pod_that_is_over_leaves_nobody() {
        let mut pod = Pod::new("over");
        let mut run = pod.start(WAITING);
        run.until_up();
        pod.driver.close();
        assert_eq!(run.code(), 137);
    }

    #[test]
    fn a_request_to_end_is_heard_by_the_process_and_by_nobody_else() {
        /// STATUS_CONTROL_C_EXIT, of whoever has no handler of its own.
        const ENDED_BY_BREAK: u32 = 0xc000_013a;
        let mut pod = Pod::new("asked");
        let mut run = pod.start(WAITING);
        let mut other = Pod::new("other");
        let mut another = other.start(WAITING);
        run.until_up();
        another.until_up();
        pod.driver.signal(run.pid, Signal::TERM);
        assert_eq!(run.code(), ENDED_BY_BREAK);
        another.stdin.write_all(b"go\r\n").expect("a reader");
        assert_eq!(another.said().trim(), "heard");
        assert_eq!(another.code(), 0);
    }

    #[test]
    fn what_cannot_start_says_why_and_leaves_no_mark() {
        let mut pod = Pod::new("refused");
        let check = |pod: &mut Pod, change: Value, why: &str| {
            let mut command = serde_json::to_value(pod.command("exit")).expect("JSON");
            for (place, value) in change.as_object().expect("changes") {
                command.pointer_mut(place).map_or_else(|| panic!("nothing at {place}"), |it| *it = value.clone());
            }
            let command: Command = serde_json::from_value(command).expect("a command");
            let error = pod.run(&command, true).err().expect("it cannot start");
            assert_eq!(error.to_string(), format!("cannot start `{}`: {why}", command.argv[0]), "{change}");
            assert_eq!(mark::begun(&pod.mark()), None);
        };
        let no_such = "no such program; give its full path or check $PATH";
        check(&mut pod, json!({"/argv": ["no-such-program"]}), no_such);
        check(&mut pod, json!({"/dir": "C:\\none"}), "its working directory `C:\\none` does not exist");
        let bounds = |name: &str, value: Value| json!({"/bounds": {"container": "web", name: value}});
        for (change, field) in [
            (bounds("groups", json!([7])), "`supplementalGroups` or `fsGroup`"),
            (bounds("noNewPrivileges", json!(true)), "`allowPrivilegeEscalation: false`"),
            (bounds("capabilities", json!([])), "`capabilities`"),
            (bounds("reach", json!({"places": []})), "`sluice.dev/confine` or `readOnlyRootFilesystem`"),
            (bounds("rlimits", json!([{"name": "core", "soft": 0, "hard": 0}])), "`sluice.dev/rlimits`"),
        ] {
            check(&mut pod, change, &format!("{field} is not to be had for processes on Windows"));
        }
        let mut command = pod.command("exit");
        (command.uid, command.gid) = (Some(7), Some(8));
        assert_eq!(lacking(&command), Some("`runAsUser`"));
        command.uid = None;
        assert_eq!(lacking(&command), Some("`runAsGroup`"));
    }
}
