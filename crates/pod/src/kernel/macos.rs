//! What the supervisor takes of macOS, with the names and promises of `linux.rs`. What this system does not have is lost:
//!
//! - Orphans come to the system's first process, not to us: how a process of a killed supervisor ends stays unknown, and what has left
//!   its process group outlives its pod.
//! - Nobody sees what another process has open: a fork that a killed supervisor has left on its way to its program is not ended.
//! - Output goes to the log without a file in between: of the bytes that a supervisor held when it was killed, some are lost.
//! - There are no capabilities, no privileges to give up for good, no control groups and no Landlock.

use std::{
    ffi::{CString, c_void},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    ptr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    event::kqueue::{Event, EventFilter, EventFlags, ProcessEvents, kevent, kqueue},
    fs::{Mode, OFlags},
    io::{Errno, FdFlags, fcntl_setfd},
    net::SendFlags,
    process::{Gid, Pid, Signal, Uid, getpid},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    time::ClockId,
};

pub(super) const CLOCK: ClockId = ClockId::Monotonic;
/// SIGPIPE is ignored by every program in Rust.
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::empty();
const TICKS_PER_SECOND: u64 = 1_000_000;
/// Processes that are looked at; with more, some are missed.
const MAX_PROCESSES: usize = 16_384;

/// How a process that is not our child has ended: this system does not tell.
pub fn end_of_stranger(_pid: i32, _ticks: u64, _held: &OwnedFd) -> Option<i32> {
    None
}

/// Becomes readable when this process ends, which was started at `ticks`.
pub fn hold_process(pid: i32, ticks: u64) -> Option<OwnedFd> {
    let held = watch(Pid::from_raw(pid)?).ok()?;
    (start_ticks(pid) == Some(ticks)).then_some(held)
}

/// Lasts as long as we do: readable when we are gone.
pub(crate) fn hold_ourselves() -> io::Result<OwnedFd> {
    watch(getpid())
}

#[expect(unsafe_code, reason = "no safe kevent")]
fn watch(pid: Pid) -> io::Result<OwnedFd> {
    let queue = kqueue()?;
    let filter = EventFilter::Proc { pid, flags: ProcessEvents::EXIT };
    let wanted = [Event::new(filter, EventFlags::ADD | EventFlags::ONESHOT, ptr::null_mut())];
    let mut none: [Event; 0] = [];
    // SAFETY: the filter names no descriptor that could be closed meanwhile.
    unsafe { kevent(&queue, &wanted, &mut none[..], Some(Duration::ZERO)) }?;
    Ok(queue)
}

/// Microseconds since 1970, in which this system counts when processes were started.
pub(crate) fn ticks_at(mono_ms: u64) -> u64 {
    let age = Duration::from_millis(super::now().mono_ms.saturating_sub(mono_ms));
    let then = SystemTime::now().checked_sub(age).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
    then.map_or(0, |then| u64::try_from(then.as_micros()).unwrap_or(u64::MAX))
}

/// When a process was started: with its id, this names it for good.
#[expect(unsafe_code, reason = "no safe proc_pidinfo")]
pub fn start_ticks(pid: i32) -> Option<u64> {
    let size = i32::try_from(size_of::<libc::proc_bsdinfo>()).ok()?;
    // SAFETY: the structure is plain data for which zero is valid, and the kernel writes no more than its size.
    let info = unsafe {
        let mut info: libc::proc_bsdinfo = std::mem::zeroed();
        let place = (&raw mut info).cast::<c_void>();
        (libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, place, size) == size).then_some(info)?
    };
    Some(info.pbi_start_tvsec * TICKS_PER_SECOND + info.pbi_start_tvusec)
}

/// Tells one run of the machine from the next.
#[expect(unsafe_code, reason = "no safe sysctl")]
pub fn boot_id() -> String {
    let mut id = [0u8; 64];
    let mut length = id.len();
    let name = c"kern.bootsessionuuid";
    // SAFETY: the kernel writes as many bytes as it is told there are, and says how many.
    let read =
        unsafe { libc::sysctlbyname(name.as_ptr(), id.as_mut_ptr().cast(), &raw mut length, ptr::null_mut(), 0) };
    if read != 0 {
        return String::new();
    }
    String::from_utf8_lossy(&id[..length]).trim_end_matches('\0').to_owned()
}

pub(super) fn children() -> Vec<Pid> {
    children_of(getpid())
}

/// The processes whose parent another one is.
#[expect(unsafe_code, reason = "no safe proc_listchildpids")]
pub fn children_of(process: Pid) -> Vec<Pid> {
    // SAFETY: `listed` gives the call a buffer and its size.
    listed(|buffer, size| unsafe { libc::proc_listchildpids(process.as_raw_nonzero().get(), buffer, size) })
        .into_iter()
        .filter_map(Pid::from_raw)
        .collect()
}

/// Everything that runs.
#[expect(unsafe_code, reason = "no safe proc_listallpids")]
pub(crate) fn processes() -> Vec<i32> {
    // SAFETY: as above.
    listed(|buffer, size| unsafe { libc::proc_listallpids(buffer, size) })
}

/// `fill` writes ids to a buffer of so many bytes and says how many there are.
fn listed(fill: impl FnOnce(*mut c_void, i32) -> i32) -> Vec<i32> {
    let mut ids = vec![0i32; MAX_PROCESSES];
    let size = i32::try_from(size_of_val(&ids[..])).unwrap_or(i32::MAX);
    let found = usize::try_from(fill(ids.as_mut_ptr().cast(), size)).unwrap_or(0);
    ids.truncate(found);
    ids.retain(|id| *id > 0);
    ids
}

/// What a process has open is not told.
pub(crate) fn open_files(_pid: i32) -> Vec<(String, PathBuf)> {
    Vec::new()
}

/// A signal by its number: there are no more than those with names.
pub(crate) fn signal(number: i32) -> Signal {
    Signal::from_named_raw(number).unwrap_or(Signal::TERM)
}

/// Where the C library keeps the number of the last error.
#[expect(unsafe_code, reason = "no safe errno")]
pub(super) fn errno_place() -> *mut libc::c_int {
    // SAFETY: the call has no conditions.
    unsafe { libc::__error() }
}

/// Where the C library keeps the environment.
#[expect(unsafe_code, reason = "no safe environ")]
pub(super) fn environment_place() -> *mut *const *const libc::c_char {
    // SAFETY: the call has no conditions.
    unsafe { libc::_NSGetEnviron() }.cast()
}

/// Processes are called by their programs.
pub(crate) fn be_called(_name: &std::ffi::CStr) {}

/// They go to the system's first process.
pub(crate) fn take_in_orphans() {}

/// The reading end and the writing end; no program that is started inherits either.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    // There is one thread, so nothing is started in between.
    fcntl_setfd(&read, FdFlags::CLOEXEC)?;
    fcntl_setfd(&write, FdFlags::CLOEXEC)?;
    Ok((read, write))
}

#[expect(unsafe_code, reason = "no safe mkfifo")]
pub(crate) fn make_fifo(path: &Path, mode: Mode) -> rustix::io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the path ends with a zero and lives for as long as the call.
    match unsafe { libc::mkfifo(path.as_ptr(), mode.as_raw_mode()) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// Not in one step, and so not at all.
pub(crate) fn move_bytes(_fifo: impl AsFd, _file: impl AsFd, _at: u64, _most: usize) -> rustix::io::Result<usize> {
    Err(Errno::NOTSUP)
}

/// A file that never gets shorter keeps its place until it is emptied.
pub(crate) fn give_back(_file: impl AsFd, _from: u64, _length: u64) {}

/// Our side of a terminal of the machine.
pub(crate) fn machine_terminal() -> io::Result<OwnedFd> {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    fcntl_setfd(&near, FdFlags::CLOEXEC)?;
    grantpt(&near)?;
    Ok(near)
}

/// The far side of a terminal.
pub(crate) fn far_side(near: &OwnedFd) -> io::Result<OwnedFd> {
    unlockpt(near)?;
    let name = ptsname(near, Vec::new())?;
    Ok(rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?)
}

/// There are none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capabilities;

impl Capabilities {
    pub(crate) const fn empty() -> Self {
        Self
    }
}

pub(crate) fn capabilities_without(_kept: &[String]) -> Capabilities {
    Capabilities
}

pub(crate) fn give_up(_capabilities: Capabilities) -> rustix::io::Result<()> {
    Ok(())
}

/// What cannot be refused for good is not refused.
pub(crate) fn refuse_new_privileges() -> rustix::io::Result<()> {
    Err(Errno::NOTSUP)
}

#[expect(unsafe_code, reason = "no safe setgroups")]
pub(crate) fn set_groups(groups: &[Gid]) -> rustix::io::Result<()> {
    let count = i32::try_from(groups.len()).map_err(|_| Errno::INVAL)?;
    // SAFETY: a group is a number to the C library as it is here, and there are as many as is said.
    done(unsafe { libc::setgroups(count, groups.as_ptr().cast()) })
}

#[expect(unsafe_code, reason = "no safe setgid")]
pub(crate) fn set_group(gid: Gid) -> rustix::io::Result<()> {
    // SAFETY: the call takes a number.
    done(unsafe { libc::setgid(gid.as_raw()) })
}

#[expect(unsafe_code, reason = "no safe setuid")]
pub(crate) fn set_user(uid: Uid) -> rustix::io::Result<()> {
    // SAFETY: the call takes a number.
    done(unsafe { libc::setuid(uid.as_raw()) })
}

fn done(outcome: libc::c_int) -> rustix::io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
