//! Which images are here, under which names.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::files::{self, Share};
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::reference::Reference;

const MAX_IMAGES: usize = 4096;
/// The shortest beginning of an id that counts as one.
const MIN_ID_PREFIX: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The digest of the configuration.
    pub id: Digest,
    /// The manifest of this platform, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// References with a tag, in full.
    #[serde(default)]
    pub names: BTreeSet<String>,
    /// `REPOSITORY@DIGEST`: of the index and of the manifest.
    #[serde(default)]
    pub digests: BTreeSet<String>,
    /// Directories below `layers`, bottom first.
    pub layers: Vec<String>,
    /// Bytes as they were downloaded.
    pub size: u64,
    /// Bytes of the files in the layers.
    pub unpacked: u64,
    pub pulled: Timestamp,
}

impl Record {
    pub(super) fn answers_to(&self, reference: &Reference) -> bool {
        match reference.digest() {
            Some(digest) => self.digests.contains(&reference.with_digest(digest).to_string()),
            None => self.names.contains(&reference.to_string()),
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    pub(super) images: Vec<Record>,
}

impl Index {
    pub(super) fn by_reference(&self, reference: &Reference) -> Option<&Record> {
        self.images.iter().find(|record| record.answers_to(reference))
    }

    pub(super) fn by_id(&self, text: &str) -> Result<Option<&Record>, StoreError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() < MIN_ID_PREFIX || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let found: Vec<&Record> = self.images.iter().filter(|record| record.id.hex().starts_with(hex)).collect();
        match found[..] {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            _ => Err(StoreError::Ambiguous { image: text.to_owned(), count: found.len() }),
        }
    }

    /// A name belongs to the image that took it last.
    fn put(&mut self, record: Record) -> Result<(), StoreError> {
        for other in &mut self.images {
            other.names.retain(|name| !record.names.contains(name));
        }
        let full = self.images.len() >= MAX_IMAGES;
        match self.images.iter_mut().find(|known| known.id == record.id) {
            Some(known) => {
                known.names.extend(record.names);
                known.digests.extend(record.digests);
                known.manifest = record.manifest.or(known.manifest.take());
                known.layers = record.layers;
                known.pulled = record.pulled;
            }
            None if full => return Err(StoreError::Full { limit: MAX_IMAGES }),
            None => self.images.push(record),
        }
        Ok(())
    }
}

impl Store {
    pub(super) fn index(&self) -> Result<Index, StoreError> {
        let path = self.path("index.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(StoreError::io("read", &path)(error)),
        }
    }

    /// Looks at the index while nobody else does.
    pub(super) fn reading<T>(&self, look: impl FnOnce(&Index) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _alone = files::lock(&self.path("index.lock"), Share::Alone)?;
        look(&self.index()?)
    }

    /// Changes the index, alone among all processes; an error changes nothing.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _alone = files::lock(&self.path("index.lock"), Share::Alone)?;
        let mut index = self.index()?;
        let result = change(&mut index)?;
        let text = serde_json::to_vec_pretty(&index).expect("records are plain data");
        files::write(&self.path("index.json"), &text)?;
        Ok(result)
    }

    /// Makes an image known, whose layers and blobs are here.
    pub(crate) fn commit(&self, record: Record) -> Result<(), StoreError> {
        self.change(|index| index.put(record))
    }

    /// Gives an image one more name.
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<(), StoreError> {
        self.change(|index| {
            let record = index.images.iter().find(|record| record.id == *id).cloned();
            let mut record = record.ok_or_else(|| StoreError::Unknown(id.to_string()))?;
            record.names.insert(name.to_string());
            index.put(record)
        })
    }
}
