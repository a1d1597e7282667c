//! Containers: a command in namespaces, files and control groups of its own.
//!
//! `namespaces` makes what a pod's containers share, `rootfs` and `volumes` put their files together, `layout` says what they
//! find there, `birth` makes a process, which goes in by `inside` and gives up what it may not keep by `privileges`. All of
//! that happens between fork and exec and allocates, which only a process with one thread may do: the supervisor is one.

mod birth;
mod devices;
mod inside;
mod layout;
pub mod namespaces;
mod privileges;
pub mod profile;
mod rootfs;
mod seccomp;
mod syscalls;
mod users;
mod volumes;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    process::{
        DumpableBehavior, Pid, PidfdFlags, Signal, dumpable_behavior, kill_process, kill_process_group, pidfd_open,
        set_dumpable_behavior,
    },
    thread::{CapabilitySet, UnshareFlags, move_into_thread_name_spaces},
};

use self::{
    birth::{Birth, Streams},
    layout::{Cgroups, Layout, Place},
    namespaces::Shared,
    privileges::{Filters, Privileges, User},
    rootfs::Files,
};
use super::{
    DEFAULT_TERM, Driver, Remains, Spawned, Stdio, Survivor,
    cgroup::{self, Group},
    mark::Mark,
};
use crate::{
    confinement::{Confinement, Propagation, Sandbox},
    holder,
    plan::{Command, ContainerPlan, Launch, PodPlan},
    wire::Family,
};

/// Confined containers, all of one pod.
pub(crate) struct ContainerDriver {
    sandbox: Sandbox,
    group: Group,
    files: Files,
    shared: Shared,
    /// Whether the pod's group, and with it each in it, has but the usual devices.
    devices_denied: bool,
    /// What a container can be given, as we have it ourselves.
    possible: CapabilitySet,
    filters: Filters,
    /// By name.
    running: BTreeMap<String, Running>,
    /// Ended, and still to be taken away, by name.
    leftovers: Vec<String>,
}

#[derive(Clone)]
struct Running {
    pid: Pid,
    user: User,
}

/// Goes where the containers of a pod are made: into the pods' namespaces of an engine without root, and into a mount namespace
/// of its own. The process must have one thread.
pub(crate) fn move_in(pod: &Path, sandbox: &Sandbox) -> io::Result<()> {
    if let Some(holder) = &sandbox.holder {
        let entered = enter(pod, holder, sandbox.network.is_some());
        entered.map_err(|error| io::Error::other(format!("cannot enter the pods' namespaces: {error}")))?;
    }
    let secluded = rootfs::seclude(pod);
    secluded.map_err(|error| io::Error::other(format!("cannot make a mount namespace: {error}")))
}

/// Goes where the pods of an engine without root run, unless we are there already.
fn enter(pod: &Path, holder: &Path, network: bool) -> io::Result<()> {
    let mut namespaces = sluice_lend::Holder::connect(holder)?.ask(sluice_lend::Thing::Namespaces)?;
    let there = namespaces.first().map(rustix::fs::fstat).transpose()?.map(|there| there.st_ino);
    if there == Some(holder::number_of("self", "user")?) {
        return Ok(());
    }
    if !network {
        // The last one: such a pod stays on the machine's own.
        namespaces.pop();
    }
    holder::enter(namespaces)?;
    // A mount namespace begins at its root.
    std::env::set_current_dir(pod)
}

impl ContainerDriver {
    /// Makes what the pod's containers share, or takes it from `survivors`: what runs of a pod whose supervisor and keeper
    /// were killed together.
    pub(crate) fn new(pod: &Path, plan: &PodPlan, sandbox: &Sandbox, survivors: &[Survivor]) -> io::Result<Self> {
        let possible = rustix::thread::capabilities(None)?.permitted;
        let group = Group::pod(&plan.uid);
        let driver = |files, shared, devices_denied| Self {
            devices_denied,
            possible,
            filters: Filters::default(),
            sandbox: sandbox.clone(),
            group: group.clone(),
            files,
            shared,
            running: BTreeMap::new(),
            leftovers: Vec::new(),
        };
        if let Some(survivor) = survivors.first()
            && let Ok(shared) = Shared::adopt(sandbox, survivor.pid)
            && let Ok(files) = Files::take_over(pod, plan, survivors, shares(plan))
        {
            return Ok(driver(files, shared, false));
        }
        group.kill();
        group.remove();
        group.make(&sandbox.resources)?;
        // What the pod's group is denied, no container gets, those neither that still wait for their images.
        let usual = |container: &ContainerPlan| confinement_of(container).is_some_and(|it| !it.privileged);
        let deny_devices = !users::in_namespace() && plan.containers.iter().all(usual);
        if deny_devices {
            devices::restrict(&group)?;
        }
        let files = Files::new(pod, shares(plan))?;
        Ok(driver(files, Shared::make(sandbox, &group)?, deny_devices))
    }

    fn create(
        &mut self,
        command: &Command,
        confinement: &Confinement,
        stdio: Stdio,
        mark: Mark,
    ) -> io::Result<Running> {
        let (root, binds) = self.files.build(confinement)?;
        let group = self.group.container(&confinement.container);
        if !users::in_namespace() {
            group.make_inside(&confinement.resources)?;
            if !confinement.privileged && !self.devices_denied {
                devices::restrict(&group)?;
            }
        }
        let user = users::resolve(command, confinement, root.as_fd())?;
        let shared_memory = self.files.shared_memory();
        let terminals = self.files.terminals(&confinement.container);
        let place = Place {
            binds,
            shared_memory: Some(&shared_memory).filter(|_| !self.sandbox.host_ipc).map(PathBuf::as_path),
            terminals: matches!(stdio, Stdio::Terminal(_)).then_some(&terminals),
            cgroups: self.cgroups(&group)?,
            in_namespace: users::in_namespace(),
            terminal_group: users::terminal_group(),
            foreign_network: users::in_namespace() && self.sandbox.network.is_none(),
            devices: if confinement.privileged { inside::machine_devices() } else { Vec::new() },
            dir: &command.dir,
        };
        let layout = layout::layout(confinement, &place);
        let birth = self.birth(command, confinement, &user, &command.argv, stdio, Some(mark))?;
        let pid = self.start_in(&root, &layout, birth)?;
        Ok(Running { pid, user })
    }

    fn birth(
        &mut self,
        command: &Command,
        confinement: &Confinement,
        user: &User,
        argv: &[String],
        stdio: Stdio,
        mark: Option<Mark>,
    ) -> io::Result<Birth> {
        Ok(Birth {
            group: self.group.container(&confinement.container),
            oom_score_adj: confinement.oom_score_adj,
            mark,
            privileges: Privileges::new(confinement, user, self.possible, &mut self.filters)?,
            environment: environment(command, user, &stdio),
            argv: argv.to_vec(),
            streams: Streams::new(stdio, user)?,
        })
    }

    fn start_in(&self, root: &OwnedFd, layout: &Layout, birth: Birth) -> io::Result<Pid> {
        let mut namespaces = UnshareFlags::NEWNS;
        namespaces.set(UnshareFlags::NEWPID, !self.sandbox.host_pid && !self.shared.of_processes());
        self.shared.among_processes(|| {
            birth.give(namespaces, |birth| {
                self.shared.enter()?;
                namespaces::own_groups()?;
                let entered = inside::move_in(root, layout)?;
                become_user(&birth.privileges, entered, &layout.dir)
            })
        })
    }

    fn exec_in(&self, first: Pid, dir: &Path, birth: Birth) -> io::Result<Pid> {
        let container = pidfd_open(first, PidfdFlags::empty())?;
        let namespaces = namespaces::of_container(&self.sandbox);
        // It is born in the sight of the container, with all that we have open.
        closed_to_others(|| {
            namespaces::among_processes_of(container.as_fd(), || {
                birth.give(UnshareFlags::empty(), |birth| {
                    move_into_thread_name_spaces(container.as_fd(), namespaces)?;
                    rustix::process::umask(inside::UMASK);
                    become_user(&birth.privileges, inside::enter_directory(dir)?, dir)
                })
            })
        })
    }

    fn cgroups(&self, group: &Group) -> io::Result<Cgroups> {
        if cgroup::unified_only() {
            return Ok(Cgroups::Unified);
        }
        // Without root there are no groups of ours to be seen.
        let views = if users::in_namespace() { Vec::new() } else { group.views() };
        Ok(Cgroups::Several { directory: self.files.cgroups(&views)?, views })
    }

    /// What a start that failed or was cut off has left.
    fn clear(&self, container: &str) {
        let group = self.group.container(container);
        group.kill();
        group.remove();
        self.files.remove(container);
    }

    fn name_of(&self, pid: Pid) -> Option<String> {
        self.running.iter().find(|(_, running)| running.pid == pid).map(|(name, _)| name.clone())
    }
}

impl Driver for ContainerDriver {
    fn start(&mut self, command: &Command, stdio: Stdio, mark: Mark) -> io::Result<Spawned> {
        let confinement = confinement(command)?;
        // What is left of the run before gives way to this one.
        self.leftovers.retain(|name| *name != confinement.container);
        match self.create(command, confinement, stdio, mark) {
            Ok(running) => {
                let pid = running.pid;
                self.running.insert(confinement.container.clone(), running);
                Ok(Spawned::new(pid))
            }
            Err(error) => {
                self.clear(&confinement.container);
                Err(error)
            }
        }
    }

    fn exec(&mut self, command: &Command, argv: &[String], stdio: Stdio, mark: Option<Mark>) -> io::Result<Spawned> {
        let confinement = confinement(command)?;
        let running = self.running.get(&confinement.container);
        let Running { pid, user } = running.ok_or_else(|| io::Error::other("the container does not run"))?.clone();
        let birth = self.birth(command, confinement, &user, argv, stdio, mark)?;
        self.exec_in(pid, &command.dir, birth).map(Spawned::new)
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
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let root = rustix::fs::open(format!("/proc/{}/root", pid.as_raw_nonzero()), flags, Mode::empty());
        // Without a user its files and group are taken away all the same, by whoever starts it again.
        if let Ok(user) =
            root.map_err(io::Error::from).and_then(|root| users::resolve(command, confinement, root.as_fd()))
        {
            self.running.insert(confinement.container.clone(), Running { pid, user });
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
        self.running.remove(&name);
        self.leftovers.push(name);
        remains
    }

    /// The next container does not wait for this.
    fn tidy(&mut self) {
        for name in std::mem::take(&mut self.leftovers) {
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

/// Of one that can be started.
fn confinement_of(container: &ContainerPlan) -> Option<&Confinement> {
    match &container.launch {
        Launch::Ready(command) => command.confinement.as_deref(),
        Launch::Withheld { .. } => None,
    }
}

/// Whether any container's mounts are to reach the machine.
fn shares(plan: &PodPlan) -> bool {
    let all = plan.containers.iter().filter_map(confinement_of);
    all.map(Confinement::propagation).max() == Some(Propagation::Bidirectional)
}

/// What a program finds in its environment, beside what it is given.
fn environment(command: &Command, user: &User, stdio: &Stdio) -> Vec<(String, String)> {
    let mut environment = command.env.clone();
    let has = |environment: &[(String, String)], name| {
        environment.iter().any(|(known, value)| known == name && !value.is_empty())
    };
    if !has(&environment, "HOME") {
        environment.push(("HOME".to_owned(), user.home.clone()));
    }
    if matches!(stdio, Stdio::Terminal(_)) && !has(&environment, "TERM") {
        environment.push(("TERM".to_owned(), DEFAULT_TERM.to_owned()));
    }
    environment
}

/// Becomes the container's user, who may be the only one to enter the directory.
fn become_user(privileges: &Privileges, entered: bool, dir: &Path) -> io::Result<()> {
    privileges.assume_user().map_err(|error| io::Error::other(format!("cannot become the user: {error}")))?;
    if entered || inside::enter_directory(dir)? {
        return Ok(());
    }
    Err(io::Error::other(format!("cannot enter the working directory `{}`: its user may not", dir.display())))
}

/// Does something while nobody else may look into this process, nor into one that it makes until that is another program.
fn closed_to_others<T>(act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = dumpable_behavior()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let done = act();
    set_dumpable_behavior(before)?;
    done
}
