//! What containers alone take of the kernel and no safe wrapper offers.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::{mount::MountAttrFlags, process::Pid, thread::UnshareFlags};

use crate::kernel::Fork;

/// Forks a child that begins in new namespaces, and in a control group of version 2 if one is given: there it need not be moved,
/// which takes the kernel long.
#[expect(unsafe_code, reason = "no safe clone3")]
pub(super) fn fork_into(namespaces: UnshareFlags, group: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    /// The kernel's `struct clone_args`, up to what we use.
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        /// Descriptors, thread ids and a stack, none of which a plain child has.
        unused: [u64; 3],
        exit_signal: u64,
        no_stack: [u64; 5],
        cgroup: u64,
    }
    const { assert!(size_of::<CloneArgs>() == 88) };
    let mut arguments = CloneArgs {
        flags: namespaces.bits().into(),
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        ..CloneArgs::default()
    };
    if let Some(group) = group {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(group.as_raw_fd().unsigned_abs());
    }
    // SAFETY: as in `detach`, the process has one thread; without a stack of its own and shared memory the child goes on
    // from here like a fork's.
    let outcome = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArgs>()) };
    match i32::try_from(outcome) {
        Ok(0) => Ok(Fork::Child),
        Ok(pid @ 1..) => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::Error::other("a child without an id")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends the process here and now: what a forked child has copied of its parent is not the child's to take down.
#[expect(unsafe_code, reason = "no safe _exit")]
pub(super) fn exit_at_once(code: i32) -> ! {
    // SAFETY: it does not return, and runs nothing of ours.
    unsafe { libc::_exit(code) }
}

/// Goes on as a process that holds nothing and does nothing: the kernel itself takes in what others leave behind to it.
#[expect(unsafe_code, reason = "no safe close_range and signal")]
pub(super) fn rest_for_good() -> ! {
    // SAFETY: this process uses no descriptor from here on, and ignoring a signal runs no code of ours.
    unsafe {
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
    loop {
        let _interrupted = rustix::event::poll(&mut [], None);
    }
}

/// Whatever is open beyond the standard streams is closed when another program takes over.
#[expect(unsafe_code, reason = "no safe close_range")]
pub(super) fn close_others_on_exec() {
    // SAFETY: descriptors stay as they are until then. A kernel that refuses has them closed all the same, one by one: each of
    // ours is opened so.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Sets attributes of a mount, or of all below it, without touching those that it has.
#[expect(unsafe_code, reason = "no safe mount_setattr")]
pub(super) fn set_mount_attributes(mount: BorrowedFd<'_>, attributes: MountAttrFlags, all: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: attributes.bits().into(), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if all { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty string, and the kernel reads a structure of the size that is given.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
