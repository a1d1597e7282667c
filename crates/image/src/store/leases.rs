//! Who needs which image, as files: pods outlive the engine, and so must what they hold on to.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use super::files;
use super::{Store, StoreError};
use crate::digest::Digest;

impl Store {
    /// Keeps an image from being removed until the owner lets go. An owner is a plain word, such as a pod's uid.
    pub fn lease(&self, owner: &str, images: &[Digest]) -> Result<(), StoreError> {
        let path = self.path("leases").join(file_name(owner));
        let text = images.iter().map(Digest::to_string).collect::<Vec<_>>().join("\n");
        files::write(&path, text.as_bytes())
    }

    /// Keeps one more image for an owner, if it is still here: answers whether it is.
    pub fn lease_more(&self, owner: &str, image: &Digest) -> Result<bool, StoreError> {
        // Whoever removes images holds the index, and so either sees the lease or has removed the image.
        self.reading(|index| {
            let mut images = self.leases()?.remove(owner).unwrap_or_default();
            if !index.images.iter().any(|record| record.id == *image) {
                return Ok(false);
            }
            if !images.contains(image) {
                images.push(image.clone());
                self.lease(owner, &images)?;
            }
            Ok(true)
        })
    }

    pub fn release(&self, owner: &str) -> Result<(), StoreError> {
        let path = self.path("leases").join(file_name(owner));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Every owner with what it needs.
    pub fn leases(&self) -> Result<BTreeMap<String, Vec<Digest>>, StoreError> {
        let path = self.path("leases");
        let mut leases = BTreeMap::new();
        for entry in fs::read_dir(&path).map_err(StoreError::io("read", &path))? {
            let entry = entry.map_err(StoreError::io("read", &path))?;
            let owner = entry.file_name().to_string_lossy().into_owned();
            if owner.starts_with('.') {
                continue;
            }
            // Released while we look.
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            leases.insert(owner, text.lines().filter_map(|line| line.parse().ok()).collect());
        }
        Ok(leases)
    }

    pub(super) fn owner_of(&self, id: &Digest) -> Result<Option<String>, StoreError> {
        Ok(self.leases()?.into_iter().find(|(_, images)| images.contains(id)).map(|(owner, _)| owner))
    }
}

fn file_name(owner: &str) -> String {
    owner.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}
