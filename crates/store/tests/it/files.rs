//! Opening, refusing to open, and how much room a store takes.

use std::path::Path;

use bytes::Bytes;
use redb::TableDefinition;
use sluice_store::{Expect, OpenError, Revision, Store, WatchError, Write};

fn put(key: &str, size: usize) -> Write {
    Write::put(key, Expect::Any, move |revision| Bytes::from(format!("{revision:>size$}")))
}

fn refusal(dir: &Path) -> OpenError {
    Store::open(dir).expect_err("this cannot be opened")
}

/// What the store takes on the disk.
fn bytes_in(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn a_store_is_found_again_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut progress = Revision(1);
    for round in 0..4 {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.progress(), progress);
        assert_eq!(store.list("/core/nodes/", None, None, None).unwrap().entries, expected);
        expected.push(store.commit(put(&format!("/core/nodes/{round}"), 10)).await.unwrap());
        store.commit(put("/core/pods/passing", 10)).await.unwrap();
        store.commit(Write::delete("/core/pods/passing", Expect::Any, |_| Bytes::new())).await.unwrap();
        progress = store.progress();
        store.close().await;
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.get("/core/pods/passing"), None);
    assert_eq!(store.watch("/", Revision(2)).unwrap_err(), WatchError::Compacted { oldest: Revision(13) });
    store.close().await;
}

#[tokio::test]
async fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap().close().await;
    {
        let database = redb::Database::open(dir.path().join("store.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
        transaction.open_table(meta).unwrap().insert("format", 7).unwrap();
        transaction.commit().unwrap();
    }
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::NewerFormat { found: 7, known: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_store_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    store.close().await;
    Store::open(dir.path()).unwrap().close().await;
}

#[test]
fn what_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = refusal(&missing);
    assert!(matches!(&error, OpenError::Io { path, .. } if path.starts_with(&missing)), "{error:?}");
    std::fs::write(dir.path().join("store.redb"), "something else entirely, and longer than a header".repeat(99))
        .unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_does_not_make_the_files_grow() {
    const LIVE_BYTES: u64 = 200 * 2_048;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    by_many_writers(&store, 50_000, |n| put(&format!("/core/pods/{}", n % 200), 2_048)).await;
    // Two log segments of 8 MiB, each with room for one last commit, and the objects several times over.
    let bound = 2 * ((8 << 20) + (600 << 10)) + 16 * LIVE_BYTES;
    let taken = bytes_in(dir.path());
    assert!(taken < bound, "{taken} bytes after 100 MB of writes, {bound} were expected at most");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_that_is_no_longer_needed_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    by_many_writers(&store, 12_000, |n| put(&format!("/core/pods/{n}"), 2_048)).await;
    store.close().await;
    let store = Store::open(dir.path()).unwrap();
    by_many_writers(&store, 11_900, |n| Write::delete(format!("/core/pods/{n}"), Expect::Any, |_| Bytes::new())).await;
    store.close().await;
    let objects = dir.path().join("store.redb");
    let before = objects.metadata().unwrap().len();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.list("/", None, None, None).unwrap().entries.len(), 100);
    store.close().await;
    let after = objects.metadata().unwrap().len();
    assert!(after < before / 4, "{before} bytes became {after}");
}

async fn by_many_writers(store: &Store, writes: usize, write: fn(usize) -> Write) {
    const WRITERS: usize = 50;
    let tasks = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in (writer..writes).step_by(WRITERS) {
                store.commit(write(n)).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}
