//! Preconditions, lists of the past, watches.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use sluice_store::{EventKind, Expect, ListError, Revision, Store, WatchError, Write, WriteError};

fn put(key: &str, expect: Expect) -> Write {
    Write::put(key, expect, |revision| Bytes::from(format!("{{\"at\":{revision}}}")))
}

fn delete(key: &str, expect: Expect) -> Write {
    Write::delete(key, expect, |revision| Bytes::from(format!("{{\"gone\":{revision}}}")))
}

async fn outcome(store: &Store, write: Write) -> String {
    match store.commit(write).await {
        Ok(entry) => format!("{} since {}", entry.revision, entry.created_revision),
        Err(WriteError::Exists { entry }) => format!("exists at {}", entry.revision),
        Err(WriteError::Conflict { current }) => format!("conflict with {}", current.revision),
        Err(other) => other.to_string(),
    }
}

fn keys(store: &Store, scope: &str, at: Option<u64>) -> Result<String, ListError> {
    let page = store.list(scope, None, None, at.map(Revision))?;
    Ok(page.entries.iter().map(|entry| format!("{}@{}", entry.key, entry.revision)).collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn preconditions_hold_at_commit_time() {
    let store = Store::in_memory();
    let a = "/core/pods/x/a";
    assert_eq!(store.progress(), Revision(1));
    assert_eq!(outcome(&store, put(a, Expect::Revision(Revision(1)))).await, "no such key");
    assert_eq!(outcome(&store, delete(a, Expect::Any)).await, "no such key");
    assert_eq!(outcome(&store, put(a, Expect::Absent)).await, "2 since 2");
    assert_eq!(outcome(&store, put(a, Expect::Absent)).await, "exists at 2");
    assert_eq!(outcome(&store, put(a, Expect::Revision(Revision(1)))).await, "conflict with 2");
    assert_eq!(outcome(&store, put(a, Expect::Revision(Revision(2)))).await, "3 since 2");
    assert_eq!(outcome(&store, put(a, Expect::Any)).await, "4 since 2");
    assert_eq!(store.get(a).unwrap().value()["at"], 4);
    assert_eq!(outcome(&store, delete(a, Expect::Revision(Revision(3)))).await, "conflict with 4");
    assert_eq!(outcome(&store, delete(a, Expect::Revision(Revision(4)))).await, "5 since 2");
    assert_eq!(store.get(a), None);
    assert_eq!(outcome(&store, put(a, Expect::Absent)).await, "6 since 6");
}

#[tokio::test]
async fn a_panicking_writer_harms_nobody_else() {
    let store = Store::in_memory();
    let result = store.commit(Write::put("/core/pods/a", Expect::Any, |_| panic!("on purpose"))).await;
    assert!(matches!(result, Err(WriteError::Render)));
    assert_eq!(outcome(&store, put("/core/pods/a", Expect::Absent)).await, "2 since 2");
}

#[tokio::test]
async fn a_scope_is_a_whole_key_or_a_folder() {
    let store = Store::in_memory();
    for key in ["/core/pods/x/a", "/core/pods/x/ab", "/core/pods/xy/a", "/core/podsets/a", "/core/pods"] {
        store.commit(put(key, Expect::Absent)).await.unwrap();
    }
    let list = |scope| keys(&store, scope, None).unwrap();
    assert_eq!(list("/core/pods/x/"), "/core/pods/x/a@2 /core/pods/x/ab@3");
    assert_eq!(list("/core/pods/x/a"), "/core/pods/x/a@2");
    assert_eq!(list("/core/pods/"), "/core/pods/x/a@2 /core/pods/x/ab@3 /core/pods/xy/a@4");
    assert_eq!(list("/core/pods/z/"), "");
}

#[tokio::test]
async fn pages_of_one_list_show_one_revision() {
    let store = Store::in_memory();
    for name in ["a", "b", "c", "d"] {
        store.commit(put(&format!("/core/pods/{name}"), Expect::Absent)).await.unwrap();
    }
    let first = store.list("/core/pods/", None, Some(2), None).unwrap();
    assert_eq!((first.entries.len(), first.revision, first.more, first.remaining), (2, Revision(5), true, 2));
    store.commit(delete("/core/pods/c", Expect::Any)).await.unwrap();
    store.commit(put("/core/pods/e", Expect::Any)).await.unwrap();
    let last = &first.entries[1].key;
    let second = store.list("/core/pods/", Some(last), Some(2), Some(first.revision)).unwrap();
    let names: Vec<_> = second.entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!((names, second.more), (vec!["/core/pods/c", "/core/pods/d"], false));
    assert_eq!(keys(&store, "/core/pods/", Some(99)), Err(ListError::Future { current: Revision(7) }));
}

#[tokio::test]
async fn a_watch_replays_and_goes_on_live() {
    let store = Store::in_memory();
    let (a, b) = ("/core/pods/x/a", "/core/pods/y/b");
    store.commit(put(a, Expect::Any)).await.unwrap();
    store.commit(put(b, Expect::Any)).await.unwrap();
    store.commit(delete(a, Expect::Any)).await.unwrap();
    let mut all = store.watch("/core/pods/", Revision(2)).unwrap();
    let mut folder = store.watch("/core/pods/x/", Revision(1)).unwrap();
    let mut single = store.watch(b, Revision(3)).unwrap();
    store.commit(put(b, Expect::Any)).await.unwrap();
    let line = |event: &sluice_store::Event| {
        let previous = event.previous.as_ref().map_or(0, |entry| entry.revision.0);
        format!("{:?} {} {} was {previous}", event.kind, event.key(), event.revision)
    };
    assert_eq!(line(&all.next().await.unwrap()), format!("Put {b} 3 was 0"));
    assert_eq!(all.progress(), None);
    assert_eq!(line(&all.next().await.unwrap()), format!("Delete {a} 4 was 2"));
    assert_eq!(line(&all.next().await.unwrap()), format!("Put {b} 5 was 3"));
    assert_eq!(all.progress(), Some(Revision(5)));
    assert_eq!(line(&folder.next().await.unwrap()), format!("Put {a} 2 was 0"));
    assert_eq!(line(&folder.next().await.unwrap()), format!("Delete {a} 4 was 2"));
    assert_eq!(folder.try_next(), Ok(None));
    assert_eq!(line(&single.next().await.unwrap()), format!("Put {b} 5 was 3"));
    store.close().await;
    assert_eq!(single.next().await, Err(WatchError::Closed));
    assert_eq!(outcome(&store, put(b, Expect::Any)).await, "the store takes no more writes");
}

#[tokio::test]
async fn what_left_the_window_is_compacted() {
    let store = Store::in_memory();
    for _ in 0..20_000 {
        store.commit(put("/core/pods/a", Expect::Any)).await.unwrap();
    }
    let Err(WatchError::Compacted { oldest }) = store.watch("/", Revision(1)) else { panic!("all of it is there") };
    assert!(oldest > Revision(1) && oldest < store.progress());
    assert_eq!(keys(&store, "/", Some(oldest.0 - 1)), Err(ListError::Compacted { oldest }));
    assert_eq!(keys(&store, "/", Some(oldest.0)).unwrap(), format!("/core/pods/a@{oldest}"));
    let mut watch = store.watch("/", oldest).unwrap();
    assert_eq!(watch.next().await.unwrap().revision, oldest.next());
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_dropped() {
    let store = Store::in_memory();
    let mut slow = store.watch("/core/pods/", Revision(1)).unwrap();
    let mut elsewhere = store.watch("/core/nodes/", Revision(1)).unwrap();
    for _ in 0..5_000 {
        store.commit(put("/core/pods/a", Expect::Any)).await.unwrap();
    }
    let mut seen = 0;
    let end = loop {
        match slow.next().await {
            Ok(event) => {
                seen += 1;
                assert_eq!(event.revision, Revision(seen + 1), "no gap before the end");
            }
            Err(end) => break end,
        }
    };
    assert_eq!((seen, end), (4096, WatchError::Slow { backlog: 4096 }));
    assert_eq!(elsewhere.try_next(), Ok(None));
    assert_eq!(elsewhere.progress(), Some(Revision(5_001)));
}

proptest! {
    #[test]
    fn every_past_list_is_what_it_was(acts in prop::collection::vec((0..6_u8, any::<bool>()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::in_memory();
            let mut now: BTreeMap<String, u64> = BTreeMap::new();
            let mut past = vec![(store.progress(), now.clone())];
            for (key, deletes) in acts {
                let key = format!("/core/pods/{key}");
                let write = if deletes { delete(&key, Expect::Any) } else { put(&key, Expect::Any) };
                let Ok(entry) = store.commit(write).await else { continue };
                if deletes { now.remove(&key) } else { now.insert(key, entry.revision.0) };
                past.push((entry.revision, now.clone()));
            }
            for (revision, then) in past {
                let page = store.list("/core/pods/", None, None, Some(revision)).unwrap();
                let found: BTreeMap<_, _> = page.entries.iter().map(|it| (it.key.to_string(), it.revision.0)).collect();
                assert_eq!(found, then);
                let rest = store.list("/core/pods/", Some("/core/pods/2"), Some(2), Some(revision)).unwrap();
                let expected: Vec<_> = then.keys().filter(|key| key.as_str() > "/core/pods/2").collect();
                let names: Vec<_> = rest.entries.iter().map(|it| it.key.to_string()).collect();
                assert_eq!(names.iter().collect::<Vec<_>>(), expected[..expected.len().min(2)].to_vec());
                assert_eq!(rest.remaining, expected.len().saturating_sub(2));
            }
        });
    }
}

#[tokio::test]
async fn deletions_carry_the_last_state() {
    let store = Store::in_memory();
    store.commit(put("/core/pods/a", Expect::Any)).await.unwrap();
    let mut watch = store.watch("/", Revision(2)).unwrap();
    store.commit(delete("/core/pods/a", Expect::Any)).await.unwrap();
    let event = watch.next().await.unwrap();
    assert_eq!((event.kind, event.entry.value()["gone"].as_u64()), (EventKind::Delete, Some(3)));
}

#[tokio::test]
async fn several_writes_hold_together_or_not_at_all() {
    let store = Store::in_memory();
    let (a, b) = ("/core/pods/x/a", "/core/pods/x/b");
    let both = || vec![put(a, Expect::Any), put(b, Expect::Absent)];
    let entries = store.commit_all(both()).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.revision.0).collect::<Vec<_>>(), [2, 3]);
    let (place, error) = store.commit_all(both()).await.unwrap_err();
    assert!(place == 1 && matches!(error, WriteError::Exists { .. }), "{place} {error}");
    let broken = vec![put(a, Expect::Any), Write::put(b, Expect::Any, |_| panic!("on purpose"))];
    assert!(matches!(store.commit_all(broken).await, Err((1, WriteError::Render))));
    assert_eq!(keys(&store, "/core/pods/x/", None).unwrap(), "/core/pods/x/a@2 /core/pods/x/b@3");
    assert_eq!(outcome(&store, put(a, Expect::Any)).await, "4 since 2");
}
