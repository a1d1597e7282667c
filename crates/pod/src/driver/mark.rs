//! The mark of a start: a file that tells whoever comes after a lost supervisor which process has become the program, if any has.
//!
//! A fork that still prepares itself looks like a process that runs, and its end like a program's. So its id is noted first, with a
//! doubt behind it, and the doubt is cut off as the last thing before the program takes over. Cutting needs neither room on the
//! disk nor anybody's leave: the file is open since before the fork, and a process may be held to writing no file at all.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

/// Stands after the id of a process that is becoming its program.
const BEGUN: &str = "\n+";
/// Stands after that for as long as the process only prepares itself.
const DOUBT: &str = "?";
const DOUBT_BYTES: u64 = DOUBT.len() as u64;
/// The longest id, and both signs.
const MAX_NOTE_BYTES: usize = 16;

#[derive(Debug)]
pub struct Mark(File);

impl Mark {
    /// Nobody has begun. Takes the place of the mark of the start before.
    pub fn new(path: &Path) -> io::Result<Self> {
        let open = || {
            let _none = fs::remove_file(path);
            File::options().create_new(true).read(true).append(true).open(path)
        };
        open().map(Self).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot make the mark of a start `{}`: {error}", path.display()))
        })
    }

    /// Says who is to become the program, by its process id. Allocates nothing.
    pub(super) fn announce(&self, process: u32) -> io::Result<()> {
        let mut note = [0; MAX_NOTE_BYTES];
        let mut rest = &mut note[..];
        // It is long enough for every number there is.
        let _written = write!(rest, "{process}{BEGUN}{DOUBT}");
        let length = MAX_NOTE_BYTES - rest.len();
        (&self.0).write_all(&note[..length])
    }

    /// For a process that speaks for itself.
    #[cfg(unix)]
    pub(super) fn announce_ourselves(&self) -> io::Result<()> {
        self.announce(std::process::id())
    }

    /// The next that the process does is to become the program.
    pub(super) fn begin(&self) -> io::Result<()> {
        self.0.set_len(self.0.metadata()?.len().saturating_sub(DOUBT_BYTES))
    }

    /// It did not.
    pub(super) fn take_back(&self) {
        let _best_effort = self.0.set_len(0);
    }

    pub fn has_begun(&self) -> bool {
        let mut file = &self.0;
        file.rewind().is_ok() && read(file).is_some()
    }
}

/// Who has begun, by the mark at this place.
pub fn begun(path: &Path) -> Option<i32> {
    read(&File::open(path).ok()?)
}

fn read(mut file: &File) -> Option<i32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.strip_suffix(BEGUN)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_who_has_begun_and_nobody_before_or_after_it_was_taken_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("web");
        fs::write(&path, "7\n+").expect("a mark of the start before");
        let mark = Mark::new(&path).expect("a mark");
        let check = |expected: Option<i32>| {
            assert_eq!((begun(&path), mark.has_begun()), (expected, expected.is_some()));
        };
        check(None);
        mark.announce(i32::MAX.cast_unsigned()).expect("a note");
        check(None);
        mark.begin().expect("a note");
        check(Some(i32::MAX));
        mark.take_back();
        check(None);
        assert!(Mark::new(&directory.path().join("none/web")).expect_err("no place").to_string().contains("none/web"));
    }
}
