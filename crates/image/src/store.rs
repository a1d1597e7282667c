//! Images on disk, by digest: what was pulled, unpacked once, and who needs it.
//!
//! ```text
//! index.json          the images and their names; replaced as a whole, under `index.lock`
//! blobs/sha256/HEX    manifests and configurations
//! layers/KEY/fs       an unpacked layer, made for overlayfs; KEY is its diff id, or its chain id where it depends on those below
//! leases/OWNER        an image that somebody needs; read by whoever removes
//! locks/KEY           held by whoever unpacks that layer
//! tmp/                what is not finished; swept when nobody pulls
//! ```
//!
//! Several processes may use one store: an engine, and commands of its user. Every change is a rename after its content is
//! on disk, so a reader sees it whole or not at all, also after a power cut.

mod collect;
mod files;
mod index;
mod layers;
mod leases;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::digest::Digest;
use crate::limits::{Budget, Limits};
use crate::manifest::{ImageConfig, ManifestError};
use crate::reference::Reference;
use crate::unpack::{Rights, UnpackError};

pub use collect::{Collected, Policy};
pub(crate) use files::Lock;
pub use index::Record;
pub(crate) use layers::{Pending, chain_ids};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {act} `{}`", path.display())]
    Io { act: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` is damaged", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("the disk is full: no space left to {act} `{}`{}", path.display(), at_least(*needed))]
    DiskFull { act: String, path: PathBuf, needed: Option<u64> },
    #[error("wrong digest: content is not {expected} but {found}")]
    Digest { expected: Digest, found: Digest },
    #[error("content of {expected} has {found} bytes instead of {size}")]
    Size { expected: Digest, size: u64, found: u64 },
    #[error("image `{image}` is needed by {owner}")]
    InUse { image: String, owner: String },
    #[error("`{image}` may be any of {count} images")]
    Ambiguous { image: String, count: usize },
    #[error("no image `{0}`")]
    Unknown(String),
    #[error("the store holds {limit} images: remove some")]
    Full { limit: usize },
    #[error("configuration {id}")]
    Config { id: Digest, source: ManifestError },
    #[error("layer {diff_id}")]
    Layer { diff_id: Digest, source: UnpackError },
}

impl StoreError {
    pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { act: act.to_owned(), path, needed: None }
            }
            _ => Self::Io { act, path, source },
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DiskFull { .. } => {
                Some("make room, perhaps with `sluice image rm`, or name a larger disk with `--data DIR`")
            }
            Self::Full { .. } => Some("remove images with `sluice image rm`"),
            Self::InUse { .. } => Some("delete the pod first, or pass `--force`"),
            Self::Ambiguous { .. } => Some("give more of the id: `sluice image inspect NAME` shows it whole"),
            Self::Digest { .. } | Self::Size { .. } => {
                Some("what serves the image changed it or lost a part of it: push it again, or ask another registry")
            }
            Self::Damaged { .. } => Some("move the file away and pull the images again"),
            Self::Layer { source, .. } => source.hint(),
            Self::Io { .. } | Self::Unknown(_) | Self::Config { .. } => None,
        }
    }
}

fn at_least(needed: Option<u64>) -> String {
    needed.map(|bytes| format!(", which takes at least {bytes} bytes")).unwrap_or_default()
}

/// An image that is here, ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub record: Record,
    pub config: ImageConfig,
    /// Unpacked and read-only, bottom first, whiteouts as overlayfs wants them.
    pub layers: Vec<PathBuf>,
}

impl Image {
    /// `sha256:…` of the configuration.
    pub fn id(&self) -> &Digest {
        &self.record.id
    }

    /// What a pod's status shows: the digest in the repository that the name speaks of, or the image's own id.
    pub fn status_id(&self, name: &Reference) -> String {
        let repository = format!("{}@", name.name());
        let known = self.record.digests.iter().find(|digest| digest.starts_with(&repository));
        known.cloned().unwrap_or_else(|| self.record.id.to_string())
    }
}

/// The images of one directory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: Limits,
    rights: Rights,
}

impl Store {
    /// Opens the store in a directory, making it where it is missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::with_limits(root, Limits::default())
    }

    pub fn with_limits(root: impl Into<PathBuf>, limits: Limits) -> Result<Self, StoreError> {
        let rights = Rights { root: rustix::process::geteuid().is_root() };
        let store = Self { inner: Arc::new(Inner { root: root.into(), limits, rights }) };
        for directory in ["", "blobs", "layers", "leases", "locks", "tmp"] {
            files::make_directory(&store.path(directory))?;
        }
        // What cannot be taken away stands in nobody's way.
        if let Err(error) = store.sweep_if_idle() {
            tracing::warn!(%error, "Remains of pulls not removed");
        }
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// For the layers of one image.
    pub(crate) fn budget(&self) -> Budget {
        Budget::new(self.inner.limits)
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.inner.root.clone() } else { self.inner.root.join(name) }
    }

    /// The image of a name, of an id, or of the beginning of an id.
    pub fn find(&self, text: &str) -> Result<Option<Image>, StoreError> {
        let index = self.index()?;
        let named = text.parse::<Reference>().ok().and_then(|reference| index.by_reference(&reference));
        let record = match named {
            Some(record) => Some(record),
            None => index.by_id(text)?,
        };
        record.map(|record| self.image(record.clone())).transpose()
    }

    /// The image that a reference means: by its digest where it has one, else by its name.
    pub fn get(&self, reference: &Reference) -> Result<Option<Image>, StoreError> {
        let index = self.index()?;
        index.by_reference(reference).map(|record| self.image(record.clone())).transpose()
    }

    /// All images, oldest first.
    pub fn list(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.index()?.images)
    }

    fn image(&self, record: Record) -> Result<Image, StoreError> {
        let config = ImageConfig::parse(&self.blob(&record.id)?)
            .map_err(|source| StoreError::Config { id: record.id.clone(), source })?;
        let layers = record.layers.iter().map(|key| self.layer_fs(key)).collect();
        Ok(Image { record, config, layers })
    }

    /// Notes that an image was used now: what was not used for long goes first.
    pub fn touch(&self, image: &Digest) {
        let path = self.blob_path(image);
        let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
        // A lost mark makes an image look older than it is, and nothing worse.
        let _lost = rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty());
    }

    /// When an image was last used, or pulled: a long pull writes its configuration long before its end.
    pub fn last_used(&self, record: &Record) -> Timestamp {
        let modified = fs::metadata(self.blob_path(&record.id)).and_then(|meta| meta.modified());
        let used = modified.ok().and_then(|time| Timestamp::try_from(time).ok());
        used.map_or(record.pulled, |used| used.max(record.pulled))
    }

    /// Content that was stored whole, checked again as it is read.
    pub fn blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let bytes = fs::read(&path).map_err(StoreError::io("read", &path))?;
        check(digest, &bytes)?;
        Ok(bytes)
    }

    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    pub(crate) fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        check(digest, bytes)?;
        let path = self.blob_path(digest);
        files::make_directory(path.parent().expect("below the store"))?;
        files::write(&path, bytes)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.algorithm()).join(digest.hex())
    }

    /// Takes a name, or with its last name the image, away. Answers whether the image itself is gone.
    pub fn remove(&self, text: &str, force: bool) -> Result<(Record, bool), StoreError> {
        let image = self.find(text)?.ok_or_else(|| StoreError::Unknown(text.to_owned()))?;
        let id = image.record.id.clone();
        let name = text.parse::<Reference>().ok().filter(|name| image.record.answers_to(name)).map(|r| r.to_string());
        let gone = self.change(|index| {
            let Some(record) = index.images.iter_mut().find(|record| record.id == id) else { return Ok(false) };
            let last = record.names.iter().all(|other| Some(other) == name.as_ref());
            if name.is_some() && !last {
                record.names.retain(|other| Some(other) != name.as_ref());
                return Ok(false);
            }
            if let Some(owner) = self.owner_of(&id)?.filter(|_| !force) {
                return Err(StoreError::InUse { image: text.to_owned(), owner });
            }
            index.images.retain(|record| record.id != id);
            Ok(true)
        })?;
        if gone {
            self.sweep_if_idle()?;
        }
        Ok((image.record, gone))
    }
}

fn check(digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
    if digest.verify(bytes) {
        return Ok(());
    }
    Err(StoreError::Digest { expected: digest.clone(), found: Digest::of(bytes) })
}

#[cfg(test)]
mod tests;
