//! The way from a container to its log, on which a killed supervisor loses no line and doubles none.
//!
//! A container writes to a FIFO that it has open for reading, too: without a supervisor it gets no SIGPIPE, and what it wrote
//! stays. `splice` moves bytes from there to a file in one system call, which a kill cannot tear: they are in the one or
//! in the other. From the file they become log lines, and only then a cursor says how far both are; whoever comes next
//! cuts the log back to the cursor and goes on from it.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, fchown},
    io::Errno,
    process::Uid,
};

use crate::{
    kernel,
    plan::PodPlan,
    pod_dir::{PRIVATE_DIR, PodDir, make_dir},
};

/// stdout and stderr.
pub const STREAMS: [&str; 2] = ["stdout", "stderr"];
/// What a hook writes to: without a supervisor it gets no SIGPIPE, and is known by it.
pub const HOOK: &str = "hook";
/// A file all of whose bytes are in the log is emptied when it is longer than this.
const EMPTY_AT_BYTES: u64 = 256 << 10;
/// One that never gets there gives its oldest bytes back to the disk whenever this many are in the log.
const PUNCH_AT_BYTES: u64 = 4 << 20;
const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens every FIFO of the pod, so that what is in it outlives both its writer and its reader.
pub(super) fn hold(dir: &PodDir, plan: &PodPlan) -> io::Result<Vec<OwnedFd>> {
    make_dir(&dir.stdio(), PRIVATE_DIR)?;
    let all = plan.containers.iter().flat_map(|container| STREAMS.map(|stream| fifo(dir, &container.name, stream)));
    all.map(|path| open_fifo(&path)).collect()
}

pub fn fifo(dir: &PodDir, container: &str, stream: &str) -> PathBuf {
    dir.stdio().join(format!("{container}.{stream}"))
}

/// Open for both directions, a FIFO has neither to wait for the other side nor ever ends.
pub fn open_fifo(path: &Path) -> io::Result<OwnedFd> {
    match kernel::make_fifo(path, PRIVATE) {
        Err(error) if error != Errno::EXIST => return Err(error.into()),
        _ => {}
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// The container's end, which blocks as any pipe does. It belongs to the container's user, who may open it again by
/// `/dev/stdout`.
pub(super) fn open_far(dir: &PodDir, container: &str, stream: &str, uid: Option<u32>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let far = rustix::fs::open(fifo(dir, container, stream), flags, Mode::empty())?;
    if let Some(uid) = uid {
        fchown(&far, Some(Uid::from_raw(uid)), None)?;
    }
    Ok(far)
}

/// One stream: a FIFO, and the file behind it.
#[derive(Debug)]
pub(super) struct Spool {
    fifo: OwnedFd,
    file: File,
    length: u64,
    punched: u64,
}

impl Spool {
    /// `taken` is what the log has already; the bytes after it are returned.
    pub(super) fn open(dir: &PodDir, container: &str, stream: &str, taken: &mut u64) -> io::Result<(Self, Vec<u8>)> {
        let fifo = fifo(dir, container, stream);
        let path = fifo.with_added_extension("taken");
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        if length < *taken {
            // It was emptied, and the cursor not yet set back.
            *taken = 0;
        }
        let spool = Self { fifo: open_fifo(&fifo)?, file, length, punched: 0 };
        let mut rest = vec![0; usize::try_from(length - *taken).unwrap_or(usize::MAX)];
        spool.file.read_exact_at(&mut rest, *taken)?;
        Ok((spool, rest))
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Takes what the container has written, as far as the buffer goes.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match kernel::move_bytes(&self.fifo, &self.file, self.length, buffer.len()) {
            Ok(moved) => {
                self.file.read_exact_at(&mut buffer[..moved], self.length).map_err(|_| Errno::IO)?;
                self.length += moved as u64;
                Ok(moved)
            }
            Err(error @ (Errno::AGAIN | Errno::INTR)) => Err(error),
            // A full disk costs log lines, never the container.
            Err(_) => rustix::io::read(&self.fifo, buffer),
        }
    }

    /// Gives back what the log has; whether the file begins anew.
    pub(super) fn shrink(&mut self, taken: u64) -> io::Result<bool> {
        if taken == self.length && self.length >= EMPTY_AT_BYTES {
            self.empty()?;
            return Ok(true);
        }
        if taken.saturating_sub(self.punched) >= PUNCH_AT_BYTES {
            kernel::give_back(&self.file, self.punched, taken - self.punched);
            self.punched = taken;
        }
        Ok(false)
    }

    pub(super) fn empty(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.length, self.punched) = (0, 0);
        Ok(())
    }
}

impl AsFd for Spool {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }
}

/// How far the log of one start of a container is. Replaced by one small write, which a kill cannot tear.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    pub(super) at: Position,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) restart_count: u32,
    /// The log file's whole lines.
    pub(super) log_length: u64,
    /// Of each stream, what these lines were made from.
    pub(super) taken: [u64; 2],
}

const POSITION_BYTES: usize = 28;

impl Cursor {
    pub(super) fn open(dir: &PodDir, container: &str) -> io::Result<Self> {
        let path = dir.stdio().join(format!("{container}.cursor"));
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = [0; POSITION_BYTES];
        let at = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => Position::from_bytes(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Position::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { file, at })
    }

    pub(super) fn save(&self) -> io::Result<()> {
        self.file.write_all_at(&self.at.to_bytes(), 0)
    }
}

impl Position {
    fn to_bytes(self) -> [u8; POSITION_BYTES] {
        let mut bytes = [0; POSITION_BYTES];
        bytes[..4].copy_from_slice(&self.restart_count.to_le_bytes());
        for (place, number) in [self.log_length, self.taken[0], self.taken[1]].into_iter().enumerate() {
            bytes[4 + 8 * place..12 + 8 * place].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; POSITION_BYTES]) -> Self {
        let number = |place: usize| {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[4 + 8 * place..12 + 8 * place]);
            u64::from_le_bytes(eight)
        };
        let restart_count = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Self { restart_count, log_length: number(0), taken: [number(1), number(2)] }
    }
}
