//! A log file that keeps itself small: the writer rotates, so no disk is overrun between two looks.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::pod_dir::{PRIVATE_DIR, append_private, make_dir};

/// A log file is put aside when the next write would take it over this.
pub(crate) const MAX_LOG_BYTES: u64 = 10 << 20;
/// Kept per start of a container, the one that is written included. Older ones are `N.log.1` (the newest) and so on.
pub const MAX_LOG_FILES: u32 = 5;

#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    max_bytes: u64,
}

impl LogFile {
    /// The log of one start of a container. Logs of starts before the previous one are removed.
    pub(crate) fn create(directory: &Path, restart_count: u32) -> io::Result<Self> {
        make_dir(directory, PRIVATE_DIR)?;
        forget_old_starts(directory, restart_count)?;
        Self::open(directory.join(format!("{restart_count}.log")), MAX_LOG_BYTES)
    }

    /// Goes on with a log that holds `length` bytes of whole lines; what is behind them was not finished.
    pub(crate) fn resume(directory: &Path, restart_count: u32, length: u64) -> io::Result<Self> {
        make_dir(directory, PRIVATE_DIR)?;
        let mut log = Self::open(directory.join(format!("{restart_count}.log")), MAX_LOG_BYTES)?;
        if log.written > length {
            log.file.set_len(length)?;
            log.written = length;
        }
        Ok(log)
    }

    fn open(path: PathBuf, max_bytes: u64) -> io::Result<Self> {
        let file = append_private(&path)?;
        let written = file.metadata()?.len();
        Ok(Self { path, file, written, max_bytes })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn length(&self) -> u64 {
        self.written
    }

    /// These lines would take the file over its limit.
    pub(crate) fn is_full_for(&self, lines: &[u8]) -> bool {
        self.written > 0 && self.written + lines.len() as u64 > self.max_bytes
    }

    /// Writes whole framed lines, all of them or, when the disk takes no more, none.
    pub(crate) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(lines) {
            // Half a line would spoil the next one.
            self.file.set_len(self.written)?;
            return Err(error);
        }
        self.written += lines.len() as u64;
        Ok(())
    }

    /// Puts the file aside and begins another one. In between, when none is there, `begun_anew` is called.
    pub(crate) fn rotate(&mut self, begun_anew: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        // A predecessor that was killed in here has left a gap, which is filled before anything is pushed out.
        let gap = (1..MAX_LOG_FILES - 1).find(|number| !rotated(&self.path, *number).exists());
        for number in (0..gap.unwrap_or(MAX_LOG_FILES - 1)).rev() {
            let from = rotated(&self.path, number);
            match fs::rename(&from, rotated(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        begun_anew()?;
        *self = Self::open(self.path.clone(), self.max_bytes)?;
        Ok(())
    }
}

/// The path of the `number`th file put aside; 0 is the one that is written.
pub fn rotated(path: &Path, number: u32) -> PathBuf {
    if number == 0 { path.to_owned() } else { path.with_extension(format!("log.{number}")) }
}

/// `kubectl logs --previous` needs the start before this one, nothing needs those before it.
fn forget_old_starts(directory: &Path, restart_count: u32) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let start: Option<u32> = name.to_str().and_then(|name| name.split('.').next()?.parse().ok());
        if start.is_some_and(|start| start + 1 < restart_count) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_only_the_newest_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut log = LogFile::open(directory.path().join("0.log"), 10).expect("a file");
        for number in 0..12 {
            let line = format!("{number:04}\n");
            if log.is_full_for(line.as_bytes()) {
                log.rotate(|| Ok(())).expect("another file");
            }
            log.write(line.as_bytes()).expect("a write");
        }
        let read = |number| fs::read_to_string(rotated(&directory.path().join("0.log"), number)).unwrap_or_default();
        let all: Vec<String> = (0..=MAX_LOG_FILES).map(read).collect();
        assert_eq!(all, ["0010\n0011\n", "0008\n0009\n", "0006\n0007\n", "0004\n0005\n", "0002\n0003\n", ""]);
    }

    #[test]
    fn a_rotation_that_was_cut_off_is_finished_without_losing_a_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.log");
        for (number, text) in [(0, "e"), (1, "d"), (2, "c"), (4, "a")] {
            fs::write(rotated(&path, number), text).expect("a file");
        }
        LogFile::open(path.clone(), 10).and_then(|mut log| log.rotate(|| Ok(()))).expect("another file");
        let read = |number| fs::read_to_string(rotated(&path, number)).unwrap_or_default();
        assert_eq!((0..MAX_LOG_FILES).map(read).collect::<Vec<_>>(), ["", "e", "d", "c", "a"]);
    }

    #[test]
    fn only_this_start_and_the_one_before_keep_their_logs() {
        let directory = tempfile::tempdir().expect("a directory");
        for restart_count in 0..4 {
            LogFile::create(directory.path(), restart_count).and_then(|mut log| log.write(b"x\n")).expect("a log");
        }
        let mut names: Vec<_> =
            fs::read_dir(directory.path()).expect("a directory").flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, ["2.log", "3.log"]);
    }
}
