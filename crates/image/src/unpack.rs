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
use crate::limits::Limits;
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
    #[error("layer has more than {limit} {what}: limit `{name}`")]
    Limit { name: &'static str, what: &'static str, limit: u64 },
    #[error("layer {0}")]
    Bomb(String),
    #[error("layer does not unpack to {expected} but to {found}")]
    DiffId { expected: Digest, found: Digest },
    #[error("no space left to unpack into `{path}`")]
    DiskFull { path: String },
    #[error("cannot {act} `{path}`")]
    Io { act: &'static str, path: String, source: io::Error },
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
    limits: Limits,
    rights: Rights,
) -> Result<(Unpacked, R), UnpackError> {
    let plain = Decompressor::new(input, limits).map_err(|error| stream_failed(TarError::Io(error)))?;
    let mut archive = TarReader::new(HashingReader::new(plain, diff_id.hasher()));
    let mut applier = Applier::open(into, limits, rights)?;
    let mut buffer = vec![0; COPY_BUFFER];
    while let Some(entry) = archive.next_entry().map_err(stream_failed)? {
        applier.apply(&entry, &mut archive, &mut buffer)?;
    }
    let unpacked = applier.finish()?;
    let hashed = archive.drain().map_err(stream_failed)?;
    let (plain, found) = hashed.into_parts();
    if found != *diff_id {
        return Err(UnpackError::DiffId { expected: diff_id.clone(), found });
    }
    let input = plain.finish().map_err(|error| stream_failed(TarError::Io(error)))?;
    Ok((unpacked, input))
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
        rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT => UnpackError::DiskFull { path },
        errno => UnpackError::Io { act, path, source: errno.into() },
    }
}

#[cfg(test)]
mod tests;
