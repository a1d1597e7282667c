//! What the process driver takes of Windows, with the names and promises of the other systems where there are any. What this system
//! does not have is lost:
//!
//! - There are two signals: an end without a question, and a request that programs hear as Ctrl-Break.
//! - Terminals would be pseudoconsoles, which nothing here makes yet.
//!
//! In return nobody needs to be a parent: whoever holds a process by its handle learns how it ended.

use std::{
    io,
    num::NonZero,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle, OwnedSocket, RawHandle},
};

use windows_sys::{
    Win32::{
        Foundation::{FILETIME, HANDLE, INVALID_HANDLE_VALUE, WAIT_OBJECT_0},
        System::{
            Console::{
                ATTACH_PARENT_PROCESS, AttachConsole, CTRL_BREAK_EVENT, FreeConsole, GenerateConsoleCtrlEvent,
                GetStdHandle, STD_ERROR_HANDLE, STD_HANDLE, STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, SetStdHandle,
            },
            Diagnostics::ToolHelp::{
                CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
            },
            Threading::{
                GetExitCodeProcess, GetProcessTimes, OpenProcess, OpenThread, PROCESS_QUERY_LIMITED_INFORMATION,
                PROCESS_SYNCHRONIZE, ResumeThread, THREAD_SUSPEND_RESUME, WaitForSingleObject,
            },
        },
    },
    core::BOOL,
};

/// What a process reads from or writes to.
pub type StreamEnd = OwnedHandle;
pub type Socket = OwnedSocket;

/// The id of a process. Windows keeps it from others for as long as anybody holds the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZero<i32>);

impl Pid {
    pub fn from_raw(pid: i32) -> Option<Self> {
        NonZero::new(pid).map(Self)
    }

    pub fn as_raw_nonzero(self) -> NonZero<i32> {
        self.0
    }
}

/// By the number that it has on other systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// Ctrl-Break.
    pub const TERM: Self = Self(15);
    pub const KILL: Self = Self(9);
}

/// A signal by its number. Whatever is no end without a question is a request to end.
pub fn signal(number: i32) -> Signal {
    if number == Signal::KILL.0 { Signal::KILL } else { Signal::TERM }
}

/// When a process was started, in units of 100 ns since 1601: with its id, this names it for good.
pub fn start_ticks(pid: i32) -> Option<u64> {
    ticks_of(&open(pid)?)
}

/// Holds on to a process that was started at `ticks`, so that its id cannot come to mean another one.
pub fn hold_process(pid: i32, ticks: u64) -> Option<OwnedHandle> {
    open(pid).filter(|process| ticks_of(process) == Some(ticks))
}

#[expect(unsafe_code, reason = "no safe OpenProcess")]
fn open(pid: i32) -> Option<OwnedHandle> {
    let rights = PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE;
    // SAFETY: the call takes numbers, and what it gives is nobody else's.
    unsafe { owned(OpenProcess(rights, 0, pid.cast_unsigned())) }.ok()
}

#[expect(unsafe_code, reason = "no safe GetProcessTimes")]
fn ticks_of(process: &OwnedHandle) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [created, exited, kernel, user] = &mut times;
    // SAFETY: the handle is open for as long as the call, which writes to four places of ours.
    done(unsafe { GetProcessTimes(process.as_raw_handle(), created, exited, kernel, user) }).ok()?;
    Some(u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime))
}

#[expect(unsafe_code, reason = "no safe WaitForSingleObject")]
pub fn has_ended(process: &OwnedHandle) -> bool {
    // SAFETY: the handle is open for as long as the call, which does not wait.
    unsafe { WaitForSingleObject(process.as_raw_handle(), 0) == WAIT_OBJECT_0 }
}

/// The exit code of a process that has ended.
#[expect(unsafe_code, reason = "no safe GetExitCodeProcess")]
pub fn exit_code(process: &OwnedHandle) -> Option<u32> {
    let mut code = 0;
    // SAFETY: the handle is open for as long as the call, which writes to one place of ours.
    done(unsafe { GetExitCodeProcess(process.as_raw_handle(), &raw mut code) }).ok()?;
    has_ended(process).then_some(code)
}

/// Asks a process group that has a console of its own to end. For this we leave ours, if we have one: a process is on one console.
#[expect(unsafe_code, reason = "no safe GenerateConsoleCtrlEvent")]
pub(crate) fn interrupt(group: Pid) -> io::Result<()> {
    let group = group.0.get().cast_unsigned();
    // SAFETY: the calls take numbers, and our standard streams are as before in the end.
    unsafe {
        let streams = STREAMS.map(|stream| (stream, GetStdHandle(stream)));
        FreeConsole();
        let asked = done(AttachConsole(group)).and_then(|()| done(GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, group)));
        FreeConsole();
        // Without a parent on a console there was none to leave.
        AttachConsole(ATTACH_PARENT_PROCESS);
        for (stream, handle) in streams {
            SetStdHandle(stream, handle);
        }
        asked
    }
}

const STREAMS: [STD_HANDLE; 3] = [STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE];

/// Lets a process run that was started suspended: it has one thread, unless the system has added some that run already.
#[expect(unsafe_code, reason = "no safe ResumeThread")]
pub(crate) fn resume(pid: u32) -> io::Result<()> {
    let size = u32::try_from(size_of::<THREADENTRY32>()).map_err(io::Error::other)?;
    let mut entry = THREADENTRY32 { dwSize: size, ..THREADENTRY32::default() };
    let mut resumed = Err(io::ErrorKind::NotFound.into());
    // SAFETY: what the calls give is nobody else's, and they write to one structure of the size that stands in it.
    unsafe {
        let threads = owned(CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0))?;
        let mut more = Thread32First(threads.as_raw_handle(), &raw mut entry);
        while more != 0 {
            if entry.th32OwnerProcessID == pid {
                let thread = owned(OpenThread(THREAD_SUSPEND_RESUME, 0, entry.th32ThreadID))?;
                resumed = match ResumeThread(thread.as_raw_handle()) {
                    u32::MAX => return Err(io::Error::last_os_error()),
                    _ => Ok(()),
                };
            }
            entry.dwSize = size;
            more = Thread32Next(threads.as_raw_handle(), &raw mut entry);
        }
    }
    resumed
}

/// There is none yet.
pub(crate) fn machine_terminal() -> io::Result<StreamEnd> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "`tty`: processes on Windows have no terminals"))
}

/// What a call says of its success.
pub(crate) fn done(outcome: BOOL) -> io::Result<()> {
    if outcome != 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A handle that a call has given, or the reason why not.
///
/// # Safety
///
/// Nobody else owns it.
#[expect(unsafe_code, reason = "no safe way from a raw handle")]
pub(crate) unsafe fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() || handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and as the caller promises nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle as RawHandle) })
}
