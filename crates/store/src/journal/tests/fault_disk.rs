//! A disk in memory that loses power and fills up.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;

use super::Disk;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct FaultDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: HashMap<&'static str, Content>,
    /// Operations until the power goes; none: it stays.
    fuse: Option<u64>,
    capacity: Option<u64>,
    operations: u64,
}

#[derive(Debug, Default)]
struct Content {
    /// What a program reads.
    seen: Vec<u8>,
    /// What is on the disk for sure.
    synced: Vec<u8>,
    /// What the disk may have done of it already, in any order.
    unsynced: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Length(usize),
    Sector { at: usize, bytes: Vec<u8> },
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Length(length) => content.resize(*length, 0),
            Self::Sector { at, bytes } => {
                content.resize(content.len().max(at + bytes.len()), 0);
                content[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
}

impl FaultDisk {
    /// The power goes after so many more writes and syncs.
    pub(super) fn cut_after(&self, operations: u64) {
        self.state().fuse = Some(operations);
    }

    pub(super) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(super) fn length(&self) -> u64 {
        self.state().files.values().map(|content| content.seen.len() as u64).sum()
    }

    /// The power comes back: of each change that was not synced, chance decides whether it is there.
    pub(super) fn restart(&self, mut survives: impl FnMut() -> bool) {
        let mut state = self.state();
        state.fuse = None;
        for content in state.files.values_mut() {
            for change in std::mem::take(&mut content.unsynced) {
                if survives() {
                    change.apply(&mut content.synced);
                }
            }
            content.seen = content.synced.clone();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }
}

impl State {
    fn burn(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.fuse {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_room(&self, name: &'static str, length: usize) -> io::Result<()> {
        let others: usize =
            self.files.iter().filter(|(other, _)| **other != name).map(|(_, file)| file.seen.len()).sum();
        let grows = length > self.files.get(name).map_or(0, |file| file.seen.len());
        match self.capacity {
            Some(capacity) if grows && (others + length) as u64 > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Disk for FaultDisk {
    type File = FaultFile;

    fn open(&self, name: &'static str) -> io::Result<FaultFile> {
        self.state().files.entry(name).or_default();
        Ok(FaultFile { disk: self.clone(), name })
    }

    fn path(&self, name: &'static str) -> PathBuf {
        name.into()
    }
}

#[derive(Debug)]
pub(super) struct FaultFile {
    disk: FaultDisk,
    name: &'static str,
}

impl FaultFile {
    fn change(&self, end: usize, changes: Vec<Change>) -> io::Result<()> {
        let mut state = self.disk.state();
        let dead = state.burn();
        state.check_room(self.name, end)?;
        let content = state.files.get_mut(self.name).expect("opened");
        for change in changes {
            // The write that the power cut meets may still get through in part.
            if dead.is_ok() {
                change.apply(&mut content.seen);
            }
            content.unsynced.push(change);
        }
        dead
    }
}

impl StorageBackend for FaultFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.name].seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let part = state.files[self.name].seen.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        self.change(length, vec![Change::Length(length)])
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.burn()?;
        let content = state.files.get_mut(self.name).expect("opened");
        for change in std::mem::take(&mut content.unsynced) {
            change.apply(&mut content.synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut changes = Vec::new();
        let mut at = offset;
        while at < offset + data.len() {
            let end = (at / SECTOR * SECTOR + SECTOR).min(offset + data.len());
            changes.push(Change::Sector { at, bytes: data[at - offset..end - offset].to_vec() });
            at = end;
        }
        self.change(offset + data.len(), changes)
    }
}
