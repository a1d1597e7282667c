//! Jobs: what Windows has instead of control groups. All that a process of a job starts is in it, and so in the jobs around it.

use std::{
    io,
    os::windows::io::{AsRawHandle as _, BorrowedHandle, OwnedHandle},
    ptr, thread,
};

use windows_sys::Win32::{
    Foundation::DuplicateHandle,
    System::{
        JobObjects::{
            AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_CPU_RATE_CONTROL_ENABLE,
            JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP, JOB_OBJECT_LIMIT_ACTIVE_PROCESS, JOB_OBJECT_LIMIT_JOB_MEMORY,
            JOBOBJECT_CPU_RATE_CONTROL_INFORMATION, JOBOBJECT_CPU_RATE_CONTROL_INFORMATION_0,
            JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JOBOBJECTINFOCLASS, JobObjectCpuRateControlInformation,
            JobObjectExtendedLimitInformation, OpenJobObjectW, SetInformationJobObject, TerminateJobObject,
        },
        Threading::{GetCurrentProcess, PROCESS_SYNCHRONIZE},
    },
};

use crate::{
    confinement::{CPU_PERIOD_US, Resources},
    kernel::{done, owned},
};

/// The exit code of whatever is killed, as on other systems.
const KILLED: u32 = 128 + 9;
/// Query, set attributes of, assign to and end a job.
const JOB_RIGHTS: u32 = 0x1 | 0x2 | 0x4 | 0x8;
/// How Windows counts processor time: hundredths of a percent of all processors.
const WHOLE_MACHINE: i64 = 10_000;

/// Ends with its last process, whoever has it open: it is never told to end these when we are gone.
#[derive(Debug)]
pub(super) struct Job(OwnedHandle);

impl Job {
    /// Makes a job, or opens the one of that name.
    #[expect(unsafe_code, reason = "no safe CreateJobObject")]
    pub(super) fn new(name: Option<&str>) -> io::Result<Self> {
        let name = name.map(wide);
        let name = name.as_ref().map_or(ptr::null(), Vec::as_ptr);
        // SAFETY: the name ends with a zero and lives for as long as the call, and what that gives is nobody else's.
        unsafe { owned(CreateJobObjectW(ptr::null(), name)) }.map(Self)
    }

    /// `None` when there is none any more.
    #[expect(unsafe_code, reason = "no safe OpenJobObject")]
    pub(super) fn open(name: &str) -> Option<Self> {
        // SAFETY: as above.
        unsafe { owned(OpenJobObjectW(JOB_RIGHTS, 0, wide(name).as_ptr())) }.ok().map(Self)
    }

    /// Holds all processes of the job together to what is allowed. Shares of processor time are without effect.
    pub(super) fn limit(&self, resources: &Resources) -> io::Result<()> {
        self.set(JobObjectExtendedLimitInformation, &limits(resources))?;
        match rate(resources) {
            Some(rate) => self.set(JobObjectCpuRateControlInformation, &rate),
            None => Ok(()),
        }
    }

    #[expect(unsafe_code, reason = "no safe SetInformationJobObject")]
    fn set<T>(&self, what: JOBOBJECTINFOCLASS, information: &T) -> io::Result<()> {
        let size = u32::try_from(size_of::<T>()).map_err(io::Error::other)?;
        // SAFETY: `what` goes with the structure, which is read as far as its size says.
        done(unsafe { SetInformationJobObject(self.0.as_raw_handle(), what, ptr::from_ref(information).cast(), size) })
    }

    /// A process comes in, for good.
    #[expect(unsafe_code, reason = "no safe AssignProcessToJobObject")]
    pub(super) fn take_in(&self, process: BorrowedHandle<'_>) -> io::Result<()> {
        // SAFETY: both handles are open for as long as the call.
        done(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process.as_raw_handle()) })
    }

    /// Has a process hold the job by a handle that is good for nothing else: a job is found by its name only while somebody
    /// has it open, and we may be gone.
    #[expect(unsafe_code, reason = "no safe DuplicateHandle")]
    pub(super) fn be_held_by(&self, process: BorrowedHandle<'_>) -> io::Result<()> {
        let mut theirs = ptr::null_mut();
        // SAFETY: all handles are open for as long as the call; the new one belongs to the other process and ends with it.
        done(unsafe {
            let (job, process) = (self.0.as_raw_handle(), process.as_raw_handle());
            DuplicateHandle(GetCurrentProcess(), job, process, &raw mut theirs, PROCESS_SYNCHRONIZE, 0, 0)
        })
    }

    /// Ends everything in it.
    #[expect(unsafe_code, reason = "no safe TerminateJobObject")]
    pub(super) fn end(&self) {
        // SAFETY: the handle is open for as long as the call. The only failure is that nobody is left.
        let _gone = unsafe { TerminateJobObject(self.0.as_raw_handle(), KILLED) };
    }
}

/// Memory is what was promised to processes, whether they use it or not: there is no other count.
fn limits(resources: &Resources) -> JOBOBJECT_EXTENDED_LIMIT_INFORMATION {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    if let Some(bytes) = resources.memory_bytes {
        limits.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_JOB_MEMORY;
        limits.JobMemoryLimit = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    if let Some(pids) = resources.pids {
        limits.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
        limits.BasicLimitInformation.ActiveProcessLimit = u32::try_from(pids).unwrap_or(u32::MAX);
    }
    limits
}

fn rate(resources: &Resources) -> Option<JOBOBJECT_CPU_RATE_CONTROL_INFORMATION> {
    let processors = thread::available_parallelism().map_or(1, |count| i64::try_from(count.get()).unwrap_or(i64::MAX));
    Some(JOBOBJECT_CPU_RATE_CONTROL_INFORMATION {
        ControlFlags: JOB_OBJECT_CPU_RATE_CONTROL_ENABLE | JOB_OBJECT_CPU_RATE_CONTROL_HARD_CAP,
        Anonymous: JOBOBJECT_CPU_RATE_CONTROL_INFORMATION_0 { CpuRate: share(resources.cpu_quota_us?, processors) },
    })
}

/// Of a quota, in hundredths of a percent of this many processors. Nobody gets nothing at all, nor more than there is.
fn share(quota_us: i64, processors: i64) -> u32 {
    let of_all_us = CPU_PERIOD_US.cast_signed().saturating_mul(processors);
    let share = quota_us.saturating_mul(WHOLE_MACHINE) / of_all_us;
    share.clamp(1, WHOLE_MACHINE).try_into().unwrap_or(1)
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_become_shares_of_the_machine() {
        for (quota_us, processors, expected) in
            [(50_000, 1, 5000), (50_000, 4, 1250), (150_000, 2, 7500), (900_000, 2, 10_000), (1, 64, 1), (0, 1, 1)]
        {
            assert_eq!(share(quota_us, processors), expected, "{quota_us} us of {processors}");
        }
    }

    #[test]
    fn what_is_asked_for_is_limited_and_nothing_else() {
        let check = |resources: Resources, flags: u32, memory: usize, pids: u32| {
            let limits = limits(&resources);
            let basic = limits.BasicLimitInformation;
            assert_eq!((basic.LimitFlags, limits.JobMemoryLimit, basic.ActiveProcessLimit), (flags, memory, pids));
            Job::new(None).expect("a job").limit(&resources).expect("limits");
        };
        check(Resources::default(), 0, 0, 0);
        check(Resources { memory_bytes: Some(1 << 26), ..Resources::default() }, 512, 1 << 26, 0);
        check(Resources { pids: Some(40), ..Resources::default() }, 8, 0, 40);
    }
}
