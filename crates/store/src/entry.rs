//! One object at one revision.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use serde_json::Value;

use crate::Revision;
use crate::parsed;

/// Immutable: a later write makes another entry.
#[derive(Debug)]
pub struct Entry {
    pub key: Arc<str>,
    pub created_revision: Revision,
    pub revision: Revision,
    /// As stored: lists can be glued together from these without parsing.
    pub bytes: Bytes,
    /// A tree weighs many times its bytes: it stays only while somebody uses it, or `parsed` finds it worth keeping.
    tree: Mutex<Weak<Value>>,
}

impl Entry {
    /// An entry that stands for something outside of any store, too.
    pub fn new(key: Arc<str>, created_revision: Revision, revision: Revision, bytes: Bytes) -> Self {
        Self { key, created_revision, revision, bytes, tree: Mutex::default() }
    }

    /// The bytes as JSON; null when they are none.
    pub fn value(&self) -> Arc<Value> {
        let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = tree.upgrade() {
            return value;
        }
        let value = Arc::new(serde_json::from_slice(&self.bytes).unwrap_or_default());
        *tree = Arc::downgrade(&value);
        parsed::keep(&value, self.bytes.len());
        value
    }

    /// The bytes as JSON, to change.
    pub fn to_value(&self) -> Value {
        Arc::unwrap_or_clone(self.value())
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
