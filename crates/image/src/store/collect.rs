//! Makes room: images that nobody needs go, the longest unused first, and then whatever no image speaks of.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::{Record, Store, StoreError, files};
use crate::digest::Digest;

/// When to make room and how much, as on any Kubernetes node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Nothing is removed while the disk is less full than this.
    pub high_percent: u64,
    /// How full it may be afterwards.
    pub low_percent: u64,
    /// Younger images stay.
    pub min_age: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, min_age: Duration::from_secs(120) }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub removed: Vec<Record>,
    /// Bytes that had to go and could not, because the rest is in use or young.
    pub missing: u64,
}

impl Store {
    /// Removes what no image speaks of, and unused images if the disk is too full.
    pub fn collect(&self, policy: Policy, now: Timestamp) -> Result<Collected, StoreError> {
        let disk = rustix::fs::statvfs(self.root()).map_err(|e| StoreError::io("measure", self.root())(e.into()))?;
        let capacity = disk.f_blocks * disk.f_frsize;
        let used = capacity.saturating_sub(disk.f_bavail * disk.f_frsize);
        if capacity == 0 || used * 100 / capacity < policy.high_percent {
            self.sweep_if_idle()?;
            return Ok(Collected::default());
        }
        let target = capacity / 100 * policy.low_percent;
        self.free(used.saturating_sub(target), policy.min_age, now)
    }

    /// Removes images that nobody needs until so many bytes are free; all of them for `u64::MAX`.
    pub fn free(&self, bytes: u64, min_age: Duration, now: Timestamp) -> Result<Collected, StoreError> {
        let collected = self.change(|index| {
            let needed: BTreeSet<_> = self.leases()?.into_values().flatten().collect();
            let mut candidates: Vec<(Timestamp, Record)> = index
                .images
                .iter()
                .filter(|record| !needed.contains(&record.id))
                .map(|record| (self.last_used(record), record.clone()))
                .filter(|(used, _)| now.duration_since(*used).unsigned_abs() >= min_age || *used > now)
                .collect();
            candidates.sort_by_key(|(used, _)| *used);
            let mut collected = Collected { removed: Vec::new(), missing: bytes };
            for (_, record) in candidates {
                if collected.missing == 0 {
                    break;
                }
                index.images.retain(|other| other.id != record.id);
                let kept: BTreeSet<&String> = index.images.iter().flat_map(|other| &other.layers).collect();
                let freed: u64 =
                    record.layers.iter().filter(|key| !kept.contains(key)).map(|key| self.layer_bytes(key)).sum();
                collected.missing = collected.missing.saturating_sub(freed);
                collected.removed.push(record);
            }
            Ok(collected)
        })?;
        self.sweep_if_idle()?;
        Ok(collected)
    }

    /// Removes what no image speaks of, unless somebody pulls: then the next one sweeps.
    pub(crate) fn sweep_if_idle(&self) -> Result<(), StoreError> {
        let Some(_alone) = files::try_lock(&self.path("pulls.lock"))? else { return Ok(()) };
        let index = self.index()?;
        let layers: BTreeSet<&str> = index.images.iter().flat_map(|image| &image.layers).map(String::as_str).collect();
        let blobs: BTreeSet<&str> =
            index.images.iter().flat_map(|i| [Some(&i.id), i.manifest.as_ref()]).flatten().map(Digest::hex).collect();
        let swept = [
            self.keep_only("layers", |name| layers.contains(name)),
            self.keep_only("blobs/sha256", |name| blobs.contains(name)),
            self.keep_only("blobs/sha512", |name| blobs.contains(name)),
            self.keep_only("locks", |_| false),
            self.keep_only("tmp", |_| false),
        ];
        swept.into_iter().collect()
    }

    /// What cannot be removed does not keep the rest.
    fn keep_only(&self, directory: &str, keep: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let path = self.path(directory);
        let Ok(entries) = fs::read_dir(&path) else { return Ok(()) };
        let mut result = Ok(());
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", &path))?;
            if !keep(&entry.file_name().to_string_lossy()) {
                result = result.and(self.discard(entry.path(), directory == "layers"));
            }
        }
        result
    }

    fn discard(&self, mut doomed: PathBuf, is_layer: bool) -> Result<(), StoreError> {
        if is_layer {
            // Half a layer must never stand where a whole one is looked for.
            let aside = self.path("tmp").join(files::unique());
            fs::rename(&doomed, &aside).map_err(StoreError::io("remove", &doomed))?;
            doomed = aside;
        }
        let removed = if doomed.is_dir() { files::remove_tree(&doomed) } else { fs::remove_file(&doomed) };
        removed.map_err(StoreError::io("remove", &doomed))
    }
}
