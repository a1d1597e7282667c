//! The redb file: every live object as of some revision, and which one that is.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::disk::{Disk, OBJECTS};
use super::{Changes, Live};
use crate::{Entry, OpenError, Revision};

const LIVE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// What this program writes, and the newest it reads.
const FORMAT: u64 = 1;
/// The file is read once and then only written.
const CACHE_BYTES: usize = 4 << 20;
/// Below this a file is never worth compacting.
const SMALL_FILE: u64 = 16 << 20;
/// A file so many times as large as what is in it is wasteful. redb itself needs about 2.6.
const WASTE: u64 = 4;

/// Up to where the file goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checkpoint {
    pub(crate) revision: Revision,
    /// The newest log generation that went into it.
    pub(crate) generation: u64,
}

pub(crate) struct Objects<D: Disk> {
    disk: D,
    /// Away after an error: redb wants to be opened again then.
    database: Option<Database>,
}

impl<D: Disk> Objects<D> {
    /// Opens the file, or makes it, and takes its lock.
    pub(crate) fn open(disk: D) -> Result<Self, OpenError> {
        let mut objects = Self { disk, database: None };
        let format = objects.with_database(format).map_err(|error| objects.open_error(error))?;
        if format > FORMAT {
            return Err(OpenError::NewerFormat { path: objects.disk.path(OBJECTS), found: format, known: FORMAT });
        }
        Ok(objects)
    }

    /// Everything, and up to where it goes.
    pub(crate) fn load(&mut self) -> Result<(Live, Checkpoint), OpenError> {
        self.with_database(|database| read(database)).map_err(|error| self.open_error(error))
    }

    /// Takes the changes over; durable once it returns.
    pub(crate) fn checkpoint(&mut self, changes: &Changes, checkpoint: Checkpoint) -> Result<(), redb::Error> {
        self.with_database(|database| write(database, changes, checkpoint))
    }

    /// Gives space back when the file is much larger than what is in it.
    pub(crate) fn compact_if_wasteful(&mut self, live_bytes: usize) -> Result<(), redb::Error> {
        let before = self.size()?;
        if before < SMALL_FILE || before < WASTE * live_bytes as u64 {
            return Ok(());
        }
        self.with_database(|database| Ok(database.compact()?))?;
        tracing::info!(before, after = self.size()?, "Store file compacted");
        Ok(())
    }

    pub(crate) fn open_error(&self, error: redb::Error) -> OpenError {
        let path = self.disk.path(OBJECTS);
        match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse { path },
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => OpenError::Io { path, source },
            other => OpenError::Corrupt { path, detail: other.to_string() },
        }
    }

    fn with_database<T>(
        &mut self,
        act: impl FnOnce(&mut Database) -> Result<T, redb::Error>,
    ) -> Result<T, redb::Error> {
        let mut database = match self.database.take() {
            Some(database) => database,
            None => Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(self.disk.open(OBJECTS)?)?,
        };
        let done = act(&mut database)?;
        self.database = Some(database);
        Ok(done)
    }

    fn size(&self) -> io::Result<u64> {
        std::fs::metadata(self.disk.path(OBJECTS)).map(|file| file.len()).or(Ok(0))
    }
}

/// The file's format; a new file gets ours.
fn format(database: &mut Database) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(META) {
        Ok(meta) => Ok(meta.get("format")?.map_or(FORMAT, |found| found.value())),
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let start = Checkpoint { revision: Revision::FIRST, generation: 0 };
            write(database, &Changes::new(), start).map(|()| FORMAT)
        }
        Err(error) => Err(error.into()),
    }
}

fn read(database: &Database) -> Result<(Live, Checkpoint), redb::Error> {
    let transaction = database.begin_read()?;
    let mut live = Live::new();
    for row in transaction.open_table(LIVE)?.iter()? {
        let (key, state) = row?;
        let entry = decode(key.value(), state.value())
            .ok_or_else(|| redb::Error::Corrupted(format!("the object `{}` is cut short", key.value())))?;
        live.insert(Arc::clone(&entry.key), Arc::new(entry));
    }
    let meta = transaction.open_table(META)?;
    let number = |name| meta.get(name).map(|found| found.map_or(0, |number| number.value()));
    let checkpoint = Checkpoint { revision: Revision(number("revision")?), generation: number("generation")? };
    Ok((live, checkpoint))
}

fn write(database: &Database, changes: &Changes, checkpoint: Checkpoint) -> Result<(), redb::Error> {
    let Checkpoint { revision, generation } = checkpoint;
    let mut transaction = database.begin_write()?;
    // Saves the walk over the whole file that a start after a crash would otherwise begin with.
    transaction.set_quick_repair(true);
    {
        let mut live = transaction.open_table(LIVE)?;
        for (key, state) in changes {
            match state {
                Some(entry) => live.insert(&**key, &*encode(entry))?,
                None => live.remove(&**key)?,
            };
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("revision", revision.0)?;
        meta.insert("generation", generation)?;
    }
    Ok(transaction.commit()?)
}

fn encode(entry: &Entry) -> Vec<u8> {
    [&entry.created_revision.0.to_le_bytes()[..], &entry.revision.0.to_le_bytes()[..], &entry.bytes[..]].concat()
}

fn decode(key: &str, state: &[u8]) -> Option<Entry> {
    let (created, rest) = state.split_first_chunk::<8>()?;
    let (revision, bytes) = rest.split_first_chunk::<8>()?;
    let revision_of = |bytes| Revision(u64::from_le_bytes(bytes));
    Some(Entry::new(key.into(), revision_of(*created), revision_of(*revision), Bytes::copy_from_slice(bytes)))
}
