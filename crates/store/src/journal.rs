//! The files: two log segments that take every commit by one append and one fdatasync, and a redb file that takes
//! over what a full segment holds. The redb file holds live objects only, so churn does not make it grow; the log
//! exists because a redb commit costs several fdatasync, and a lone writer would wait for each of them.
//!
//! - `frame`: how one commit looks in a segment, and how a torn one is told from a whole one
//! - `segment`: one file of frames, written over and over
//! - `objects`: the redb file
//! - `checkpoint`: the thread that moves a full segment into it
//! - `disk`: where files come from

mod checkpoint;
mod disk;
mod frame;
mod objects;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

use checkpoint::Checkpointer;
pub(crate) use disk::{Directory, Disk, OBJECTS};
use objects::Objects;
use segment::Segment;

use crate::watch::{Event, EventKind};
use crate::{Entry, OpenError, Revision};

/// A segment that has grown beyond this is moved into the redb file: what a start after a crash reads again, at most
/// twice over.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 20;

/// The newest state of each key since some revision; none where it was deleted.
type Changes = HashMap<Arc<str>, Option<Arc<Entry>>>;

/// Every object.
pub(crate) type Live = BTreeMap<Arc<str>, Arc<Entry>>;

/// What a start finds.
pub(crate) struct Recovered {
    pub(crate) live: Live,
    pub(crate) newest: Revision,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// Nothing was stored; the next append may work.
    #[error("the disk is full")]
    Full,
    /// Whether it was stored is unknown, so nothing may follow it.
    #[error("the log is broken")]
    Broken(#[source] io::Error),
}

/// Owned by the committer.
pub(crate) struct Journal<D: Disk> {
    active: Segment<D::File>,
    /// Its changes are in the redb file, or the checkpointer is at it.
    other: Segment<D::File>,
    /// What the active segment holds.
    changes: Changes,
    newest: Revision,
    generation: u64,
    checkpointer: Checkpointer,
    /// Changes of the other segment that could not be moved yet.
    unmoved: Option<checkpoint::Job>,
    segment_bytes: u64,
}

impl<D: Disk> Journal<D> {
    pub(crate) fn open(disk: &D, segment_bytes: u64) -> Result<(Self, Recovered), OpenError> {
        // First, because it takes the lock.
        let mut objects = Objects::open(disk.clone())?;
        let (mut live, checkpoint) = objects.load()?;
        let (active, frames) = open_segment(disk, disk::LOGS[0])?;
        let (other, more_frames) = open_segment(disk, disk::LOGS[1])?;
        let frames = in_order(frames, more_frames);
        let generation = frames.last().map_or(0, |frame| frame.generation).max(checkpoint.generation);

        let mut changes = Changes::new();
        let mut newest = checkpoint.revision;
        for frame in frames.into_iter().filter(|frame| frame.last() > checkpoint.revision) {
            if frame.first != newest.next() {
                let detail = format!("the log goes from revision {newest} to {}", frame.first);
                return Err(OpenError::Corrupt { path: disk.path(disk::LOGS[0]), detail });
            }
            newest = frame.last();
            replay(frame, &mut live, &mut changes);
        }
        let live_bytes = live.values().map(|entry| entry.weight()).sum();
        let checkpoint = objects::Checkpoint { revision: newest, generation };
        let moved = if changes.is_empty() { Ok(()) } else { objects.checkpoint(&changes, checkpoint) };
        moved.and_then(|()| objects.compact_if_wasteful(live_bytes)).map_err(|error| objects.open_error(error))?;

        let journal = Self {
            active,
            other,
            changes: Changes::new(),
            newest,
            // One is skipped: a torn first frame of the next generation may lie in a segment.
            generation: generation + 2,
            checkpointer: Checkpointer::spawn(objects),
            unmoved: None,
            segment_bytes,
        };
        Ok((journal, Recovered { live, newest }))
    }

    /// On the disk once it returns. `live_bytes` is what all objects weigh, to judge the waste in the redb file.
    pub(crate) fn append(&mut self, events: &[Event], live_bytes: usize) -> Result<(), AppendError> {
        if self.active.len() > self.segment_bytes {
            self.rotate(live_bytes)?;
        }
        self.active.append(&frame::encode(self.generation, events))?;
        for event in events {
            let state = (event.kind == EventKind::Put).then(|| Arc::clone(&event.entry));
            self.changes.insert(Arc::clone(&event.entry.key), state);
            self.newest = event.revision;
        }
        Ok(())
    }

    /// Moves everything into the redb file and gives its lock back.
    pub(crate) fn close(mut self, live_bytes: usize) {
        if self.changes.is_empty() && self.unmoved.is_none() {
            return;
        }
        if self.rotate(live_bytes).and_then(|()| self.settle()).is_err() {
            tracing::warn!("The log could not be moved into the store's file; the next start reads it");
        }
    }

    /// Hands the active segment to the checkpointer and goes on in the other one.
    fn rotate(&mut self, live_bytes: usize) -> Result<(), AppendError> {
        self.settle()?;
        std::mem::swap(&mut self.active, &mut self.other);
        self.active.restart();
        let checkpoint = objects::Checkpoint { revision: self.newest, generation: self.generation };
        let changes = std::mem::take(&mut self.changes);
        self.checkpointer.submit(checkpoint::Job { changes, checkpoint, live_bytes });
        self.generation += 1;
        Ok(())
    }

    /// Waits until no segment but the active one is needed any more.
    fn settle(&mut self) -> Result<(), AppendError> {
        if let Some(job) = self.unmoved.take() {
            self.checkpointer.submit(job);
        }
        match self.checkpointer.wait() {
            Ok(()) => Ok(()),
            Err(checkpoint::Failed::Refused(refused)) => {
                let checkpoint::Refused { job, error } = *refused;
                tracing::warn!(%error, "The log could not be moved into the store's file");
                self.unmoved = Some(job);
                Err(AppendError::Full)
            }
            Err(checkpoint::Failed::Gone) => Err(AppendError::Broken(io::Error::other("the checkpointer panicked"))),
        }
    }
}

fn open_segment<D: Disk>(disk: &D, name: &'static str) -> Result<(Segment<D::File>, Vec<frame::Frame>), OpenError> {
    disk.open(name).and_then(Segment::open).map_err(|source| OpenError::Io { path: disk.path(name), source })
}

/// The frames of both segments, oldest first.
fn in_order(one: Vec<frame::Frame>, other: Vec<frame::Frame>) -> Vec<frame::Frame> {
    let generation = |frames: &[frame::Frame]| frames.first().map_or(0, |frame| frame.generation);
    let (mut older, newer) = if generation(&one) < generation(&other) { (one, other) } else { (other, one) };
    older.extend(newer);
    older
}

fn replay(frame: frame::Frame, live: &mut Live, changes: &mut Changes) {
    for (key, state) in frame.changes {
        match &state {
            Some(entry) => live.insert(Arc::clone(&key), Arc::clone(entry)),
            None => live.remove(&key),
        };
        changes.insert(key, state);
    }
}
