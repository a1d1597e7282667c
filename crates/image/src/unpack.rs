//! Turns the archive of one layer into a directory that overlayfs can stack.
//!
//! The archive is not to be trusted: every entry is reached through descriptors below the layer's own directory, symbolic
//! links on the way are followed as the container would follow them and never out of it, and everything is bounded.

mod apply;
mod meta;
mod root;
mod settle;
mod whiteout;

use std::io::{self, Read};
use std::path::Path;

use crate::decompress::{Bomb, Decompressor};
use crate::digest::{Digest, HashingReader};
use crate::limits::{Budget, MAX_JUDGED_BYTES};
use crate::tar::{TarError, TarReader};
use apply::Applier;

pub(crate) use settle::settle;

/// What files of a tar archive are copied through.
const COPY_BUFFER: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("cannot read the layer")]
    Tar(#[source] TarError),
    #[error("entry `{path}` leads out of the image")]
    Escapes { path: String },
    #[error("entry `{path}`: `{what}` is no directory")]
    NotADirectory { path: String, what: String },
    #[error("entry `{path}`: more than {limit} symbolic links on the way")]
    TooManySymlinks { path: String, limit: usize },
    #[error("entry `{path}`: more than {limit} directories deep")]
    TooDeep { path: String, limit: usize },
    #[error("entry `{path}` is an unusable whiteout")]
    Whiteout { path: String },
    #[error("entry `{path}`: hard link to `{target}`, which is not in the image")]
    LinkTarget { path: String, target: String },
    #[error("{} has more than {limit} {}: limit `{name}`", whose(name), what(name))]
    Limit { name: &'static str, limit: u64 },
    #[error("layer {0}")]
    Bomb(String),
    #[error("layer does not unpack to {expected} but to {found}")]
    DiffId { expected: Digest, found: Digest },
    #[error("no space left for `{path}`: the layer takes at least {bytes} bytes")]
    DiskFull { path: String, bytes: u64 },
    #[error("cannot {act} `{path}`")]
    Io { act: &'static str, path: String, source: io::Error },
}

impl UnpackError {
    fn limit(name: &'static str, limit: u64) -> Self {
        Self::Limit { name, limit }
    }

    /// What a layer took so far, including what there was no space for.
    fn needing(self, bytes: u64) -> Self {
        match self {
            Self::DiskFull { path, .. } => Self::DiskFull { path, bytes },
            other => other,
        }
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Limit { .. } | Self::Bomb(_) => Some("no honest image is like this: ask whoever made it"),
            Self::DiffId { .. } => Some("the image contradicts itself: build and push it again"),
            _ => None,
        }
    }

    /// Whether other bytes than the right ones may be why.
    pub(crate) fn is_about_content(&self) -> bool {
        match self {
            Self::Limit { .. } | Self::Bomb(_) | Self::DiskFull { .. } | Self::Io { .. } => false,
            Self::Tar(_)
            | Self::Escapes { .. }
            | Self::NotADirectory { .. }
            | Self::TooManySymlinks { .. }
            | Self::TooDeep { .. }
            | Self::Whiteout { .. }
            | Self::LinkTarget { .. }
            | Self::DiffId { .. } => true,
        }
    }
}

/// A limit's name says whose it is and of what.
fn whose(name: &'static str) -> &'static str {
    name.split_once('_').map_or(name, |(whose, _)| whose)
}

fn what(name: &'static str) -> &'static str {
    match name.split_once('_') {
        Some((_, "names")) => "bytes of names",
        Some((_, what)) => what,
        None => name,
    }
}

/// What came of a layer, before it is known what lies below it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Directories that no entry described: below another layer they take after that layer's.
    pub(crate) implied: std::collections::BTreeSet<Vec<u8>>,
    /// Hard links to files of a layer below: the link, and its target.
    pub(crate) links: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Unpacked {
    /// Whether the directory is the same whatever layers it is put upon.
    pub(crate) fn stands_alone(&self) -> bool {
        self.implied.is_empty() && self.links.is_empty()
    }
}

/// How the machine lets us unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Owners, devices and `trusted.` attributes need root; without it the `user.` ones serve overlayfs.
    pub(crate) root: bool,
}

/// Unpacks one compressed or plain archive into the empty directory `into`, checking it against `diff_id` as it goes.
pub(crate) fn unpack<R: Read>(
    input: R,
    into: &Path,
    diff_id: &Digest,
    budget: &Budget,
    rights: Rights,
) -> Result<Unpacked, UnpackError> {
    let plain = Decompressor::new(input, budget).map_err(|error| stream_failed(TarError::Io(error)))?;
    let mut archive = TarReader::new(HashingReader::new(plain, diff_id.hasher()));
    let applied = apply_all(&mut archive, into, budget, rights);
    let mut hashed = archive.into_inner();
    match &applied {
        Ok(_) => {
            io::copy(&mut hashed, &mut io::sink()).map_err(|error| stream_failed(TarError::Io(error)))?;
        }
        // What cannot be unpacked may be something else than was asked for: that is then what to say.
        Err(error) if error.is_about_content() && read_rest(&mut hashed) => {}
        Err(_) => return applied,
    }
    let (plain, found) = hashed.into_parts();
    if found != *diff_id {
        return Err(UnpackError::DiffId { expected: diff_id.clone(), found });
    }
    plain.finish().map_err(|error| stream_failed(TarError::Io(error)))?;
    applied
}

fn apply_all<R: Read>(
    archive: &mut TarReader<R>,
    into: &Path,
    budget: &Budget,
    rights: Rights,
) -> Result<Unpacked, UnpackError> {
    let mut applier = Applier::open(into, budget, rights)?;
    let mut buffer = vec![0; COPY_BUFFER];
    while let Some(entry) = archive.next_entry().map_err(stream_failed)? {
        applier.apply(&entry, archive, &mut buffer)?;
    }
    applier.finish()
}

/// Reads what is left of something refused; whether that was all of it.
pub(crate) fn read_rest(input: &mut impl Read) -> bool {
    io::copy(&mut input.take(MAX_JUDGED_BYTES), &mut io::sink()).is_ok_and(|read| read < MAX_JUDGED_BYTES)
}

fn stream_failed(error: TarError) -> UnpackError {
    match &error {
        TarError::Io(io) => match io.get_ref().and_then(|inner| inner.downcast_ref::<Bomb>()) {
            Some(bomb) => UnpackError::Bomb(bomb.to_string()),
            None => UnpackError::Tar(error),
        },
        _ => UnpackError::Tar(error),
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// An error of the file system, told apart where the user can do something.
fn failed(act: &'static str, path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> UnpackError {
    let path = lossy(path);
    move |errno| match errno {
        rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT => UnpackError::DiskFull { path, bytes: 0 },
        errno => UnpackError::Io { act, path, source: errno.into() },
    }
}

#[cfg(test)]
mod tests;
