//! One object at one revision.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::Revision;

/// Immutable: a later write makes another entry.
#[derive(Debug)]
pub struct Entry {
    pub key: Arc<str>,
    pub created_revision: Revision,
    pub revision: Revision,
    /// As stored: lists can be glued together from these without parsing.
    pub bytes: Bytes,
    parsed: OnceLock<Value>,
}

impl Entry {
    pub(crate) fn new(key: Arc<str>, created_revision: Revision, revision: Revision, bytes: Bytes) -> Self {
        Self { key, created_revision, revision, bytes, parsed: OnceLock::new() }
    }

    /// The bytes as JSON, parsed on first use; null when they are none.
    pub fn value(&self) -> &Value {
        self.parsed.get_or_init(|| serde_json::from_slice(&self.bytes).unwrap_or_default())
    }

    /// What this entry weighs in the event window.
    pub(crate) fn weight(&self) -> usize {
        self.key.len() + self.bytes.len()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, self.created_revision, self.revision, &self.bytes)
            == (&other.key, other.created_revision, other.revision, &other.bytes)
    }
}
