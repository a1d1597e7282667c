//! The output of one start of a container: two streams in, one log file out.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use jiff::Timestamp;
use rustix::io::Errno;

use super::{
    framing::Framer,
    log_file::LogFile,
    spool::{Cursor, Position, STREAMS, Spool, open_far},
    taps::Tap,
};
use crate::{kernel, pod_dir::PodDir};

/// Read from one pipe before the others get their turn.
const MAX_TURN_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 64 * 1024;
/// What `FallbackToLogsOnError` takes from the end of a log.
const TAIL_BYTES: usize = 2048;
const TAIL_LINES: usize = 80;

#[derive(Debug)]
pub(super) struct Output {
    log: LogFile,
    cursor: Cursor,
    /// stdout and stderr; a terminal has but one, which ends.
    pub(super) inlets: [Option<Inlet>; 2],
    framers: [Framer; 2],
    /// Lines could not be written the last time.
    losing: bool,
    /// Why, until it was told.
    trouble: Option<String>,
}

/// Where one stream comes from.
#[derive(Debug)]
pub(super) enum Inlet {
    Spool(Spool),
    Terminal(OwnedFd),
}

/// Whose output it is, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) dir: &'a PodDir,
    pub(super) container: &'a str,
    /// The container's logs.
    pub(super) logs: &'a Path,
    pub(super) restart_count: u32,
}

impl Output {
    /// The output of a start that is about to take place.
    pub(super) fn begin(place: Place<'_>, inlets: [Option<Inlet>; 2]) -> io::Result<Self> {
        let mut cursor = Cursor::open(place.dir, place.container)?;
        cursor.at = Position { restart_count: place.restart_count, log_length: 0, taken: [0, 0] };
        cursor.save()?;
        let log = LogFile::create(place.logs, place.restart_count)?;
        Ok(Self { log, cursor, inlets, framers: framers(), losing: false, trouble: None })
    }

    /// Goes on with the output of a container that another supervisor has started.
    pub(super) fn resume(place: Place<'_>) -> io::Result<Self> {
        let mut cursor = Cursor::open(place.dir, place.container)?;
        if cursor.at.restart_count != place.restart_count {
            return Self::begin(place, Inlet::spools(place)?);
        }
        let (mut inlets, mut framers, mut framed, time) = ([None, None], framers(), Vec::new(), now());
        for which in [0, 1] {
            let (spool, rest) = Spool::open(place.dir, place.container, STREAMS[which], &mut cursor.at.taken[which])?;
            framers[which].push(&rest, &time, &mut framed);
            inlets[which] = Some(Inlet::Spool(spool));
        }
        let log = LogFile::resume(place.logs, place.restart_count, cursor.at.log_length)?;
        let mut output = Self { log, cursor, inlets, framers, losing: false, trouble: None };
        output.commit(&framed)?;
        Ok(output)
    }

    /// What the container writes to.
    pub(super) fn far_ends(place: Place<'_>, uid: Option<u32>) -> io::Result<[OwnedFd; 2]> {
        let far = |stream| open_far(place.dir, place.container, stream, uid);
        Ok([far(STREAMS[0])?, far(STREAMS[1])?])
    }

    /// Moves what one stream holds into the log. A disk that takes no more loses lines, never the container.
    /// Whoever is attached gets it, too, and not more in one turn than is good for slow ones.
    pub(super) fn drain(&mut self, which: usize, taps: &mut [&mut Tap]) {
        let (mut buffer, mut framed, mut taken) = (vec![0u8; READ_BYTES], Vec::new(), 0);
        let now_ms = kernel::now().mono_ms;
        let most = if taps.is_empty() { MAX_TURN_BYTES } else { READ_BYTES };
        let time = now();
        while taken < most {
            let Some(inlet) = &mut self.inlets[which] else { break };
            match inlet.take(&mut buffer) {
                Ok(0) => {
                    self.framers[which].finish(&time, &mut framed);
                    self.inlets[which] = None;
                }
                Ok(length) => {
                    taken += length;
                    self.framers[which].push(&buffer[..length], &time, &mut framed);
                    taps.iter_mut().for_each(|tap| tap.push(which, &buffer[..length], now_ms));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.inlets[which] = None,
            }
        }
        self.note(&framed);
    }

    /// Why lines began to be lost since the last look.
    pub(super) fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// A disk that takes no more loses lines, which is told once, and never stops the container.
    fn note(&mut self, framed: &[u8]) {
        match self.commit(framed) {
            Err(error) if !std::mem::replace(&mut self.losing, true) => {
                let path = self.log.path().display();
                self.trouble = Some(format!("lines are lost while `{path}` cannot be written: {error}"));
            }
            Err(_) => {}
            Ok(()) => self.losing &= framed.is_empty(),
        }
    }

    /// The container has ended: takes what is left in its streams, and what it left without a newline.
    pub(super) fn close(&mut self, taps: &mut [&mut Tap]) {
        for which in [0, 1] {
            self.drain(which, taps);
            let mut framed = Vec::new();
            self.framers[which].finish(&now(), &mut framed);
            self.note(&framed);
        }
    }

    /// Writes whole lines to the log and then, with the cursor, that they are there.
    fn commit(&mut self, framed: &[u8]) -> io::Result<()> {
        if framed.is_empty() {
            return Ok(());
        }
        let Self { log, cursor, inlets, framers, .. } = self;
        if log.is_full_for(framed) {
            log.rotate(|| {
                cursor.at.log_length = 0;
                cursor.save()
            })?;
        }
        let written = log.write(framed);
        cursor.at.log_length = log.length();
        for which in [0, 1] {
            if let Some(Inlet::Spool(spool)) = &inlets[which] {
                cursor.at.taken[which] = spool.length().saturating_sub(framers[which].pending() as u64);
            }
        }
        cursor.save()?;
        for which in [0, 1] {
            if let Some(Inlet::Spool(spool)) = &mut inlets[which]
                && spool.shrink(cursor.at.taken[which])?
            {
                cursor.at.taken[which] = 0;
                cursor.save()?;
            }
        }
        written
    }

    /// The last lines, without framing.
    pub(super) fn tail(&self) -> String {
        let text = std::fs::read(self.log.path()).unwrap_or_default();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let newest = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        let content = newest.iter().map(|line| line.splitn(4, |byte| *byte == b' ').nth(3).unwrap_or_default());
        let joined = content.collect::<Vec<_>>().join(&b'\n');
        String::from_utf8_lossy(&joined[joined.len().saturating_sub(TAIL_BYTES)..]).into_owned()
    }
}

impl Inlet {
    /// Both streams of a start that is about to take place, empty.
    pub(super) fn spools(place: Place<'_>) -> io::Result<[Option<Self>; 2]> {
        let open = |stream| -> io::Result<Option<Self>> {
            let (mut spool, _) = Spool::open(place.dir, place.container, stream, &mut 0)?;
            spool.empty()?;
            Ok(Some(Self::Spool(spool)))
        };
        Ok([open(STREAMS[0])?, open(STREAMS[1])?])
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Spool(spool) => spool.take(buffer),
            Self::Terminal(terminal) => rustix::io::read(terminal, buffer),
        }
    }
}

impl AsFd for Inlet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Spool(spool) => spool.as_fd(),
            Self::Terminal(terminal) => terminal.as_fd(),
        }
    }
}

fn framers() -> [Framer; 2] {
    STREAMS.map(Framer::new)
}

fn now() -> String {
    format!("{:.9}", Timestamp::now())
}
