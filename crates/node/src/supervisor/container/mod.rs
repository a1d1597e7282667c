//! Containers: a command in namespaces, files and control groups of its own, by libcontainer.
//!
//! `namespaces` makes what a pod's containers share, `rootfs` lays out their files, `spec` says it all in OCI's words,
//! `executor` takes the last steps inside with the filter of `seccomp`. libcontainer allocates
//! between clone and exec, which only a process with one thread may do: the supervisor is one.

mod executor;
pub(crate) mod namespaces;
pub(crate) mod profile;
mod rootfs;
mod seccomp;
mod spec;
mod users;
mod volumes;

pub(super) use rootfs::seclude;

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use libcontainer::{
    container::{Container, builder::ContainerBuilder},
    syscall::syscall::SyscallType,
};
use rustix::{
    process::{Pid, Signal, Uid, kill_process, kill_process_group},
    thread::CapabilitySet,
};

use self::{
    executor::{Launcher, capability_set},
    namespaces::Shared,
    rootfs::Files,
    spec::{Cgroups, Place, User},
};
use super::{
    cgroup::{self, Group},
    driver::{Begun, DEFAULT_TERM, Driver, Remains, Spawned},
    kernel,
    stdio::Stdio,
};
use crate::{
    confinement::{Confinement, Propagation, Sandbox},
    plan::{Command, Launch, PodPlan},
    wire::Family,
};

/// Confined containers, all of one pod.
pub(crate) struct ContainerDriver {
    sandbox: Sandbox,
    group: Group,
    files: Files,
    shared: Shared,
    /// Where libcontainer keeps its own records.
    records: PathBuf,
    /// What a container can be given, as we have it ourselves.
    possible: CapabilitySet,
    /// By name.
    running: BTreeMap<String, Running>,
    /// Ended, and still to be taken away.
    leftovers: Vec<Leftover>,
}

/// What a container leaves behind that nobody waits for.
struct Leftover {
    name: String,
    container: Container,
}

/// A container that runs without a supervisor.
#[derive(Debug, Clone)]
pub(crate) struct Survivor {
    /// As the plan has it.
    pub(crate) container: String,
    pub(crate) pid: Pid,
}

struct Running {
    pid: Pid,
    user: User,
    container: Container,
}

impl ContainerDriver {
    /// Makes what the pod's containers share, or takes it from `survivors`: what runs of a pod whose supervisor and keeper
    /// were killed together.
    pub(crate) fn new(pod: &Path, plan: &PodPlan, sandbox: &Sandbox, survivors: &[Survivor]) -> io::Result<Self> {
        let possible = rustix::thread::capabilities(None)?.permitted;
        let driver = |files, shared| Self {
            possible,
            sandbox: sandbox.clone(),
            group: Group::pod(&plan.uid),
            files,
            shared,
            records: pod.join("run/oci"),
            running: BTreeMap::new(),
            leftovers: Vec::new(),
        };
        if let Some(survivor) = survivors.first()
            && let Ok(shared) = Shared::adopt(sandbox, survivor.pid)
            && let Ok(files) = Files::take_over(pod, plan, survivors, shares(plan))
        {
            return Ok(driver(files, shared));
        }
        let group = Group::pod(&plan.uid);
        group.kill();
        group.remove();
        group.make(&sandbox.resources)?;
        let records = pod.join("run/oci");
        let _none = fs::remove_dir_all(&records);
        fs::create_dir_all(&records)?;
        let files = Files::new(pod, shares(plan))?;
        Ok(driver(files, Shared::make(sandbox, &group)?))
    }

    fn create(&mut self, command: &Command, confinement: &Confinement, stdio: Stdio) -> io::Result<Running> {
        self.check_capabilities(confinement)?;
        let (root, binds) = self.files.build(confinement)?;
        let group = self.group.container(&confinement.container);
        let user = users::resolve(command, confinement, &root)?;
        let bundle = self.files.bundle(&confinement.container);
        let shared_memory = self.files.shared_memory();
        let terminals = self.files.terminals(&confinement.container);
        let place = Place {
            root: &root,
            binds,
            shared_memory: Some(&shared_memory).filter(|_| !self.sandbox.host_ipc).map(PathBuf::as_path),
            terminals: matches!(stdio, Stdio::Terminal(_)).then_some(&terminals),
            namespaces: self.namespaces(),
            cgroup: &group.absolute(),
            cgroups: self.cgroups(&group)?,
            limits: !users::in_namespace(),
            terminal_group: users::terminal_group(),
            foreign_network: users::in_namespace() && self.sandbox.network.is_none(),
            possible: self.possible,
            devices: if confinement.privileged { machine_devices() } else { Vec::new() },
        };
        let specification = spec::container(command, confinement, &user, &place);
        fs::write(bundle.join("config.json"), specification.to_string())?;
        let mark = fs::File::create(self.mark(&confinement.container))?;
        let builder =
            self.builder(confinement, &user, stdio, Some(mark))?.as_init(&bundle).with_systemd(false).with_detach(true);
        let mut container = builder.build().map_err(explain)?;
        let pid = container.pid().and_then(|pid| Pid::from_raw(pid.as_raw()));
        let started = pid.ok_or_else(|| io::Error::other("the container has no process")).and_then(|pid| {
            if let Some(adjustment) = confinement.oom_score_adj {
                // Lowering it takes a capability that even root may lack; the container runs as well without.
                let _best_effort =
                    fs::write(format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero()), adjustment.to_string());
            }
            container.start().map_err(explain)?;
            Ok(pid)
        });
        match started {
            Ok(pid) => Ok(Running { pid, user, container }),
            Err(error) => {
                let _gone = container.delete(true);
                Err(error)
            }
        }
    }

    /// A privileged container gets what there is; one that names what it needs gets that or nothing.
    fn check_capabilities(&self, confinement: &Confinement) -> io::Result<()> {
        let lacks = |name: &&String| !self.possible.contains(capability_set(std::slice::from_ref(*name)));
        match confinement.capabilities.iter().find(lacks).filter(|_| !confinement.privileged) {
            Some(name) => Err(io::Error::other(format!("this node does not hold {name} itself, and cannot give it"))),
            None => Ok(()),
        }
    }

    fn builder(
        &self,
        confinement: &Confinement,
        user: &User,
        stdio: Stdio,
        mark: Option<fs::File>,
    ) -> io::Result<ContainerBuilder> {
        let kept = if confinement.privileged {
            spec::ALL_CAPABILITIES.map(str::to_owned).to_vec()
        } else {
            confinement.capabilities.clone()
        };
        let filters = match &confinement.seccomp_profile {
            _ if confinement.privileged => Vec::new(),
            Some(text) => profile::filters(text)
                .map_err(|error| io::Error::other(format!("the seccomp profile cannot be used: {error}")))?,
            None if confinement.seccomp => seccomp::programs(&kept)?,
            None => Vec::new(),
        };
        let terminal = matches!(stdio, Stdio::Terminal(_));
        if let Stdio::Terminal(far) = &stdio {
            rustix::fs::fchown(far, Some(Uid::from_raw(user.uid)), None)?;
        }
        let launcher = Launcher { filters, capabilities: capability_set(&kept), terminal, mark: mark.map(Arc::new) };
        let [stdin, stdout, stderr] = streams(stdio)?;
        let builder = ContainerBuilder::new(confinement.container.clone(), SyscallType::default())
            .with_root_path(self.records.clone())
            .map_err(explain)?
            .with_executor(launcher)
            .with_stdin(stdin)
            .with_stdout(stdout)
            .with_stderr(stderr);
        Ok(builder)
    }

    fn namespaces(&self) -> Vec<(&'static str, String)> {
        let mut namespaces = self.shared.paths();
        namespaces.push(("mount", String::new()));
        namespaces.push(("cgroup", String::new()));
        if !self.sandbox.host_pid && !self.shared.of_processes() {
            namespaces.push(("pid", String::new()));
        }
        namespaces
    }

    fn cgroups(&self, group: &Group) -> io::Result<Cgroups> {
        if cgroup::unified_only() {
            return Ok(Cgroups::Unified);
        }
        // Without root there are no groups of ours to be seen.
        let views = if users::in_namespace() { Vec::new() } else { group.views() };
        Ok(Cgroups::Several { directory: self.files.cgroups(&views)?, views })
    }

    /// A file that is empty until the container's program has taken over.
    fn mark(&self, container: &str) -> PathBuf {
        self.records.join(format!("{container}.begun"))
    }

    /// What a start that failed or was cut off has left.
    fn clear(&self, container: &str) {
        let group = self.group.container(container);
        group.kill();
        group.remove();
        let _none = fs::remove_dir_all(self.records.join(container));
        let _none = fs::remove_file(self.mark(container));
        self.files.remove(container);
    }

    fn name_of(&self, pid: Pid) -> Option<String> {
        self.running.iter().find(|(_, running)| running.pid == pid).map(|(name, _)| name.clone())
    }
}

impl Driver for ContainerDriver {
    fn start(&mut self, command: &Command, stdio: Stdio) -> io::Result<Spawned> {
        let confinement = confinement(command)?;
        if self.leftovers.iter().any(|leftover| leftover.name == confinement.container) {
            self.tidy();
        }
        match self.create(command, confinement, stdio) {
            Ok(running) => {
                let pid = running.pid;
                self.running.insert(confinement.container.clone(), running);
                Ok(spawned(pid))
            }
            Err(error) => {
                self.clear(&confinement.container);
                Err(error)
            }
        }
    }

    fn exec(&mut self, command: &Command, argv: &[String], stdio: Stdio) -> io::Result<Spawned> {
        let confinement = confinement(command)?;
        let running =
            self.running.get(&confinement.container).ok_or_else(|| io::Error::other("the container does not run"))?;
        let mut process = spec::process(command, confinement, &running.user, argv, self.possible);
        if let (Stdio::Terminal(_), Some(environment)) = (&stdio, process["env"].as_array_mut())
            && !command.env.iter().any(|(name, _)| name == "TERM")
        {
            environment.push(format!("TERM={DEFAULT_TERM}").into());
        }
        let file = self.files.bundle(&confinement.container).join("exec.json");
        fs::write(&file, process.to_string())?;
        let builder = self
            .builder(confinement, &running.user, stdio, None)?
            .as_tenant()
            .with_detach(true)
            .with_process(Some(&file));
        let pid = builder.build().map_err(explain)?;
        Pid::from_raw(pid.as_raw()).map(spawned).ok_or_else(|| io::Error::other("the command has no process"))
    }

    fn terminal(&mut self, command: &Command) -> io::Result<OwnedFd> {
        let name = &confinement(command)?.container;
        match self.running.get(name) {
            Some(running) => rootfs::terminal_inside(running.pid),
            None => self.files.first_terminal(name),
        }
    }

    fn socket(&self, family: Family) -> io::Result<Option<OwnedFd>> {
        self.shared.socket(family)
    }

    /// Its first process gets a container's signals; what cannot be refused is for all of them.
    fn signal(&mut self, pid: Pid, signal: Signal) {
        let Some(name) = self.name_of(pid) else {
            // Commands lead groups of their own.
            let _gone = kill_process_group(pid, signal);
            return;
        };
        let _gone = kill_process(pid, signal);
        if signal == Signal::KILL {
            self.group.container(&name).kill();
        }
    }

    fn adopt(&mut self, command: &Command, pid: Pid) {
        let Ok(confinement) = confinement(command) else { return };
        // The bundle's mount may have gone with whoever made it.
        let root = PathBuf::from(format!("/proc/{}/root", pid.as_raw_nonzero()));
        // Without libcontainer's records its files and group are taken away all the same, by whoever starts it again.
        if let (Ok(container), Ok(user)) =
            (Container::load(self.records.join(&confinement.container)), users::resolve(command, confinement, &root))
        {
            self.running.insert(confinement.container.clone(), Running { pid, user, container });
        }
    }

    /// libcontainer forks several processes, whose ends a keeper sees like any other: its records say which one counts.
    fn begun(&self, command: &Command) -> Begun {
        let Ok(confinement) = confinement(command) else { return Begun::Nothing };
        let marked = fs::metadata(self.mark(&confinement.container)).is_ok_and(|mark| mark.len() > 0);
        let record = marked.then(|| Container::load(self.records.join(&confinement.container)).ok()).flatten();
        match record.and_then(|container| container.pid()) {
            Some(pid) => Begun::Process(pid.as_raw()),
            None => Begun::Nothing,
        }
    }

    fn abandon(&mut self, command: &Command) {
        if let Ok(confinement) = confinement(command) {
            self.clear(&confinement.container);
        }
    }

    fn ended(&mut self, pid: Pid) -> Remains {
        let Some(name) = self.name_of(pid) else { return Remains::default() };
        let group = self.group.container(&name);
        group.kill();
        let remains = Remains { out_of_memory: group.oom_kills() > 0 };
        if let Some(Running { container, .. }) = self.running.remove(&name) {
            self.leftovers.push(Leftover { name, container });
        }
        remains
    }

    /// The next container does not wait for this, unless it has the same name.
    fn tidy(&mut self) {
        for Leftover { name, mut container } in std::mem::take(&mut self.leftovers) {
            let _gone = container.delete(true);
            self.group.container(&name).remove();
            self.files.remove(&name);
        }
    }

    fn close(&mut self) {
        self.tidy();
        self.group.kill();
        self.group.remove();
    }
}

fn confinement(command: &Command) -> io::Result<&Confinement> {
    command
        .confinement
        .as_deref()
        .ok_or_else(|| io::Error::other("the plan does not say how the container is confined"))
}

/// Whether any container's mounts are to reach the machine.
fn shares(plan: &PodPlan) -> bool {
    let commands = plan.containers.iter().filter_map(|container| match &container.launch {
        Launch::Ready(command) => command.confinement.as_deref(),
        Launch::Withheld { .. } => None,
    });
    commands.map(Confinement::propagation).max() == Some(Propagation::Bidirectional)
}

fn spawned(pid: Pid) -> Spawned {
    Spawned { pid, ticks: kernel::start_ticks(pid.as_raw_nonzero().get()).unwrap_or(0) }
}

/// stdin, stdout and stderr of a process. They are copies at high numbers: libcontainer closes them after use.
fn streams(stdio: Stdio) -> io::Result<[OwnedFd; 3]> {
    let null = || -> io::Result<OwnedFd> { Ok(fs::File::options().read(true).write(true).open("/dev/null")?.into()) };
    let or_null = |stream: Option<OwnedFd>| stream.map_or_else(null, Ok);
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => Ok([or_null(stdin)?, or_null(stdout)?, or_null(stderr)?]),
        Stdio::Terminal(far) => Ok([far.try_clone()?, far.try_clone()?, far]),
    }
}

/// The innermost cause: the layers around it say only where in libcontainer it was met.
fn explain(error: impl std::error::Error) -> io::Error {
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let text = innermost.to_string();
    // What our own executor said, without the steps on which it came back.
    let text = text.find("cannot start `").map_or(text.as_str(), |start| &text[start..]);
    io::Error::other(text.to_owned())
}

/// The nodes of the machine's `/dev`, for a container that may use them all.
fn machine_devices() -> Vec<serde_json::Value> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let devices = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let kind = match metadata.file_type() {
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            _ => return None,
        };
        let name = entry.file_name();
        // The container has its own terminals.
        if name == "ptmx" || name == "console" {
            return None;
        }
        let number = metadata.rdev();
        Some(serde_json::json!({
            "path": entry.path(), "type": kind, "major": rustix::fs::major(number), "minor": rustix::fs::minor(number),
            "fileMode": metadata.mode() & 0o777, "uid": metadata.uid(), "gid": metadata.gid(),
        }))
    });
    devices.collect()
}
