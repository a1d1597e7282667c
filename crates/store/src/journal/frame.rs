//! One commit in a segment: length, checksum, then generation, first revision, and the changes in order.
//!
//! A power cut leaves a frame torn, or an older one in its place. The checksum tells the first, generation and
//! revision the second.

use std::sync::Arc;

use bytes::Bytes;

use crate::watch::{Event, EventKind};
use crate::{Entry, Revision};

/// Length and checksum.
const HEAD: usize = 4 + 8;
const PUT: u8 = 1;
const DELETE: u8 = 2;

#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) generation: u64,
    pub(crate) first: Revision,
    /// One per revision, from `first` on.
    pub(crate) changes: Vec<(Arc<str>, Option<Arc<Entry>>)>,
}

impl Frame {
    pub(crate) fn last(&self) -> Revision {
        Revision(self.first.0 + self.changes.len() as u64 - 1)
    }
}

/// `events` are not empty, and their revisions follow one another.
pub(crate) fn encode(generation: u64, events: &[Event]) -> Vec<u8> {
    let size: usize = events.iter().map(|event| event.entry.weight() + 32).sum();
    let mut out = Vec::with_capacity(HEAD + 20 + size);
    out.resize(HEAD, 0);
    out.extend(generation.to_le_bytes());
    out.extend(events[0].revision.0.to_le_bytes());
    for event in events {
        out.push(if event.kind == EventKind::Put { PUT } else { DELETE });
        put_slice(&mut out, event.entry.key.as_bytes());
        if event.kind == EventKind::Put {
            out.extend(event.entry.created_revision.0.to_le_bytes());
            put_slice(&mut out, &event.entry.bytes);
        }
    }
    let (head, payload) = out.split_at_mut(HEAD);
    head[..4].copy_from_slice(&length(payload).to_le_bytes());
    head[4..].copy_from_slice(&checksum(payload).to_le_bytes());
    out
}

/// The frames from the start of a segment that belong together; stops at the first that is torn or older.
pub(crate) fn decode_all(mut segment: &[u8]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    while let Some((frame, rest)) = decode(segment) {
        let follows = |last: &Frame| last.generation == frame.generation && last.last().next() == frame.first;
        if !frames.last().is_none_or(follows) {
            break;
        }
        frames.push(frame);
        segment = rest;
    }
    frames
}

fn decode(segment: &[u8]) -> Option<(Frame, &[u8])> {
    let mut head = Reader(segment);
    let length = head.u32()?;
    let expected = head.u64()?;
    let payload = head.take(length as usize)?;
    if checksum(payload) != expected {
        return None;
    }
    let mut payload = Reader(payload);
    let generation = payload.u64()?;
    let first = Revision(payload.u64()?);
    let mut changes = Vec::new();
    while !payload.0.is_empty() {
        let revision = Revision(first.0 + changes.len() as u64);
        changes.push(payload.change(revision)?);
    }
    // An empty frame is never written, but zeros would be one.
    (!changes.is_empty()).then_some((Frame { generation, first, changes }, head.0))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn slice(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn change(&mut self, revision: Revision) -> Option<(Arc<str>, Option<Arc<Entry>>)> {
        let kind = *self.take(1)?.first()?;
        let key: Arc<str> = str::from_utf8(self.slice()?).ok()?.into();
        let state = match kind {
            PUT => {
                let created = Revision(self.u64()?);
                let bytes = Bytes::copy_from_slice(self.slice()?);
                Some(Arc::new(Entry::new(Arc::clone(&key), created, revision, bytes)))
            }
            DELETE => None,
            _ => return None,
        };
        Some((key, state))
    }
}

fn put_slice(out: &mut Vec<u8>, slice: &[u8]) {
    out.extend(length(slice).to_le_bytes());
    out.extend(slice);
}

fn length(slice: &[u8]) -> u32 {
    u32::try_from(slice.len()).expect("a commit is bounded far below 4 GiB")
}

/// Finds torn writes and flipped bits, not malice: eight bytes at a time, multiplied and folded.
fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let wide = u128::from(hash ^ word) * u128::from(PRIME);
        ((wide >> 64) as u64 ^ wide as u64).wrapping_add(PRIME)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64 ^ PRIME, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(hash, u64::from_le_bytes(last))
}
