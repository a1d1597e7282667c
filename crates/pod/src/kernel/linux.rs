//! What the supervisor takes of Linux alone. The same for other systems stands in the file beside this one.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FallocateFlags, FileType, Mode, fallocate, mknodat},
    io::Errno,
    net::SendFlags,
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
    process::{Gid, Pid, PidfdFlags, Signal, Uid, getpid, pidfd_open, set_child_subreaper},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    thread::{
        CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs, set_thread_gid, set_thread_groups,
        set_thread_uid,
    },
    time::ClockId,
};

pub(crate) use rustix::thread::CapabilitySet as Capabilities;

/// Goes on while the machine sleeps.
pub(super) const CLOCK: ClockId = ClockId::Boottime;
/// Whoever is gone is an error, not a signal.
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;

/// How a process that is not our child has ended, as `wait` has it: from what its parent has not taken yet, or from what
/// newer kernels keep with a pidfd.
pub fn end_of_stranger(pid: i32, ticks: u64, pidfd: &OwnedFd) -> Option<i32> {
    zombie_status(pid, ticks).or_else(|| pidfd_status(pidfd))
}

fn zombie_status(pid: i32, ticks: u64) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let same = fields.get(19)?.parse() == Ok(ticks);
    if same && matches!(*fields.first()?, "Z" | "X") { fields.get(49)?.parse().ok() } else { None }
}

/// `PIDFD_GET_INFO` of Linux 6.15 and newer.
#[expect(unsafe_code, reason = "no safe wrapper for the ioctl")]
fn pidfd_status(pidfd: &OwnedFd) -> Option<i32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    // _IOWR(0xFF, 11, 64 bytes)
    const PIDFD_GET_INFO: u32 = (3 << 30) | (64 << 16) | (0xFF << 8) | 11;
    const { assert!(size_of::<PidfdInfo>() == 64) };
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request names the size of the structure that the pointer leads to, and the kernel writes no more.
    let outcome = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as libc::Ioctl, &raw mut info) };
    (outcome == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Holds on to a process that was started at `ticks`, so that its id cannot come to mean another one.
pub fn hold_process(pid: i32, ticks: u64) -> Option<OwnedFd> {
    let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (start_ticks(pid) == Some(ticks)).then_some(pidfd)
}

/// Clock ticks since boot at a time of the monotonic clock.
pub(crate) fn ticks_at(mono_ms: u64) -> u64 {
    mono_ms * rustix::param::clock_ticks_per_second() / 1000
}

/// Tells one run of the machine from the next.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// When a process was started, in clock ticks since boot: with its id, this names it for good.
pub fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything, so fields are counted from the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The processes whose parent we are, orphans among them.
pub(super) fn children() -> Vec<Pid> {
    read_children("thread-self")
}

/// The processes whose parent another one is that has one thread.
pub fn children_of(process: Pid) -> Vec<Pid> {
    let pid = process.as_raw_nonzero();
    read_children(&format!("{pid}/task/{pid}"))
}

fn read_children(thread: &str) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{thread}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

/// A signal by its number: those for real-time programs have no names.
#[expect(unsafe_code, reason = "no safe way to a signal without a name")]
pub(crate) fn signal(number: i32) -> Signal {
    match Signal::from_named_raw(number) {
        Some(signal) => signal,
        None if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) => {
            // SAFETY: in this range lie the signals that the C library leaves to programs.
            unsafe { Signal::from_raw_unchecked(number) }
        }
        None => Signal::TERM,
    }
}

/// Where the C library keeps the number of the last error.
#[expect(unsafe_code, reason = "no safe errno")]
pub(super) fn errno_place() -> *mut libc::c_int {
    // SAFETY: the call has no conditions.
    unsafe { libc::__errno_location() }
}

/// Where the C library keeps the environment.
#[expect(unsafe_code, reason = "no safe environ")]
pub(super) fn environment_place() -> *mut *const *const libc::c_char {
    unsafe extern "C" {
        static mut environ: *const *const libc::c_char;
    }
    &raw mut environ
}

/// Names and orphans are niceties: a kernel that refuses them still runs pods.
pub(crate) fn be_called(name: &std::ffi::CStr) {
    let _nameless = rustix::thread::set_name(name);
}

/// Has the orphans of everything that we start come to us.
pub(crate) fn take_in_orphans() {
    let _orphans_go_to_init = set_child_subreaper(Some(getpid()));
}

/// Lasts as long as we do: readable when we are gone.
pub(crate) fn hold_ourselves() -> io::Result<OwnedFd> {
    Ok(pidfd_open(getpid(), PidfdFlags::empty())?)
}

/// Everything that runs.
pub(crate) fn processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What a process has open, by number and path.
pub(crate) fn open_files(pid: i32) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        Some((entry.file_name().to_string_lossy().into_owned(), fs::read_link(entry.path()).ok()?))
    });
    files.collect()
}

/// The reading end and the writing end; no program that is started inherits either.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC)?)
}

pub(crate) fn make_fifo(path: &Path, mode: Mode) -> rustix::io::Result<()> {
    mknodat(CWD, path, FileType::Fifo, mode, 0)
}

/// Moves bytes from a FIFO to a place in a file, which a kill cannot tear: they are in the one or in the other.
pub(crate) fn move_bytes(fifo: impl AsFd, file: impl AsFd, at: u64, most: usize) -> rustix::io::Result<usize> {
    let mut at = at;
    splice(fifo, None, file, Some(&mut at), most, SpliceFlags::NONBLOCK)
}

/// Gives part of a file back to the disk; its length stays. A file system that cannot do this keeps it.
pub(crate) fn give_back(file: impl AsFd, from: u64, length: u64) {
    let _kept = fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, length);
}

const TERMINAL: OpenptFlags = OpenptFlags::RDWR.union(OpenptFlags::NOCTTY).union(OpenptFlags::CLOEXEC);

/// Our side of a terminal of the machine.
pub(crate) fn machine_terminal() -> io::Result<OwnedFd> {
    let near = openpt(TERMINAL)?;
    grantpt(&near)?;
    Ok(near)
}

/// The far side of a terminal.
pub(crate) fn far_side(near: &OwnedFd) -> io::Result<OwnedFd> {
    unlockpt(near)?;
    Ok(ioctl_tiocgptpeer(near, TERMINAL)?)
}

/// Capabilities by name, such as `CAP_CHOWN`.
pub(crate) fn capabilities(names: &[String]) -> Capabilities {
    let names = names.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name));
    names.filter_map(CapabilitySet::from_name).fold(CapabilitySet::empty(), CapabilitySet::union)
}

/// All capabilities but those that are kept, by name.
pub(crate) fn capabilities_without(kept: &[String]) -> Capabilities {
    CapabilitySet::all().difference(capabilities(kept))
}

/// A program that runs as root gets what is left in this set, any other gets none.
pub(crate) fn give_up(capabilities: Capabilities) -> rustix::io::Result<()> {
    capabilities.iter_names().try_for_each(|(_, capability)| match remove_capability_from_bounding_set(capability) {
        // Of a later kernel.
        Err(Errno::INVAL) => Ok(()),
        other => other,
    })
}

/// For good, and for whatever we start.
pub(crate) fn refuse_new_privileges() -> rustix::io::Result<()> {
    set_no_new_privs(true)
}

/// These are a thread's own here: to be called where there is but one.
pub(crate) fn set_groups(groups: &[Gid]) -> rustix::io::Result<()> {
    set_thread_groups(groups)
}

pub(crate) fn set_group(gid: Gid) -> rustix::io::Result<()> {
    set_thread_gid(gid)
}

pub(crate) fn set_user(uid: Uid) -> rustix::io::Result<()> {
    set_thread_uid(uid)
}
