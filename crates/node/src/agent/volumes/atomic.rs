//! Writes a volume of files so that a reader sees the old set or the new one, never a mixture.
//!
//! The files lie in a directory of their own, `..data` points to it, and the visible names are links through `..data`:
//! replacing that one link replaces everything at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, symlink},
    path::{Component, Path},
};

use jiff::Timestamp;

use super::ownership::{give_read_only, readable};

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
const DIRECTORY_MODE: u32 = 0o755;

/// The files of a volume by their path in it.
pub(super) type Payload = BTreeMap<String, File>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
}

/// Makes the volume hold exactly this, readable by a group if there is one; whether anything had to be written.
pub(super) fn write(volume: &Path, payload: &Payload, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    payload.keys().try_for_each(|path| check(path))?;
    make_dir(volume)?;
    let old = fs::read_link(volume.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| holds(&volume.join(old), payload, group)) {
        return Ok(false);
    }
    let name = format!("..{}", now.as_nanosecond());
    let directory = volume.join(&name);
    for (path, file) in payload {
        let path = directory.join(path);
        path.parent().map_or(Ok(()), make_dir)?;
        fs::write(&path, &file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    make_dir(&directory)?;
    if let Some(group) = group {
        give_read_only(&directory, group)?;
        chown(volume, None, Some(group))?;
    }
    let _left_by_a_crash = fs::remove_file(volume.join(NEW_DATA));
    symlink(&name, volume.join(NEW_DATA))?;
    fs::rename(volume.join(NEW_DATA), volume.join(DATA))?;
    link_names(volume, payload)?;
    match old {
        Some(old) => fs::remove_dir_all(volume.join(old)).map(|()| true),
        None => Ok(true),
    }
}

/// Links the first component of every path through `..data`, and forgets names that are gone.
fn link_names(volume: &Path, payload: &Payload) -> io::Result<()> {
    let names: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = entry.file_type()?.is_symlink() && !name.to_string_lossy().starts_with("..");
        if ours && !names.contains(&*name.to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Paths stay in the volume and out of our own names.
fn check(path: &str) -> io::Result<()> {
    let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if path.is_empty() || !plain || path.starts_with("..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("invalid path \"{path}\"")));
    }
    Ok(())
}

fn holds(directory: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let same = |(path, file): (&String, &File)| {
        let wanted = group.map_or(file.mode, |_| readable(file.mode));
        let path = directory.join(path);
        let mode = fs::metadata(&path).map(|metadata| metadata.permissions().mode() & 0o7777);
        mode.is_ok_and(|mode| mode == wanted) && fs::read(&path).is_ok_and(|content| content == file.content)
    };
    count(directory) == Some(payload.len()) && payload.iter().all(same)
}

/// How many files lie below; `None` if that cannot be told.
fn count(directory: &Path) -> Option<usize> {
    let mut files = 0;
    for entry in fs::read_dir(directory).ok()? {
        let entry = entry.ok()?;
        files += if entry.file_type().ok()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Some(files)
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        let file = |content: &str, mode| File { content: content.as_bytes().to_vec(), mode };
        files.iter().map(|(path, content, mode)| ((*path).to_owned(), file(content, *mode))).collect()
    }

    /// The visible names and what they say.
    fn read(volume: &Path) -> String {
        let mut names: Vec<_> =
            fs::read_dir(volume).expect("a volume").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        let visible = names.iter().map(|name| name.to_string_lossy()).filter(|name| !name.starts_with(".."));
        let show = |name: std::borrow::Cow<'_, str>| {
            let path = volume.join(&*name);
            let mode = fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
            format!("{name}={}:{mode:o}", fs::read_to_string(&path).unwrap_or_else(|_| "dir".to_owned()))
        };
        visible.map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_volume_follows_its_source() {
        let directory = tempfile::tempdir().expect("a directory");
        let volume = directory.path().join("v");
        let mut time = Timestamp::UNIX_EPOCH;
        let mut write = |files: &[(&str, &str, u32)]| {
            time += std::time::Duration::from_nanos(1);
            write(&volume, &payload(files), None, time).expect("a write")
        };
        assert!(write(&[("a", "1", 0o644), ("d/e", "2", 0o400)]));
        assert_eq!(read(&volume), "a=1:644 d=dir:755");
        assert!(!write(&[("a", "1", 0o644), ("d/e", "2", 0o400)]), "nothing changed");
        assert!(write(&[("a", "3", 0o600), ("b", "4", 0o644)]));
        assert_eq!(read(&volume), "a=3:600 b=4:644");
        assert!(write(&[]));
        assert_eq!(read(&volume), "");
        let hidden = fs::read_dir(&volume).expect("a volume").count();
        assert_eq!(hidden, 2, "the link and the one directory behind it");
    }

    #[test]
    fn paths_cannot_leave_the_volume() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in ["../up", "/etc/passwd", "a/../../b", "", "..data", "..x"] {
            let error =
                write(directory.path(), &payload(&[(path, "x", 0o644)]), None, Timestamp::UNIX_EPOCH).expect_err(path);
            assert_eq!(error.to_string(), format!("invalid path \"{path}\""));
        }
    }

    #[test]
    fn a_reader_never_sees_a_mixed_set() {
        let directory = tempfile::tempdir().expect("a directory");
        let volume = directory.path().join("v");
        let set = |number: u32| {
            let text = number.to_string();
            payload(&[("one", &text, 0o644), ("two", &text, 0o644)])
        };
        write(&volume, &set(0), None, Timestamp::UNIX_EPOCH).expect("a write");
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    // One look through `..data`, as a careful reader takes it.
                    let Ok(data) = fs::canonicalize(volume.join(DATA)) else { continue };
                    let pair = (fs::read_to_string(data.join("one")), fs::read_to_string(data.join("two")));
                    if let (Ok(one), Ok(two)) = pair {
                        assert_eq!(one, two);
                    }
                }
            });
            for number in 1..200 {
                let time = Timestamp::from_nanosecond(i128::from(number)).expect("a time");
                write(&volume, &set(number), None, time).expect("a write");
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
