//! One pass over the files of one log: oldest first, then the newest for as long as it grows.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use sluice_pod::supervisor::log_file::{MAX_LOG_FILES, rotated};
use tokio::sync::mpsc::Sender;

use super::{LogOptions, LogSource};

/// How soon new lines are seen.
const POLL: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 64 * 1024;
/// `--tail` looks back no further than this into each file.
const MAX_TAIL_BYTES: u64 = 10 << 20;

/// What comes after everything that the log of one start holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// Perhaps more, perhaps another start.
    More,
    /// Another start has begun.
    Start(u32),
    Nothing,
}

pub(super) struct Reading<L> {
    /// The container's logs, one for each start.
    directory: PathBuf,
    start: u32,
    path: PathBuf,
    format: Format,
    follow: bool,
    tail_lines: Option<u64>,
    /// Bytes that may still be sent.
    left: u64,
    /// What comes after the log of a start.
    ahead: L,
}

/// Which lines, and how each is shown.
#[derive(Debug, Clone)]
struct Format {
    timestamps: bool,
    since: Option<Timestamp>,
    only: Option<&'static [u8]>,
    /// The line before was a partial one: what follows belongs to it.
    continued: bool,
}

impl<L: Fn(u32) -> Ahead + Send> Reading<L> {
    pub(super) fn new(directory: PathBuf, start: u32, options: &LogOptions, ahead: L) -> Self {
        let only = options.only.map(|source| match source {
            LogSource::Stdout => &b"stdout"[..],
            LogSource::Stderr => &b"stderr"[..],
        });
        Self {
            path: log_of(&directory, start),
            directory,
            start,
            format: Format { timestamps: options.timestamps, since: options.since, only, continued: false },
            follow: options.follow,
            tail_lines: options.tail_lines,
            left: options.limit_bytes.unwrap_or(u64::MAX),
            ahead,
        }
    }

    pub(super) async fn run(&mut self, out: &Sender<io::Result<Bytes>>) {
        if let Err(error) = self.copy(out).await {
            // The reader may be gone already, and then nobody cares.
            let _nobody = out.send(Err(error)).await;
        }
    }

    async fn copy(&mut self, out: &Sender<io::Result<Bytes>>) -> io::Result<()> {
        let mut files = existing(&self.path)?;
        if let Some(lines) = self.tail_lines {
            files = skip_to_tail(files, lines)?;
        }
        let (mut file, mut rest) = (files.pop_front(), Vec::new());
        loop {
            // Looked at before reading: what is written until the writer ends is read for sure.
            let ahead = if self.follow { (self.ahead)(self.start) } else { Ahead::Nothing };
            while let Some(open) = &mut file
                && self.read(open, &mut rest, out).await?
            {
                if self.left == 0 {
                    return Ok(());
                }
            }
            let next = files.pop_front().map_or_else(|| next(&self.path, file.as_ref()), |next| Ok(Some(next)))?;
            match (next, ahead) {
                (Some(next), _) => file = Some(next),
                (None, Ahead::Start(start)) => {
                    self.begin(start);
                    (file, rest) = (None, Vec::new());
                }
                (None, Ahead::More) if !out.is_closed() => tokio::time::sleep(POLL).await,
                (None, Ahead::More | Ahead::Nothing) => return Ok(()),
            }
        }
    }

    fn begin(&mut self, start: u32) {
        self.start = start;
        self.path = log_of(&self.directory, start);
        self.format.continued = false;
    }

    /// Sends some lines; false at the present end of the file.
    async fn read(&mut self, file: &mut File, rest: &mut Vec<u8>, out: &Sender<io::Result<Bytes>>) -> io::Result<bool> {
        let before = rest.len();
        rest.resize(before + READ_BYTES, 0);
        let length = file.read(&mut rest[before..])?;
        rest.truncate(before + length);
        if length == 0 {
            return Ok(false);
        }
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(true) };
        let mut text = Vec::with_capacity(end);
        rest[..end].split(|byte| *byte == b'\n').for_each(|line| self.format.show(line, &mut text));
        rest.drain(..=end);
        text.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= text.len() as u64;
        if !text.is_empty() && out.send(Ok(text.into())).await.is_err() {
            self.left = 0;
        }
        Ok(true)
    }
}

impl Format {
    fn show(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(stream), Some(tag), content) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return;
        };
        if self.only.is_some_and(|only| only != stream) || !self.is_recent(time) {
            return;
        }
        if self.timestamps && !self.continued {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(content.unwrap_or_default());
        self.continued = tag == b"P";
        if !self.continued {
            out.push(b'\n');
        }
    }

    fn is_recent(&self, time: &[u8]) -> bool {
        let Some(since) = self.since else { return true };
        let time: Option<Timestamp> = std::str::from_utf8(time).ok().and_then(|time| time.parse().ok());
        time.is_none_or(|time| time >= since)
    }
}

/// The files of a log, oldest first.
fn existing(path: &Path) -> io::Result<VecDeque<File>> {
    let mut files = VecDeque::new();
    for number in (0..MAX_LOG_FILES).rev() {
        match File::open(rotated(path, number)) {
            Ok(file) => files.push_back(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

fn log_of(directory: &Path, start: u32) -> PathBuf {
    directory.join(format!("{start}.log"))
}

/// The file after this one, if it has been put aside by now; the first one after none.
fn next(path: &Path, file: Option<&File>) -> io::Result<Option<File>> {
    let Some(file) = file else { return Ok(existing(path)?.pop_front()) };
    let inode = file.metadata()?.ino();
    let mut later = existing(path)?;
    while let Some(candidate) = later.pop_front() {
        if candidate.metadata()?.ino() == inode {
            return Ok(later.pop_front());
        }
    }
    // It was removed while we read it: go on with the oldest that is left.
    Ok(existing(path)?.pop_front())
}

/// Leaves only the files, and of the first one only the part, that hold the last lines.
fn skip_to_tail(mut files: VecDeque<File>, lines: u64) -> io::Result<VecDeque<File>> {
    let mut kept = VecDeque::new();
    let mut wanted = lines;
    while let Some(mut file) = files.pop_back() {
        let length = file.seek(SeekFrom::End(0))?;
        let from = length.saturating_sub(MAX_TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let (start, found) = tail_start(&text, wanted);
        file.seek(SeekFrom::Start(from + start as u64))?;
        kept.push_front(file);
        wanted -= found;
        if wanted == 0 {
            break;
        }
    }
    Ok(kept)
}

/// Where the last `wanted` whole lines begin, and how many there are. Partial lines belong to the one that ends them.
fn tail_start(text: &[u8], wanted: u64) -> (usize, u64) {
    let (mut start, mut found) = (text.len(), 0);
    let mut end = text.len();
    while end > 0 {
        let line_start = text[..end - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let is_partial = text[line_start..end].splitn(4, |byte| *byte == b' ').nth(2) == Some(b"P");
        if !is_partial {
            if found == wanted {
                break;
            }
            found += 1;
        }
        start = line_start;
        end = line_start;
    }
    (start, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("2026-01-01T00:00:00.000000000Z {line}\n")).collect()
    }

    async fn check(files: &[(&str, &[&str])], options: LogOptions, expected: &str) {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, lines) in files {
            std::fs::write(directory.path().join(name), log(lines)).expect("a file");
        }
        let (send, mut receive) = tokio::sync::mpsc::channel(64);
        Reading::new(directory.path().to_owned(), 0, &options, |_| Ahead::Nothing).run(&send).await;
        drop(send);
        let mut text = Vec::new();
        while let Some(chunk) = receive.recv().await {
            text.extend_from_slice(&chunk.expect("a chunk"));
        }
        assert_eq!(String::from_utf8_lossy(&text), expected, "{options:?}");
    }

    #[tokio::test]
    async fn logs_are_cut_and_shown_as_asked() {
        let files: &[(&str, &[&str])] = &[
            ("0.log.1", &["stdout F one", "stderr F two"]),
            ("0.log", &["stdout P thr", "stdout F ee", "stdout F ", "stdout F four five"]),
        ];
        let options = LogOptions::default;
        check(files, options(), "one\ntwo\nthree\n\nfour five\n").await;
        check(files, LogOptions { tail_lines: Some(3), ..options() }, "three\n\nfour five\n").await;
        check(files, LogOptions { tail_lines: Some(4), ..options() }, "two\nthree\n\nfour five\n").await;
        check(files, LogOptions { tail_lines: Some(0), ..options() }, "").await;
        check(files, LogOptions { tail_lines: Some(99), ..options() }, "one\ntwo\nthree\n\nfour five\n").await;
        check(files, LogOptions { limit_bytes: Some(6), ..options() }, "one\ntw").await;
        check(files, LogOptions { only: Some(LogSource::Stderr), ..options() }, "two\n").await;
        check(&[], options(), "").await;
    }

    #[tokio::test]
    async fn a_follower_goes_on_with_the_next_start_and_ends_with_the_last() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, lines: &[&str]| std::fs::write(directory.path().join(name), log(lines));
        write("0.log", &["stdout F one", "stdout P cut"]).expect("a file");
        write("2.log", &["stdout F three"]).expect("a file");
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let (send, mut receive) = tokio::sync::mpsc::channel(64);
        // The second start has left no log.
        let ahead = |start| if start < 2 { Ahead::Start(start + 1) } else { Ahead::Nothing };
        Reading::new(directory.path().to_owned(), 0, &options, ahead).run(&send).await;
        drop(send);
        let mut text = Vec::new();
        while let Some(chunk) = receive.recv().await {
            text.extend_from_slice(&chunk.expect("a chunk"));
        }
        assert_eq!(String::from_utf8_lossy(&text), "one\ncutthree\n");
    }

    #[tokio::test]
    async fn times_are_shown_and_compared() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "2026-01-01T00:00:01.000000000Z stdout F one\n2026-01-01T00:00:02.000000000Z stdout P tw\n\
                    2026-01-01T00:00:02.100000000Z stdout F o\n";
        std::fs::write(directory.path().join("0.log"), text).expect("a file");
        let read = async |options: LogOptions| {
            let (send, mut receive) = tokio::sync::mpsc::channel(64);
            Reading::new(directory.path().to_owned(), 0, &options, |_| Ahead::Nothing).run(&send).await;
            receive
                .recv()
                .await
                .map(|chunk| String::from_utf8_lossy(&chunk.expect("a chunk")).into_owned())
                .unwrap_or_default()
        };
        let since = "2026-01-01T00:00:02Z".parse().ok();
        assert_eq!(read(LogOptions { since, ..LogOptions::default() }).await, "two\n");
        let shown = "2026-01-01T00:00:01.000000000Z one\n2026-01-01T00:00:02.000000000Z two\n";
        assert_eq!(read(LogOptions { timestamps: true, ..LogOptions::default() }).await, shown);
    }
}
