//! What a process goes through between fork and exec, and which of it went wrong.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fmt, fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
};

use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};

use super::{
    super::{DEFAULT_TERM, mark::Mark},
    landlock::Fence,
};
use crate::{
    kernel::{self, Capabilities, Strings},
    plan::Command,
};

/// Everything is made ready before the fork: after it, there are only system calls.
#[derive(Debug)]
pub(crate) struct Steps {
    /// Its stdin is a terminal, which is to control a session of its own.
    terminal: bool,
    /// The ways into its control group.
    doors: Vec<fs::File>,
    rlimits: Vec<(Resource, Rlimit)>,
    user: Option<User>,
    directory: CString,
    /// Capabilities that root is not left with.
    given_up: Capabilities,
    no_new_privileges: bool,
    fence: Option<Fence>,
    mark: Option<Mark>,
    argv: Strings,
    environment: Strings,
    /// Takes the number of the step that went wrong.
    confession: OwnedFd,
}

/// What a process is given beside its command.
pub(super) struct Birth<'a> {
    pub(super) argv: &'a [String],
    pub(super) doors: Vec<fs::File>,
    pub(super) terminal: bool,
    pub(super) mark: Option<Mark>,
}

#[derive(Debug)]
struct User {
    groups: Vec<Gid>,
    gid: Option<Gid>,
    uid: Option<Uid>,
}

/// Where a process has stumbled before it was the program that it was to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Announcement,
    Session,
    Group,
    Limits,
    Capabilities,
    User,
    Directory,
    Privileges,
    Fence,
    Beginning,
}

const STEPS: [(Step, &str); 10] = [
    (Step::Announcement, UNMARKED),
    (Step::Session, "its terminal cannot control it"),
    (Step::Group, "it cannot be put into its control group"),
    (Step::Limits, "its rlimits cannot be set, which takes CAP_SYS_RESOURCE where they are above the node's own"),
    (Step::Capabilities, "its capabilities cannot be given up, which takes CAP_SETPCAP"),
    (Step::User, "its user and groups cannot be set"),
    (Step::Directory, "its user cannot enter its working directory"),
    (Step::Privileges, "it cannot be kept from new privileges"),
    (Step::Fence, "it cannot be confined by Landlock"),
    (Step::Beginning, UNMARKED),
];
/// There may be no room for it.
const UNMARKED: &str = "the mark of its start cannot be written";

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STEPS[*self as usize].1)
    }
}

/// Hears from the process which step went wrong.
#[derive(Debug)]
pub(super) struct Stumble(OwnedFd);

impl Stumble {
    pub(super) fn step(&self) -> Option<Step> {
        let mut number = [0u8];
        let heard = rustix::io::read(&self.0, &mut number).is_ok_and(|length| length == 1);
        heard.then(|| STEPS.get(usize::from(number[0])).map(|(step, _)| *step))?
    }
}

impl Steps {
    pub(super) fn new(command: &Command, birth: Birth<'_>) -> io::Result<(Self, Stumble)> {
        let Birth { argv, doors, terminal, mark } = birth;
        let (hear, confession) = kernel::pipe()?;
        kernel::set_nonblocking(&hear)?;
        let bounds = command.bounds.as_deref();
        let rlimits = bounds.into_iter().flat_map(|bounds| &bounds.rlimits).map(rlimit);
        let reach = bounds.and_then(|bounds| bounds.reach.as_ref());
        let fence = reach.map(|reach| Fence::build(reach, command)).transpose()?;
        let groups: Vec<Gid> =
            bounds.into_iter().flat_map(|bounds| &bounds.groups).map(|gid| Gid::from_raw(*gid)).collect();
        let another = command.uid.is_some() || command.gid.is_some() || !groups.is_empty();
        let user = User { groups, gid: command.gid.map(Gid::from_raw), uid: command.uid.map(Uid::from_raw) };
        let steps = Self {
            terminal,
            doors,
            rlimits: rlimits.collect::<io::Result<_>>()?,
            user: another.then_some(user),
            directory: CString::new(command.dir.as_os_str().as_bytes())?,
            given_up: given_up(bounds.and_then(|bounds| bounds.capabilities.as_deref())),
            no_new_privileges: fence.is_some() || bounds.is_some_and(|bounds| bounds.no_new_privileges),
            fence,
            mark,
            argv: Strings::new(argv.iter().cloned())?,
            environment: environment(command, terminal)?,
            confession,
        };
        Ok((steps, Stumble(hear)))
    }

    /// Becomes the program. Returns with the reason why not.
    pub(crate) fn take(&self) -> io::Error {
        let why_not =
            self.prepare().map_or_else(|why_not| why_not, |()| kernel::execute(&self.argv, &self.environment));
        if let Some(mark) = &self.mark {
            mark.take_back();
        }
        why_not
    }

    /// What takes a file comes before its limits, groups and limits before the user, who may not set them.
    fn prepare(&self) -> io::Result<()> {
        self.step(Step::Announcement, |own| own.mark.as_ref().map_or(Ok(()), Mark::announce_ourselves))?;
        self.step(Step::Session, Self::lead_session)?;
        self.step(Step::Group, |own| kernel::join(&own.doors))?;
        self.step(Step::Limits, |own| own.rlimits.iter().try_for_each(|(what, limit)| setrlimit(*what, *limit)))?;
        self.step(Step::Capabilities, |own| kernel::give_up(own.given_up))?;
        self.step(Step::User, |own| own.user.as_ref().map_or(Ok(()), User::become_it))?;
        self.step(Step::Directory, Self::enter_directory)?;
        self.step(
            Step::Privileges,
            |own| if own.no_new_privileges { kernel::refuse_new_privileges() } else { Ok(()) },
        )?;
        self.step(Step::Fence, |own| own.fence.as_ref().map_or(Ok(()), Fence::close))?;
        self.step(Step::Beginning, |own| own.mark.as_ref().map_or(Ok(()), Mark::begin))
    }

    fn step<E: Into<io::Error>>(&self, step: Step, take: impl FnOnce(&Self) -> Result<(), E>) -> io::Result<()> {
        take(self).map_err(|error| {
            let _unheard = rustix::io::write(&self.confession, &[step as u8]);
            error.into()
        })
    }

    fn lead_session(&self) -> rustix::io::Result<()> {
        if self.terminal {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        Ok(())
    }

    /// We are there already, but perhaps as somebody who may go further.
    fn enter_directory(&self) -> rustix::io::Result<()> {
        self.user.as_ref().map_or(Ok(()), |_| rustix::process::chdir(&*self.directory))
    }
}

impl User {
    fn become_it(&self) -> rustix::io::Result<()> {
        if rustix::process::geteuid().is_root() {
            kernel::set_groups(&self.groups)?;
        }
        self.gid.map_or(Ok(()), kernel::set_group)?;
        self.uid.map_or(Ok(()), kernel::set_user)
    }
}

/// Of variables with the same name the last one counts.
fn environment(command: &Command, terminal: bool) -> io::Result<Strings> {
    let term = Some(("TERM", DEFAULT_TERM)).filter(|_| terminal);
    let own = command.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let variables: BTreeMap<&str, &str> = term.into_iter().chain(own).collect();
    Strings::new(variables.into_iter().map(|(name, value)| format!("{name}={value}")))
}

/// All but those that are kept, where there is somebody who has any.
fn given_up(kept: Option<&[String]>) -> Capabilities {
    let kept = kept.filter(|_| rustix::process::geteuid().is_root());
    kept.map_or(Capabilities::empty(), kernel::capabilities_without)
}

/// What shells call the limits of a process.
pub const RLIMITS: &[(&str, Resource)] = &[
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    #[cfg(target_os = "linux")]
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    #[cfg(target_os = "linux")]
    ("msgqueue", Resource::Msgqueue),
    #[cfg(target_os = "linux")]
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    #[cfg(target_os = "linux")]
    ("rtprio", Resource::Rtprio),
    #[cfg(target_os = "linux")]
    ("rttime", Resource::Rttime),
    #[cfg(target_os = "linux")]
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

fn rlimit(wanted: &crate::bounds::Rlimit) -> io::Result<(Resource, Rlimit)> {
    let known = RLIMITS.iter().find(|(name, _)| *name == wanted.name);
    let (_, resource) = known.ok_or_else(|| io::Error::other(format!("rlimit `{}` is not known here", wanted.name)))?;
    Ok((*resource, Rlimit { current: wanted.soft, maximum: wanted.hard }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stumble_names_its_step() {
        for (number, (step, text)) in STEPS.into_iter().enumerate() {
            assert_eq!((step as usize, step.to_string().as_str()), (number, text));
        }
    }
}
