//! Landlock: a process gives up all of the machine's files but those beneath a few places, for good and for whatever it starts.
//!
//! The ruleset is made before the fork, from descriptors, so that nothing it names can be exchanged later. It is about files:
//! owners, modes and times can still be changed by whoever may, and sockets be spoken to.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2},
    io::Errno,
};

use crate::{
    bounds::{Place, Reach},
    plan::Command,
};

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
/// Of version 1: these, and all that is done to the entries of a directory.
const FIRST: u64 = (1 << 13) - 1;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
/// Everything but making devices.
const WRITE: u64 = (FIRST | REFER | TRUNCATE | IOCTL_DEV) & !(MAKE_CHAR | MAKE_BLOCK);
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// What programs are made of, and what they ask the machine. None of it is secret: of `/etc` only what any program may need.
const SYSTEM: [&str; 50] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/lsb-release",
    "/etc/machine-id",
    "/etc/mime.types",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
];
/// What anybody may read from and write to.
const DEVICES: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts"];
/// Shared by all programs of the machine, as a container's is by its pod.
const SHARED_MEMORY: &str = "/dev/shm";

/// Which version of Landlock this kernel has, if any.
#[expect(unsafe_code, reason = "no safe wrapper for Landlock")]
pub fn version() -> Option<u32> {
    const ASK_VERSION: u32 = 1;
    // SAFETY: the kernel is asked for a number and given no memory.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, ASK_VERSION)
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// A ruleset that is complete.
#[derive(Debug)]
pub(super) struct Fence {
    ruleset: OwnedFd,
    handled: u64,
}

impl Fence {
    pub(super) fn build(reach: &Reach, command: &Command) -> io::Result<Self> {
        let version =
            version().ok_or_else(|| io::Error::other("this kernel has no Landlock to confine a process by"))?;
        let fence = Self::new(handled(version))?;
        match reach.machine {
            true => {
                fence.allow(Path::new("/"), READ)?;
                fence.allow(Path::new(SHARED_MEMORY), WRITE)?;
            }
            false => SYSTEM.iter().try_for_each(|path| fence.allow(Path::new(path), READ))?,
        }
        DEVICES
            .iter()
            .try_for_each(|path| fence.allow(Path::new(path), READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV))?;
        for place in &reach.places {
            fence.allow_place(place)?;
        }
        // What a process may write to it could have put there itself, to be let in.
        let program = program(command).and_then(|path| fs::canonicalize(path).ok());
        let writable = |program: &PathBuf| reach.places.iter().any(|it| it.writable && lies_in(program, &it.path));
        if let Some(program) = program.filter(|program| !writable(program)) {
            fence.allow(&program, READ_FILE | EXECUTE)?;
        }
        Ok(fence)
    }

    /// From here on, whoever calls reaches nothing else. Takes that new privileges are given up already.
    #[expect(unsafe_code, reason = "no safe wrapper for Landlock")]
    pub(super) fn close(&self) -> rustix::io::Result<()> {
        // SAFETY: the descriptor is ours, and no memory is passed.
        match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.ruleset.as_raw_fd(), 0) } {
            0 => Ok(()),
            _ => Err(last_error()),
        }
    }

    #[expect(unsafe_code, reason = "no safe wrapper for Landlock")]
    fn new(handled: u64) -> io::Result<Self> {
        // The first version's structure is this one number.
        let attributes = [handled];
        // SAFETY: the kernel reads as many bytes as it is told there are, and makes a descriptor that nobody else owns.
        let ruleset = unsafe {
            match libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size_of_val(&attributes), 0) {
                -1 => return Err(last_error().into()),
                fd => OwnedFd::from_raw_fd(i32::try_from(fd.cast_unsigned()).map_err(io::Error::other)?),
            }
        };
        Ok(Self { ruleset, handled })
    }

    fn allow_place(&self, Place { path, sub_path, writable }: &Place) -> io::Result<()> {
        let access = if *writable { WRITE } else { READ };
        let Some(sub_path) = sub_path else { return self.allow(path, access) };
        let beneath = |root: OwnedFd| {
            openat2(&root, sub_path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH)
        };
        self.allow_opened(&path.join(sub_path), open_path(path).and_then(beneath), access)
    }

    fn allow(&self, path: &Path, access: u64) -> io::Result<()> {
        self.allow_opened(path, open_path(path), access)
    }

    /// What is not there is not reached.
    fn allow_opened(&self, path: &Path, opened: rustix::io::Result<OwnedFd>, access: u64) -> io::Result<()> {
        let added = match opened {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(error) => Err(error),
            Ok(place) => self.add(&place, access),
        };
        added.map_err(|error| {
            let error = io::Error::from(error);
            io::Error::new(error.kind(), format!("cannot let it reach `{}`: {error}", path.display()))
        })
    }

    #[expect(unsafe_code, reason = "no safe wrapper for Landlock")]
    fn add(&self, place: &OwnedFd, access: u64) -> rustix::io::Result<()> {
        const BENEATH: u32 = 1;
        #[repr(C, packed)]
        struct Rule {
            access: u64,
            parent: i32,
        }
        let is_directory = FileType::from_raw_mode(fstat(place)?.st_mode) == FileType::Directory;
        let access = access & self.handled & if is_directory { u64::MAX } else { OF_FILES };
        let rule = Rule { access, parent: place.as_raw_fd() };
        // SAFETY: the kernel reads the structure of this kind of rule, which lives for as long as the call.
        let added = unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, self.ruleset.as_raw_fd(), BENEATH, &raw const rule, 0)
        };
        if added == 0 { Ok(()) } else { Err(last_error()) }
    }
}

/// What this version can deny. Moving files to other directories is denied by the first and can only be allowed by later ones.
fn handled(version: u32) -> u64 {
    let since = [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)];
    since.into_iter().filter(|(since, _)| version >= *since).fold(FIRST, |handled, (_, right)| handled | right)
}

/// Links are followed: what counts is what is there.
fn open_path(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

fn lies_in(path: &Path, place: &Path) -> bool {
    path.starts_with(fs::canonicalize(place).unwrap_or_else(|_| place.to_owned()))
}

/// The file that the kernel will be asked to run.
fn program(command: &Command) -> Option<PathBuf> {
    let name = command.argv.first()?;
    if name.contains('/') {
        return Some(command.dir.join(name));
    }
    let path = &command.env.iter().find(|(variable, _)| variable == "PATH")?.1;
    std::env::split_paths(path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_denies_what_it_knows() {
        for (version, most) in [(1, 12), (2, 13), (3, 14), (4, 14), (5, 15), (9, 15)] {
            assert_eq!(handled(version).ilog2(), most, "version {version}");
        }
    }

    fn command(argv: &str, path: &str) -> Command {
        serde_json::from_value(serde_json::json!({"argv": [argv], "env": [["PATH", path]], "dir": "/work"}))
            .expect("a command")
    }

    #[test]
    fn a_program_is_where_it_is_named_or_searched() {
        let check = |argv: &str, expected: Option<&str>| {
            assert_eq!(program(&command(argv, "/none:/bin:/usr/bin")), expected.map(PathBuf::from), "{argv}");
        };
        check("/opt/web", Some("/opt/web"));
        check("./web", Some("/work/./web"));
        check("sh", Some("/bin/sh"));
        check("no-such-program", None);
    }

    /// What a thread with such a reach can and cannot do: Landlock is a thread's own.
    fn within(reach: &Reach, tried: impl FnOnce() + Send) {
        let fence = Fence::build(reach, &command("sh", "/bin")).expect("a fence");
        std::thread::scope(|scope| {
            let closed = scope.spawn(|| {
                rustix::thread::set_no_new_privs(true).expect("no more privileges");
                fence.close().expect("closed");
                tried();
            });
            closed.join().expect("as expected");
        });
    }

    #[test]
    fn a_closed_fence_lets_through_what_it_names() {
        if version().is_none() {
            return;
        }
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        for name in ["own", "shown", "other", "outside"] {
            fs::create_dir(at(name)).expect("a directory");
            fs::write(at(name).join("file"), name).expect("a file");
        }
        std::os::unix::fs::symlink(at("outside"), at("own/link")).expect("a link");
        let place = |name: &str, writable| Place { path: at(name), sub_path: None, writable };
        // A link that its owner has laid leads nowhere, whatever it is called.
        let laid = Place { path: at("own"), sub_path: Some("link".into()), writable: true };
        let places = vec![place("own", true), place("shown", false), place("none", true)];
        within(&Reach { machine: false, places: places.clone() }, || {
            assert_eq!(fs::read_to_string(at("own/file")).expect("its own"), "own");
            fs::write(at("own/new"), "new").expect("its own to write");
            fs::rename(at("own/new"), at("own/newer")).expect("its own to move");
            assert_eq!(fs::read_to_string(at("shown/file")).expect("shown"), "shown");
            assert!(fs::write(at("shown/file"), "x").is_err() && fs::remove_file(at("shown/file")).is_err());
            assert!(fs::read(at("other/file")).is_err() && fs::write(at("other/new"), "x").is_err());
            assert!(fs::read(at("own/link/file")).is_err(), "links lead no further");
            assert!(fs::read("/etc/shadow").is_err());
            fs::read("/etc/passwd").expect("anybody's");
            fs::write("/dev/null", "x").expect("anybody's");
        });
        within(&Reach { machine: true, places }, || {
            assert_eq!(fs::read_to_string(at("other/file")).expect("the machine's"), "other");
            assert!(fs::write(at("other/file"), "x").is_err());
            fs::write(at("own/new"), "new").expect("its own to write");
        });
        let refused = Fence::build(&Reach { machine: false, places: vec![laid] }, &command("sh", "/bin"));
        assert!(refused.expect_err("it leads out of the volume").to_string().starts_with("cannot let it reach `"));
    }
}
