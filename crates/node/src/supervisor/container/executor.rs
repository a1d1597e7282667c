//! The last steps inside a container, between libcontainer's and the program's own.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    sync::Arc,
};

use libcontainer::{
    oci_spec::runtime::Spec,
    workload::{Executor, ExecutorError, ExecutorValidationError},
};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::BpfProgram;

use super::{seccomp, spec::ALL_CAPABILITIES};

#[derive(Clone)]
pub(super) struct Launcher {
    /// Empty for a container that is not filtered.
    pub(super) filters: Vec<BpfProgram>,
    /// What the program may keep.
    pub(super) capabilities: CapabilitySet,
    /// stdin is a terminal that shall control the session.
    pub(super) terminal: bool,
    /// Gets a byte right before the program takes over: whoever comes after a lost supervisor learns from it that it did.
    pub(super) mark: Option<Arc<fs::File>>,
}

impl Executor for Launcher {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let argv = argv(spec);
        let (program, arguments) = argv.split_first().ok_or(ExecutorError::InvalidArg)?;
        self.confine().map_err(|error| ExecutorError::Other(format!("cannot confine `{program}`: {error}")))?;
        if let Some(mut mark) = self.mark.as_deref() {
            mark.write_all(b"+").map_err(|error| ExecutorError::Other(format!("cannot note the start: {error}")))?;
        }
        // The environment is ours by now, so the program is looked for in the container's own `$PATH`.
        let error = Command::new(program).args(arguments).exec();
        Err(ExecutorError::Other(explain(program, &error)))
    }

    /// Runs before the container counts as started: what cannot work is told in time.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let path = environment(spec, "PATH").unwrap_or_default();
        match argv(spec).first() {
            None => Err(ExecutorValidationError::ArgValidationError("no command given".to_owned())),
            Some(program) => find(program, &path).map_err(ExecutorValidationError::ArgValidationError),
        }
    }
}

impl Launcher {
    /// The filter first, as long as we may; then everything is given up that was held for it.
    fn confine(&self) -> io::Result<()> {
        if self.terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
        seccomp::install(&self.filters)?;
        let last = ALL_CAPABILITIES.len();
        for capability in (0..last).map(|number| CapabilitySet::from_bits_retain(1 << number)) {
            if !self.capabilities.contains(capability) {
                // The kernel may know fewer than we do.
                match rustix::thread::remove_capability_from_bounding_set(capability) {
                    Err(rustix::io::Errno::INVAL) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let held = rustix::thread::capabilities(None)?;
        let kept = CapabilitySets {
            effective: held.effective & self.capabilities,
            permitted: held.permitted & self.capabilities,
            inheritable: CapabilitySet::empty(),
        };
        Ok(rustix::thread::set_capabilities(None, kept)?)
    }
}

/// The bits of capabilities by name.
pub(super) fn capability_set(names: &[String]) -> CapabilitySet {
    // The kernel numbers them in an order of its own.
    const BY_NUMBER: [&str; 41] = [
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    ];
    let named = |short: &str| names.iter().any(|name| name.strip_prefix("CAP_") == Some(short));
    let bits = BY_NUMBER.iter().enumerate().filter(|(_, short)| named(short)).map(|(number, _)| 1u64 << number);
    CapabilitySet::from_bits_retain(bits.fold(0, |all, bit| all | bit))
}

fn argv(spec: &Spec) -> Vec<String> {
    spec.process().as_ref().and_then(|process| process.args().clone()).unwrap_or_default()
}

fn environment(spec: &Spec, name: &str) -> Option<String> {
    let environment = spec.process().as_ref()?.env().as_ref()?;
    environment.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

fn find(program: &str, path: &str) -> Result<(), String> {
    let explain = |kind: io::ErrorKind| Err(self::explain(program, &kind.into()));
    if program.contains('/') {
        return match Path::new(program).metadata() {
            Ok(metadata) if metadata.is_dir() => explain(io::ErrorKind::PermissionDenied),
            Ok(_) => {
                may_run(Path::new(program)).then_some(()).map_or_else(|| explain(io::ErrorKind::PermissionDenied), Ok)
            }
            Err(error) => explain(error.kind()),
        };
    }
    let found = path.split(':').any(|directory| may_run(&Path::new(directory).join(program)));
    if found { Ok(()) } else { explain(io::ErrorKind::NotFound) }
}

fn may_run(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn explain(program: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("cannot start `{program}`: no such program in the container's files; check $PATH")
        }
        io::ErrorKind::PermissionDenied => format!("cannot start `{program}`: it may not be executed"),
        _ => format!("cannot start `{program}`: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        let bits = |names: &[&str]| capability_set(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(bits(&["CAP_CHOWN", "CAP_SYS_ADMIN"]), CapabilitySet::CHOWN | CapabilitySet::SYS_ADMIN);
        assert_eq!(bits(&["CAP_SETFCAP", "CAP_BPF"]), CapabilitySet::SETFCAP | CapabilitySet::BPF);
        assert_eq!(bits(&["chown"]), CapabilitySet::empty());
        assert_eq!(bits(&ALL_CAPABILITIES).bits().count_ones(), 41);
    }

    #[test]
    fn programs_are_looked_for_as_the_kernel_will() {
        assert_eq!(find("sh", "/nowhere:/bin"), Ok(()));
        assert!(find("sh", "/nowhere").expect_err("not there").contains("no such program"));
        assert!(find("/etc/passwd", "").expect_err("no program").contains("may not be executed"));
        assert!(find("/bin", "").expect_err("a directory").contains("may not be executed"));
    }
}
