//! The few things that only the kernel can do for us and no safe wrapper offers.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::atomic::{AtomicI32, Ordering},
};

use jiff::Timestamp;
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::Pid,
    time::{ClockId, clock_gettime},
};

use crate::lifecycle::Now;

/// Where the signal handler leaves a byte.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Goes on in a child of its own session, so that nothing that happens to the parent's matters. The parent gets `false`.
#[expect(unsafe_code, reason = "no safe fork")]
pub(super) fn detach() -> io::Result<bool> {
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

/// Turns SIGCHLD into a readable pipe, and keeps the signals that end a terminal's processes from ending us.
///
/// Handlers, not a blocked mask: a mask would be inherited by every process that the pod starts.
#[expect(unsafe_code, reason = "no safe sigaction")]
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)?;
    WAKE.store(write.as_raw_fd(), Ordering::Relaxed);
    // The handler needs the write end for as long as the process lives.
    std::mem::forget(write);
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
            let errno = *libc::__errno_location();
            libc::write(WAKE.load(Ordering::Relaxed), [0u8].as_ptr().cast(), 1);
            *libc::__errno_location() = errno;
        }
    }
}

/// Makes the process the leader of a session of its own, on the terminal that is its stdin.
#[expect(unsafe_code, reason = "no safe way between fork and exec")]
pub(super) fn lead_session_on_stdin(process: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let lead = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { process.pre_exec(lead) };
}

/// Drops code that was read in from the process's memory; the kernel brings back what is needed again.
#[expect(unsafe_code, reason = "no safe madvise")]
pub(super) fn forget_code(code: std::ops::Range<usize>) {
    // SAFETY: the range is a private mapping of a file that can be executed and not written. Its pages are therefore what the
    // file says, and dropping them changes nothing but where the next access finds them.
    let _kept_then = unsafe { libc::madvise(code.start as *mut libc::c_void, code.len(), libc::MADV_DONTNEED) };
}

/// Both clocks.
pub(super) fn now() -> Now {
    let mono = clock_gettime(ClockId::Boottime);
    let mono_ms = mono.tv_sec.unsigned_abs() * 1000 + mono.tv_nsec.unsigned_abs() / 1_000_000;
    Now { mono_ms, wall: Timestamp::now() }
}

/// Tells one run of the machine from the next.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// When a process was started, in clock ticks since boot: with its id, this names it for good.
pub(crate) fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may hold anything, so fields are counted from the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The processes whose parent we are, orphans among them.
pub(super) fn children() -> Vec<Pid> {
    let text = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    Ok(fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?)
}
