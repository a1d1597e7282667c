//! The default filter of system calls: what ordinary programs need, and nothing that reaches around a container.
//!
//! The list is the one that container engines have settled on. Two filters are stacked, because a filter has one verdict for
//! what it names: the first turns `clone3`, whose flags no filter can see, into "no such call", whereupon libraries use
//! `clone`; the second lets the listed calls pass and refuses the rest with `EPERM`.

use std::{collections::BTreeMap, io};

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};

/// `CLONE_NEW*`: a container makes no namespaces.
const NAMESPACE_FLAGS: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;
/// `personality` values that change nothing of security: Linux, 32 bits, either with short names, and the question.
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];

/// The filters for a container that keeps these capabilities, in the order in which they are installed.
pub(super) fn programs(capabilities: &[String]) -> io::Result<Vec<BpfProgram>> {
    let may = |name: &str| capabilities.iter().any(|held| held == name);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    ALLOWED.iter().chain(OF_THIS_ARCHITECTURE).for_each(|(_, call)| drop(rules.insert(*call, Vec::new())));
    for (capability, calls) in WITH_CAPABILITY {
        if may(capability) {
            calls.iter().for_each(|(_, call)| drop(rules.insert(*call, Vec::new())));
        }
    }
    let condition = |argument, operator, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(io::Error::other)
    };
    if !may("CAP_SYS_ADMIN") {
        rules.insert(libc::SYS_clone, vec![condition(0, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)?]);
    }
    let personalities = PERSONALITIES.iter().map(|value| condition(0, SeccompCmpOp::Eq, *value));
    rules.insert(libc::SYS_personality, personalities.collect::<Result<_, _>>()?);
    let families = |conditions: &[(SeccompCmpOp, u32)]| {
        let conditions = conditions.iter().map(|(operator, family)| {
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator.clone(), u64::from(*family))
        });
        conditions.collect::<Result<_, _>>().and_then(SeccompRule::new).map_err(io::Error::other)
    };
    let below = families(&[(SeccompCmpOp::Lt, AF_ALG)])?;
    let between = families(&[(SeccompCmpOp::Gt, AF_ALG), (SeccompCmpOp::Lt, AF_VSOCK)])?;
    rules.insert(libc::SYS_socket, vec![below, between]);

    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let mut programs = Vec::new();
    if !may("CAP_SYS_ADMIN") {
        let unknown = [(libc::SYS_clone3, Vec::new())].into();
        let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        programs.push(compile(unknown, SeccompAction::Allow, absent)?);
    }
    programs.push(compile(rules, refuse, SeccompAction::Allow)?);
    Ok(programs)
}

const AF_ALG: u32 = libc::AF_ALG as u32;
const AF_VSOCK: u32 = libc::AF_VSOCK as u32;

/// What has no conditions is found by ranges of numbers, ahead of all else: the library has a test for each call, and the kernel
/// takes a millisecond to make ready what has that many.
pub(super) fn compile(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    verdict: SeccompAction,
) -> io::Result<BpfProgram> {
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let (always, sometimes): (BTreeMap<_, _>, BTreeMap<_, _>) = rules.into_iter().partition(|(_, all)| all.is_empty());
    let calls = always.into_keys().map(u32::try_from).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    let mut program = by_ranges(&ranges(&calls), verdict.clone().into());
    let filter = SeccompFilter::new(sometimes, otherwise, verdict, architecture).map_err(io::Error::other)?;
    program.extend(BpfProgram::try_from(filter).map_err(io::Error::other)?);
    Ok(program)
}

/// First and last numbers of what follows upon each other.
fn ranges(calls: &[u32]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for call in calls {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *call => *last = *call,
            _ => ranges.push((*call, *call)),
        }
    }
    ranges
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;

/// A beginning of a program that returns `verdict` for these calls, and goes on with what follows it for all others.
fn by_ranges(ranges: &[(u32, u32)], verdict: u32) -> BpfProgram {
    const NUMBER_AT: u32 = 0;
    const ARCHITECTURE_AT: u32 = 4;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump = |test: u32| (libc::BPF_JMP | test | libc::BPF_K) as u16;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let length = 3 * ranges.len() as u32;
    let mut program = vec![
        instruction(load, 0, 0, ARCHITECTURE_AT),
        instruction(jump(libc::BPF_JEQ), 1, 0, ARCHITECTURE),
        // What follows judges calls of other architectures, too.
        instruction(jump(libc::BPF_JA), 0, 0, length + 1),
        instruction(load, 0, 0, NUMBER_AT),
    ];
    for (first, last) in ranges {
        program.push(instruction(jump(libc::BPF_JGE), 0, 2, *first));
        program.push(instruction(jump(libc::BPF_JGT), 1, 0, *last));
        program.push(instruction((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, verdict));
    }
    program
}

/// Installs filters on the calling thread, by seccomp(2) and nothing else: no_new_privs stays as it is.
#[expect(unsafe_code, reason = "no safe seccomp(2) that leaves no_new_privs alone")]
pub(super) fn install(programs: &[BpfProgram]) -> io::Result<()> {
    for program in programs {
        let length = program.len().try_into().map_err(io::Error::other)?;
        let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
        // SAFETY: the kernel copies `length` instructions, which seccompiler lays out as the kernel's own structure.
        let outcome = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A system call by the name and the number that this architecture has for it.
type Call = (&'static str, c_long);

macro_rules! calls {
    ($($name:ident)+) => { &[$((stringify!($name), libc::$name as c_long)),+] };
}

/// The number of a call that any of our lists knows, by the name that it has everywhere.
pub(super) fn number(name: &str) -> Option<c_long> {
    let conditional = WITH_CAPABILITY.iter().flat_map(|(_, calls)| calls.iter());
    let mut all = ALLOWED.iter().chain(OF_THIS_ARCHITECTURE).chain(conditional).chain(NEVER);
    all.find(|(known, _)| known.strip_prefix("SYS_") == Some(name)).map(|(_, number)| *number)
}

const ALLOWED: &[Call] = calls![
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_adjtime SYS_clock_getres
    SYS_clock_gettime SYS_clock_nanosleep SYS_clone3 SYS_close SYS_close_range SYS_connect SYS_copy_file_range SYS_dup SYS_dup3
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_eventfd2 SYS_execve SYS_execveat SYS_exit
    SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fanotify_mark SYS_fchdir SYS_fchmod
    SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fremovexattr
    SYS_fsetxattr SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_getcpu SYS_getcwd SYS_getdents64 SYS_getegid
    SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpid SYS_getppid SYS_getpriority
    SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrlimit SYS_get_robust_list SYS_getrusage SYS_getsid SYS_getsockname
    SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch SYS_inotify_init1
    SYS_inotify_rm_watch SYS_io_cancel SYS_ioctl SYS_io_destroy SYS_io_getevents SYS_ioprio_get SYS_ioprio_set SYS_io_setup
    SYS_io_submit SYS_kill SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lgetxattr
    SYS_linkat SYS_listen SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_membarrier
    SYS_memfd_create SYS_memfd_secret SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap
    SYS_mprotect SYS_mq_getsetattr SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap
    SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_name_to_handle_at
    SYS_nanosleep SYS_newfstatat SYS_openat SYS_openat2 SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe2 SYS_pkey_alloc
    SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64
    SYS_process_mrelease SYS_pselect6 SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv
    SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat SYS_renameat2
    SYS_restart_syscall SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn
    SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam
    SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_getscheduler SYS_sched_rr_get_interval
    SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_semctl
    SYS_semget SYS_semop SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_setfsgid SYS_setfsuid
    SYS_setgid SYS_setgroups SYS_setitimer SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid
    SYS_setrlimit SYS_set_robust_list SYS_setsid SYS_setsockopt SYS_set_tid_address SYS_setuid SYS_setxattr SYS_shmat
    SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd4 SYS_socketpair SYS_splice SYS_statfs SYS_statx
    SYS_symlinkat SYS_sync SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_timer_create SYS_timer_delete
    SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime
    SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice SYS_wait4 SYS_waitid
    SYS_write SYS_writev SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev
];

#[cfg(target_arch = "x86_64")]
const OF_THIS_ARCHITECTURE: &[Call] = calls![
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_ctl_old SYS_epoll_wait
    SYS_epoll_wait_old SYS_eventfd SYS_fork SYS_futimesat SYS_getdents SYS_getpgrp SYS_get_thread_area SYS_inotify_init
    SYS_lchown SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink
    SYS_rename SYS_rmdir SYS_select SYS_set_thread_area SYS_signalfd SYS_stat SYS_symlink SYS_time SYS_unlink SYS_utime
    SYS_utimes SYS_vfork
];
#[cfg(not(target_arch = "x86_64"))]
const OF_THIS_ARCHITECTURE: &[Call] = &[];

/// Calls that only the holder of a capability can use to any effect.
const WITH_CAPABILITY: [(&str, &[Call]); 10] = [
    ("CAP_DAC_READ_SEARCH", calls![SYS_open_by_handle_at]),
    (
        "CAP_SYS_ADMIN",
        calls![
            SYS_bpf SYS_clone SYS_fanotify_init SYS_fsconfig SYS_fsmount SYS_fsopen SYS_fspick SYS_lookup_dcookie SYS_mount
            SYS_mount_setattr SYS_move_mount SYS_open_tree SYS_perf_event_open SYS_quotactl SYS_setdomainname SYS_sethostname
            SYS_setns SYS_syslog SYS_umount2 SYS_unshare
        ],
    ),
    ("CAP_SYS_BOOT", calls![SYS_reboot]),
    ("CAP_SYS_CHROOT", calls![SYS_chroot]),
    ("CAP_SYS_MODULE", calls![SYS_delete_module SYS_init_module SYS_finit_module]),
    ("CAP_SYS_PACCT", calls![SYS_acct]),
    ("CAP_SYS_PTRACE", calls![SYS_kcmp SYS_pidfd_getfd SYS_process_madvise]),
    ("CAP_SYS_TIME", calls![SYS_settimeofday SYS_clock_settime]),
    ("CAP_SYS_NICE", calls![SYS_get_mempolicy SYS_mbind SYS_set_mempolicy]),
    ("CAP_SYSLOG", calls![SYS_syslog]),
];

/// Calls that have a filter of their own, or that nobody is allowed: only a profile of the machine can name them.
const NEVER: &[Call] = calls![
    SYS_add_key SYS_clone SYS_io_uring_enter SYS_io_uring_register SYS_io_uring_setup SYS_kexec_load SYS_keyctl SYS_mount
    SYS_move_pages SYS_nfsservctl SYS_personality SYS_pivot_root SYS_request_key SYS_setns SYS_socket SYS_swapoff SYS_swapon
    SYS_unshare SYS_userfaultfd SYS_vhangup
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel takes no longer program.
    const MAX_INSTRUCTIONS: usize = 4096;

    #[test]
    fn filters_fit_the_kernel_and_only_a_holder_of_everything_has_fewer() {
        let ordinary = programs(&["CAP_CHOWN".to_owned()]).expect("filters");
        assert_eq!(ordinary.len(), 2);
        assert!(ordinary.iter().all(|program| program.len() < MAX_INSTRUCTIONS));
        assert_eq!(programs(&["CAP_SYS_ADMIN".to_owned()]).expect("a filter").len(), 1);
    }

    /// What the kernel would do: the answer of a program to a call of an architecture with these first arguments.
    fn answer(program: &BpfProgram, architecture: u32, call: u32, arguments: [u64; 2]) -> u32 {
        let mut memory = vec![call, architecture, 0, 0];
        memory.extend(arguments.iter().flat_map(|argument| [*argument as u32, (argument >> 32) as u32]));
        let (mut register, mut at) = (0u32, 0usize);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            let code = u32::from(code);
            let mut jump = |held: bool| at += usize::from(if held { jt } else { jf });
            match code & 0x07 {
                libc::BPF_LD => register = memory.get(k as usize / 4).copied().unwrap_or_default(),
                libc::BPF_ALU if code & 0xf0 == libc::BPF_AND => register &= k,
                libc::BPF_RET => return k,
                libc::BPF_JMP => match code & 0xf0 {
                    libc::BPF_JA => at += k as usize,
                    libc::BPF_JEQ => jump(register == k),
                    libc::BPF_JGT => jump(register > k),
                    libc::BPF_JGE => jump(register >= k),
                    libc::BPF_JSET => jump(register & k != 0),
                    other => panic!("no such jump: {other:#x}"),
                },
                other => panic!("no such instruction: {other:#x}"),
            }
            at += 1;
        }
    }

    #[test]
    fn every_call_is_judged_as_its_list_says() {
        let (allow, refuse) = (u32::from(SeccompAction::Allow), u32::from(SeccompAction::Errno(1)));
        let programs = programs(&[]).expect("filters");
        let program = programs.last().expect("the second filter");
        let judged = |call: c_long, first: u64| answer(program, ARCHITECTURE, call as u32, [first, 0]);
        for call in 0..600 {
            if [libc::SYS_clone, libc::SYS_personality, libc::SYS_socket].contains(&call) {
                continue;
            }
            assert_eq!(judged(call, 0), if is_common(call) { allow } else { refuse }, "{call}");
        }
        let cases = [
            (libc::SYS_socket, u64::from(libc::AF_INET.unsigned_abs()), allow),
            (libc::SYS_socket, u64::from(AF_ALG), refuse),
            (libc::SYS_socket, u64::from(AF_ALG) + 1, allow),
            (libc::SYS_socket, u64::from(AF_VSOCK), refuse),
            (libc::SYS_socket, 1 << 32, refuse),
            (libc::SYS_clone, libc::SIGCHLD as u64, allow),
            (libc::SYS_clone, libc::CLONE_NEWUSER as u64, refuse),
            (libc::SYS_personality, 8, allow),
            (libc::SYS_personality, 0x0040_0000, refuse),
        ];
        for (call, argument, expected) in cases {
            assert_eq!(judged(call, argument), expected, "{call} {argument:#x}");
        }
        // The numbers of x32, which shares the architecture, and calls of another one.
        assert_eq!(judged(libc::SYS_read | 0x4000_0000, 0), refuse);
        assert_ne!(answer(program, 0x4000_0003, libc::SYS_read as u32, [0; 2]), allow);
        assert!(program.len() < 400, "{} instructions", program.len());
    }

    #[test]
    fn calls_that_follow_upon_each_other_are_one_range() {
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), [(0, 2), (5, 5), (7, 8)]);
    }

    fn is_common(call: c_long) -> bool {
        ALLOWED.iter().chain(OF_THIS_ARCHITECTURE).any(|(_, number)| *number == call)
    }

    #[test]
    fn what_reaches_around_a_container_is_on_no_common_list() {
        for call in [libc::SYS_mount, libc::SYS_setns, libc::SYS_unshare, libc::SYS_bpf, libc::SYS_kexec_load] {
            assert!(!is_common(call), "{call}");
        }
        for call in [libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_userfaultfd, libc::SYS_io_uring_setup] {
            assert!(!is_common(call), "{call}");
        }
    }
}
