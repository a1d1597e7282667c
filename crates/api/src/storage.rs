//! The store, seen from the API: objects of kinds instead of keys and bytes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluice_schema::Kind;
use sluice_store::{Entry, Expect, ListError, Page, Revision, Store, Watch, WatchError, Write, WriteError};

use crate::object::{Encoded, Object};
use crate::refusal::{Named, Refusal};

/// How long a read waits for a revision that has not been reached.
const REVISION_WAIT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub(crate) struct Storage {
    store: Store,
}

/// The place of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) String);

/// A new state of an object, to be stored together with another one's.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) from: Revision,
    pub(crate) object: Value,
}

impl Change {
    fn write(self) -> Write {
        put(self.key, Expect::Revision(self.from), &self.object)
    }
}

fn put(key: Key, expect: Expect, object: &Value) -> Write {
    let encoded = Encoded::of(object);
    Write::put(key.0, expect, move |revision| encoded.at(revision.0))
}

/// All objects of a kind, or those in one namespace: a prefix that ends with `/`.
pub(crate) fn scope(kind: &Kind, namespace: &str) -> String {
    let (group, plural) = storage_names(kind);
    match namespace {
        "" => format!("/{group}/{plural}/"),
        namespace => format!("/{group}/{plural}/{namespace}/"),
    }
}

/// Where a kind is kept. Events of both groups are one collection.
fn storage_names(kind: &Kind) -> (&str, &str) {
    match (kind.group.as_str(), kind.plural.as_str()) {
        ("" | "events.k8s.io", "events") => ("core", "events"),
        ("", plural) => ("core", plural),
        (group, plural) => (group, plural),
    }
}

impl Key {
    pub(crate) fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        Self(format!("{}{name}", scope(kind, if kind.namespaced { namespace } else { "" })))
    }
}

impl Storage {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.store.get(&key.0)
    }

    pub(crate) fn get_by(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.get(&Key::new(kind, namespace, name))
    }

    pub(crate) fn progress(&self) -> Revision {
        self.store.progress()
    }

    pub(crate) fn list(
        &self,
        scope: &str,
        after: Option<&str>,
        limit: Option<usize>,
        at: Option<Revision>,
    ) -> Result<Page, ListError> {
        self.store.list(scope, after, limit, at)
    }

    /// Everything of a scope, now.
    pub(crate) fn all(&self, scope: &str) -> Vec<Arc<Entry>> {
        self.store.list(scope, None, None, None).map(|page| page.entries).unwrap_or_default()
    }

    pub(crate) fn watch(&self, scope: &str, after: Revision) -> Result<Watch, WatchError> {
        self.store.watch(scope, after)
    }

    pub(crate) async fn create(
        &self,
        kind: &Kind,
        key: &Key,
        name: &str,
        object: &Value,
    ) -> Result<Arc<Entry>, Refusal> {
        let write = put(key.clone(), Expect::Absent, object);
        self.store.commit(write).await.map_err(|error| match error {
            WriteError::Exists { entry } => exists(kind, name, &entry),
            other => refused(other),
        })
    }

    /// Creates an object and changes others in one commit. `None`: somebody else was faster with one of those.
    pub(crate) async fn create_with(
        &self,
        kind: &Kind,
        key: &Key,
        object: &Value,
        changes: Vec<Change>,
    ) -> Result<Option<Arc<Entry>>, Refusal> {
        match self.commit_with(changes, put(key.clone(), Expect::Absent, object)).await {
            Err(WriteError::Exists { entry }) => Err(exists(kind, object.name(), &entry)),
            other => raced(other),
        }
    }

    /// Replaces an object and changes others in one commit. `None`: somebody else was faster with one of them.
    pub(crate) async fn replace_with(
        &self,
        key: &Key,
        from: Revision,
        object: &Value,
        changes: Vec<Change>,
    ) -> Result<Option<Arc<Entry>>, Refusal> {
        raced(self.commit_with(changes, put(key.clone(), Expect::Revision(from), object)).await)
    }

    async fn commit_with(&self, changes: Vec<Change>, write: Write) -> Result<Arc<Entry>, WriteError> {
        let writes = changes.into_iter().map(Change::write).chain([write]).collect();
        let mut entries = self.store.commit_all(writes).await.map_err(|(_, error)| error)?;
        Ok(entries.pop().expect("every write makes an entry"))
    }

    /// `None`: somebody else was faster.
    pub(crate) async fn replace(
        &self,
        key: &Key,
        from: Revision,
        object: &Value,
    ) -> Result<Option<Arc<Entry>>, Refusal> {
        raced(self.store.commit(put(key.clone(), Expect::Revision(from), object)).await)
    }

    /// Removes an object; watchers see `last` as its final state. `None`: somebody else was faster.
    pub(crate) async fn remove(&self, key: &Key, from: Revision, last: &Value) -> Result<Option<Arc<Entry>>, Refusal> {
        let encoded = Encoded::of(last);
        raced(self.store.commit(Write::delete(key.0.clone(), Expect::Revision(from), move |r| encoded.at(r.0))).await)
    }

    /// Waits a little for a revision of the future, then refuses.
    pub(crate) async fn reach(&self, asked: u64) -> Result<(), Refusal> {
        if self.progress().0 >= asked {
            return Ok(());
        }
        let reached = async {
            let mut watch = self.store.watch("/", self.progress()).ok()?;
            while watch.next().await.ok()?.revision.0 < asked {}
            Some(())
        };
        match tokio::time::timeout(REVISION_WAIT, reached).await {
            Ok(Some(())) => Ok(()),
            _ => Err(Refusal::RevisionTooLarge { asked, current: self.progress().0 }),
        }
    }
}

/// The refusal of a create whose name is taken.
pub(crate) fn exists(kind: &Kind, name: &str, entry: &Entry) -> Refusal {
    let named = Named::of(kind, name);
    if entry.value().being_deleted() { Refusal::BeingDeleted(named) } else { Refusal::AlreadyExists(named) }
}

fn raced(result: Result<Arc<Entry>, WriteError>) -> Result<Option<Arc<Entry>>, Refusal> {
    match result {
        Ok(entry) => Ok(Some(entry)),
        Err(WriteError::Conflict { .. } | WriteError::Missing) => Ok(None),
        Err(other) => Err(refused(other)),
    }
}

fn refused(error: WriteError) -> Refusal {
    match error {
        WriteError::Closed => Refusal::ServiceUnavailable("the server is shutting down".into()),
        // The disk is full, or failed: said as it is, because only who runs the server can help.
        other => Refusal::Internal(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_is_a_server_error_that_says_so() {
        let broken = WriteError::Broken { cause: "Input/output error (os error 5)".into() };
        let cases = [
            (WriteError::Full, 500, "Internal error occurred: the disk is full"),
            (
                broken,
                500,
                "Internal error occurred: the disk failed, so nothing is written until the next start: \
                 Input/output error (os error 5)",
            ),
            (WriteError::Closed, 503, "the server is shutting down"),
        ];
        for (error, code, message) in cases {
            let refusal = raced(Err(error)).expect_err("nothing was stored");
            assert_eq!((refusal.code(), refusal.message().as_str()), (code, message));
        }
    }
}
