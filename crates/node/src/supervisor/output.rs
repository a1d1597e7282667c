//! The output of one start of a container: two pipes in, one log file out.

use std::{io, os::fd::OwnedFd, path::Path};

use jiff::Timestamp;

use super::{framing::Framer, kernel, log_file::LogFile, taps::Tap};

/// Read from one pipe before the others get their turn.
const MAX_TURN_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 64 * 1024;
/// What `FallbackToLogsOnError` takes from the end of a log.
const TAIL_BYTES: usize = 2048;
const TAIL_LINES: usize = 80;

#[derive(Debug)]
pub(super) struct Output {
    log: LogFile,
    /// stdout and stderr, until they end.
    pub(super) pipes: [Option<OwnedFd>; 2],
    framers: [Framer; 2],
}

impl Output {
    pub(super) fn new(directory: &Path, restart_count: u32, pipes: [Option<OwnedFd>; 2]) -> io::Result<Self> {
        Ok(Self {
            log: LogFile::create(directory, restart_count)?,
            pipes,
            framers: [Framer::new("stdout"), Framer::new("stderr")],
        })
    }

    /// Moves what one pipe holds into the log. A disk that takes no more loses lines, never the container.
    /// Whoever is attached gets it, too, and not more in one turn than is good for slow ones.
    pub(super) fn drain(&mut self, which: usize, taps: &mut [&mut Tap]) {
        let (mut buffer, mut framed, mut taken) = (vec![0u8; READ_BYTES], Vec::new(), 0);
        let now_ms = kernel::now().mono_ms;
        let most = if taps.is_empty() { MAX_TURN_BYTES } else { READ_BYTES };
        let time = format!("{:.9}", Timestamp::now());
        while taken < most {
            let Some(pipe) = &self.pipes[which] else { break };
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => {
                    self.framers[which].finish(&time, &mut framed);
                    self.pipes[which] = None;
                }
                Ok(length) => {
                    taken += length;
                    self.framers[which].push(&buffer[..length], &time, &mut framed);
                    taps.iter_mut().for_each(|tap| tap.push(which, &buffer[..length], now_ms));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => self.pipes[which] = None,
            }
        }
        if !framed.is_empty() {
            let _lost = self.log.write(&framed);
        }
    }

    /// The container has ended: takes what is left in the pipes and lets go of them.
    pub(super) fn close(&mut self, taps: &mut [&mut Tap]) {
        for which in [0, 1] {
            self.drain(which, taps);
            let (mut framed, time) = (Vec::new(), format!("{:.9}", Timestamp::now()));
            self.framers[which].finish(&time, &mut framed);
            let _lost = self.log.write(&framed);
            self.pipes[which] = None;
        }
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
