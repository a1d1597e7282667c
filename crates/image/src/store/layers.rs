//! Unpacked layers: made aside, put in their place when they are complete and on disk.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::files::{self, Lock, Share};
use super::{Store, StoreError};
use crate::digest::{Digest, HashingReader};
use crate::limits::Budget;
use crate::manifest::Descriptor;
use crate::unpack::{UnpackError, Unpacked, read_rest, settle, unpack};

/// What stands beside a layer's files.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    diff_id: Digest,
    bytes: u64,
    entries: u64,
}

/// A layer that is unpacked but has no place yet; dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Pending {
    directory: PathBuf,
    unpacked: Unpacked,
    diff_id: Digest,
    budget: Budget,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // What cannot be removed now is swept later.
        let _left = files::remove_tree(&self.directory);
    }
}

/// What each layer is called together with those below it.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        let next = match chain.last() {
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
            None => diff_id.clone(),
        };
        chain.push(next);
    }
    chain
}

fn keys(diff_id: &Digest, chain_id: &Digest) -> [String; 2] {
    [diff_id.hex().to_owned(), format!("{}.chain", chain_id.hex())]
}

impl Store {
    pub(super) fn layer_fs(&self, key: &str) -> PathBuf {
        self.path("layers").join(key).join("fs")
    }

    /// While it is held nothing is swept: a layer may be in its place before an image speaks of it.
    pub(crate) fn hold(&self) -> Result<Lock, StoreError> {
        files::lock(&self.path("pulls.lock"), Share::With)
    }

    /// The key of a layer that is here.
    pub(crate) fn layer(&self, diff_id: &Digest, chain_id: &Digest) -> Option<String> {
        keys(diff_id, chain_id).into_iter().find(|key| self.layer_fs(key).is_dir())
    }

    /// The right to unpack a layer; `None` while somebody else does.
    pub(crate) fn try_lock_layer(&self, diff_id: &Digest) -> Result<Option<Lock>, StoreError> {
        files::try_lock(&self.path("locks").join(diff_id.hex()))
    }

    /// Unpacks a layer, checking both of its digests; `packed` is what the manifest says of it, where there is one.
    pub(crate) fn unpack(
        &self,
        input: impl Read,
        packed: Option<&Descriptor>,
        diff_id: &Digest,
        budget: &Budget,
    ) -> Result<Pending, StoreError> {
        let directory = self.path("tmp").join(files::unique());
        let target = directory.join("fs");
        files::make_directory(&directory)?;
        let mut pending =
            Pending { directory, unpacked: Unpacked::default(), diff_id: diff_id.clone(), budget: budget.clone() };
        fs::create_dir(&target).map_err(StoreError::io("make", &target))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&target, open).map_err(StoreError::io("change mode of", &target))?;
        let hasher = packed.map_or_else(|| diff_id.hasher(), |packed| packed.digest.hasher());
        let mut input = HashingReader::new(Counted { input, bytes: 0 }, hasher);
        let unpacked = unpack(&mut input, &target, diff_id, budget, self.inner.rights);
        let all_read = match &unpacked {
            Ok(_) => true,
            // Bytes that are not the right ones are the reason for whatever else is wrong with them.
            Err(error) => packed.is_some() && error.is_about_content() && read_rest(&mut input),
        };
        if let Some(packed) = packed.filter(|_| all_read) {
            let (counted, found) = input.into_parts();
            judge(packed, found, counted.bytes)?;
        }
        pending.unpacked = unpacked.map_err(|error| self.layer_failed(diff_id, error))?;
        Ok(pending)
    }

    /// A full disk is about the store, everything else about the layer.
    fn layer_failed(&self, diff_id: &Digest, error: UnpackError) -> StoreError {
        match error {
            UnpackError::DiskFull { bytes, .. } => StoreError::DiskFull {
                act: format!("unpack layer {diff_id} into"),
                path: self.path("layers"),
                needed: Some(bytes),
            },
            source => StoreError::Layer { diff_id: diff_id.clone(), source },
        }
    }

    /// Puts a layer in its place upon `lowers`, the keys of the layers below, bottom first.
    pub(crate) fn publish(
        &self,
        pending: &mut Pending,
        chain_id: &Digest,
        lowers: &[String],
    ) -> Result<String, StoreError> {
        let target = pending.directory.join("fs");
        let alone = pending.unpacked.stands_alone();
        if !alone {
            let paths: Vec<PathBuf> = lowers.iter().map(|key| self.layer_fs(key)).collect();
            let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
            settle(&target, &mut pending.unpacked, &paths, &pending.budget, self.inner.rights)
                .map_err(|error| self.layer_failed(&pending.diff_id, error))?;
        }
        let [own, chained] = keys(&pending.diff_id, chain_id);
        let key = if alone { own } else { chained };
        let Unpacked { bytes, entries, .. } = pending.unpacked;
        let about = About { diff_id: pending.diff_id.clone(), bytes, entries };
        let text = serde_json::to_vec(&about).expect("plain data");
        files::write(&pending.directory.join("layer.json"), &text)?;
        files::sync_all_below(&pending.directory).map_err(StoreError::io("write", &pending.directory))?;
        let place = self.path("layers").join(&key);
        match fs::rename(&pending.directory, &place) {
            Ok(()) => files::sync_parent(&place).map_err(StoreError::io("write", &place))?,
            // Somebody was faster with the same layer.
            Err(_) if place.join("fs").is_dir() => {}
            Err(error) => return Err(StoreError::io("write", &place)(error)),
        }
        Ok(key)
    }

    /// Bytes of the files in a layer.
    pub(crate) fn layer_bytes(&self, key: &str) -> u64 {
        let about = fs::read(self.path("layers").join(key).join("layer.json"));
        about.ok().and_then(|text| serde_json::from_slice::<About>(&text).ok()).map_or(0, |about| about.bytes)
    }
}

/// Whether what came is what the manifest speaks of.
fn judge(packed: &Descriptor, found: Digest, bytes: u64) -> Result<(), StoreError> {
    if found != packed.digest {
        return Err(StoreError::Digest { expected: packed.digest.clone(), found });
    }
    match bytes == packed.size {
        true => Ok(()),
        false => Err(StoreError::Size { expected: found, size: packed.size, found: bytes }),
    }
}

struct Counted<R> {
    input: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.input.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}
