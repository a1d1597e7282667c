//! The few things that only the kernel can do for us and no safe wrapper offers.
//!
//! What differs from one system to another has the same names and promises in `kernel/linux.rs` and `kernel/macos.rs`. The
//! latter says what is lost.

#[cfg_attr(target_os = "linux", path = "kernel/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "kernel/macos.rs")]
mod system;

use std::{
    ffi::{CString, c_char},
    io,
    os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
};

use jiff::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
    process::{WaitOptions, kill_process},
    time::clock_gettime,
};

pub use rustix::process::{Pid, Signal};

pub use self::system::*;
use self::system::{CLOCK, children, environment_place, errno_place};
use crate::{lifecycle::Now, wire::Identity};

/// What a process reads from or writes to.
pub type StreamEnd = OwnedFd;
pub type Socket = OwnedFd;

/// Where the signal handler leaves a byte.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Goes on in a child of its own session, so that nothing that happens to the parent's matters. The parent gets `false`.
#[expect(unsafe_code, reason = "no safe fork")]
pub(crate) fn detach() -> io::Result<bool> {
    // SAFETY: the process has one thread at this point, so no lock can be held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            rustix::process::setsid()?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Fork {
    Child,
    Parent(Pid),
}

/// Puts the calling process, which has one thread, into the control group that these lead to.
pub(crate) fn join(doors: &[std::fs::File]) -> rustix::io::Result<()> {
    doors.iter().try_for_each(|door| rustix::io::write(door, b"0").map(drop))
}

#[expect(unsafe_code, reason = "no safe fork")]
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: as in `detach`, the process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::Error::other("a child without an id")),
    }
}

/// Keeps the signals that end a terminal's processes from ending us, and handles none; a supervisor handles them, its
/// containers do not inherit it.
#[expect(unsafe_code, reason = "no safe signal")]
pub(crate) fn be_deaf() {
    // SAFETY: neither ignoring a signal nor its default runs code of ours.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// A child that has ended and is still remembered by the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) pid: Pid,
    /// As `wait` has it.
    pub(crate) status: i32,
}

/// Waits until some child has ended. The kernel remembers it until it is told to [`forget`].
pub(crate) fn wait_for_end() -> io::Result<Ended> {
    loop {
        match wait_id(libc::WEXITED | libc::WNOWAIT) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(None) => return Err(io::Error::other("no child has ended")),
            Ok(Some(ended)) => return Ok(ended),
            Err(error) => return Err(error),
        }
    }
}

/// The next child that has ended, if there is one.
pub(crate) fn next_end() -> Option<Ended> {
    wait_id(libc::WEXITED | libc::WNOWAIT | libc::WNOHANG).ok().flatten()
}

#[expect(unsafe_code, reason = "no safe waitid tells whose end it is")]
fn wait_id(options: libc::c_int) -> io::Result<Option<Ended>> {
    // SAFETY: the structure is plain data for which zero is valid, and the kernel fills it for ended children, which makes
    // reading their fields valid; it leaves the zeroes when there is none.
    let (pid, code, value) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(libc::P_ALL, 0, &raw mut info, options) != 0 {
            return Err(io::Error::last_os_error());
        }
        (info.si_pid(), info.si_code, info.si_status())
    };
    let status = if code == libc::CLD_EXITED { value << 8 } else { value };
    Ok(Pid::from_raw(pid).map(|pid| Ended { pid, status }))
}

/// Lets the kernel forget a child that has ended.
pub(crate) fn forget(child: Pid) {
    let _forgotten = rustix::process::waitpid(Some(child), WaitOptions::NOHANG);
}

/// Rounds of killing what a finished pod has left behind; each round can uncover orphans of the one before.
const MAX_SWEEPS: usize = 16;

/// Kills all children and waits for them.
pub(crate) fn end_children() {
    for _ in 0..MAX_SWEEPS {
        let strays = children();
        if strays.is_empty() {
            break;
        }
        for stray in strays {
            let _gone = kill_process(stray, Signal::KILL);
            let _reaped = rustix::process::waitpid(Some(stray), WaitOptions::empty());
        }
    }
}

pub fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

/// Waits until something can be done about one of these, or until a time of the monotonic clock.
///
/// A signal ends no wait: the pipe that it fills does. Whoever took the interruption for a quiet time would tidy up just when a
/// container has ended, and the next one would wait for that.
pub(crate) fn wait(fds: &mut [PollFd<'_>], until_ms: Option<u64>) -> io::Result<()> {
    loop {
        let timeout = until_ms.map(|until_ms| {
            let wait_ms = until_ms.saturating_sub(now().mono_ms);
            Timespec { tv_sec: (wait_ms / 1000).cast_signed(), tv_nsec: (wait_ms % 1000 * 1_000_000).cast_signed() }
        });
        match poll(fds, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Turns SIGCHLD into a readable pipe, and keeps the signals that end a terminal's processes from ending us.
///
/// Handlers, not a blocked mask: a mask would be inherited by every process that the pod starts.
#[expect(unsafe_code, reason = "no safe sigaction")]
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    let (read, write) = pipe()?;
    set_nonblocking(&read)?;
    set_nonblocking(&write)?;
    // The handler needs the write end for as long as the process lives, and of an earlier supervisor's none is needed.
    let before = WAKE.swap(write.into_raw_fd(), Ordering::Relaxed);
    if before >= 0 {
        // SAFETY: we have put it there, nothing else owns it, and the handler no longer knows it.
        drop(unsafe { OwnedFd::from_raw_fd(before) });
    }
    for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: the structure is plain data for which zero is valid, and the handler only calls write(2), which is
        // allowed in one.
        let outcome = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(read)
}

#[expect(unsafe_code, reason = "a signal handler")]
extern "C" fn on_signal(signal: libc::c_int) {
    if signal == libc::SIGCHLD {
        // SAFETY: write(2) is async-signal-safe; a full pipe is as good as one more byte in it. errno is put back, so the
        // interrupted code does not see ours.
        unsafe {
            let errno = *errno_place();
            libc::write(WAKE.load(Ordering::Relaxed), [0u8].as_ptr().cast(), 1);
            *errno_place() = errno;
        }
    }
}

/// Has a process go through its steps between fork and exec, of which the last is the exec itself.
///
/// There, only system calls are allowed: another thread may have held the allocator's lock when it was forked.
#[expect(unsafe_code, reason = "no safe way between fork and exec")]
pub(crate) fn before_exec(process: &mut std::process::Command, steps: crate::driver::process::Steps) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: the steps are system calls on what was made ready for them, and allocate nothing.
    unsafe { process.pre_exec(move || Err(steps.take())) };
}

/// Strings as programs are given them.
#[derive(Debug)]
pub(crate) struct Strings {
    /// Of all in `owned`, and zero behind the last.
    pointers: Vec<*const c_char>,
    owned: Vec<CString>,
}

#[expect(unsafe_code, reason = "raw pointers")]
// SAFETY: the pointers lead to what is owned beside them and never changed.
unsafe impl Send for Strings {}
#[expect(unsafe_code, reason = "raw pointers")]
// SAFETY: as above.
unsafe impl Sync for Strings {}

impl Strings {
    pub(crate) fn new(strings: impl IntoIterator<Item = String>) -> io::Result<Self> {
        let owned: Vec<CString> = strings.into_iter().map(CString::new).collect::<Result<_, _>>()?;
        let pointers = owned.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { pointers, owned })
    }
}

/// Becomes a program, which is looked for in its own `$PATH`. Returns with the reason why not. Allocates nothing, but is for a
/// process whose only thread this is, and which soon ends if it does not succeed: it has the environment of the program.
#[expect(unsafe_code, reason = "no safe exec without allocating")]
pub(crate) fn execute(argv: &Strings, environment: &Strings) -> io::Error {
    let Some(program) = argv.owned.first() else { return io::ErrorKind::InvalidInput.into() };
    // SAFETY: both lists end with zero, and what is in them lives for as long as the process that this is. No other thread reads
    // the environment.
    unsafe {
        *environment_place() = environment.pointers.as_ptr();
        libc::execvp(program.as_ptr(), argv.pointers.as_ptr());
    }
    io::Error::last_os_error()
}

/// Drops pages of a file that were read in from the process's memory; the kernel brings back what is needed again.
#[expect(unsafe_code, reason = "no safe madvise")]
pub(crate) fn forget_pages(pages: std::ops::Range<usize>) {
    // SAFETY: the range is a private mapping of a file that cannot be written and in which nothing was: its pages are what the
    // file says, and dropping them changes nothing but where the next access finds them.
    let _kept_then = unsafe { libc::madvise(pages.start as *mut libc::c_void, pages.len(), libc::MADV_DONTNEED) };
}

/// Gives memory that is allocated no more back to the kernel, where the allocator keeps it until it is told.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "no safe malloc_trim"))]
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator gives back only what nobody holds.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Both clocks.
pub fn now() -> Now {
    let mono = clock_gettime(CLOCK);
    let mono_ms = mono.tv_sec.unsigned_abs() * 1000 + mono.tv_nsec.unsigned_abs() / 1_000_000;
    Now { mono_ms, wall: Timestamp::now() }
}

/// A process that cannot vanish just now: our own, or a child that was not waited for.
pub(crate) fn identity(process: Pid) -> Identity {
    let pid = process.as_raw_nonzero().get();
    Identity { pid, ticks: start_ticks(pid).unwrap_or_default() }
}

pub(crate) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}
