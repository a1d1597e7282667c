//! Every acknowledged write is there after a power cut, and nothing is there by half.

mod fault_disk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fault_disk::FaultDisk;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::{Disk, frame};
use crate::watch::{Event, EventKind};
use crate::{Entry, Expect, Revision, Store, Write, WriteError};

/// Small, so that a few writes fill one.
const SEGMENT_BYTES: u64 = 6_000;

/// What was asked of a store, by the revision it was given.
type History = Arc<Mutex<BTreeMap<u64, (String, Option<Bytes>)>>>;

/// One writer's next act.
#[derive(Debug, Clone)]
struct Act {
    key: u8,
    size: usize,
    deletes: bool,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = (0..12_u8, 0..1_500_usize, prop::bool::weighted(0.2));
    prop::collection::vec(act.prop_map(|(key, size, deletes)| Act { key, size, deletes }), 1..60)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be built")
}

fn write(act: &Act, history: &History) -> Write {
    let key = format!("/core/configmaps/{}", act.key);
    let history = Arc::clone(history);
    let (noted_key, size, deletes) = (key.clone(), act.size, act.deletes);
    let render = move |revision: Revision| {
        let bytes = Bytes::from(format!("{revision}-{}", "x".repeat(size)));
        let state = (!deletes).then(|| bytes.clone());
        history.lock().expect("no panic").insert(revision.0, (noted_key, state));
        bytes
    };
    if act.deletes { Write::delete(key, Expect::Any, render) } else { Write::put(key, Expect::Any, render) }
}

/// Writes in groups of three until the acts or the disk come to an end; returns the newest acknowledged revision.
fn write_all(store: &Store, acts: &[Act], history: &History) -> u64 {
    runtime().block_on(async {
        let mut acknowledged = store.progress().0;
        for group in acts.chunks(3) {
            let commits = group.iter().map(|act| store.commit(write(act, history)));
            for result in futures_of(commits).await {
                match result {
                    Ok(entry) => acknowledged = acknowledged.max(entry.revision.0),
                    Err(WriteError::Missing) => {}
                    Err(WriteError::Broken { .. } | WriteError::Full) => return acknowledged,
                    Err(other) => panic!("unexpected: {other}"),
                }
            }
        }
        store.close().await;
        acknowledged
    })
}

/// All at once, so that they meet in one commit.
async fn futures_of<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut pinned {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        let done = pinned.iter().all(|(_, output)| output.is_some());
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pinned.into_iter().map(|(_, output)| output.expect("all are done")).collect()
}

/// The store shows exactly what the writes up to its newest revision have made.
fn check_recovered(store: &Store, acknowledged: u64, history: &History) {
    let newest = store.progress();
    assert!(newest.0 >= acknowledged, "revision {acknowledged} was acknowledged, {newest} is there");
    let mut expected: BTreeMap<String, (u64, Bytes)> = BTreeMap::new();
    let mut history = history.lock().expect("no panic");
    // What the cut took was never acknowledged, and its revisions are given again.
    history.retain(|revision, _| *revision <= newest.0);
    for (revision, (key, state)) in history.iter() {
        match state {
            Some(bytes) => expected.insert(key.clone(), (*revision, bytes.clone())),
            None => expected.remove(key),
        };
    }
    let page = store.list("/", None, None, None).expect("now is remembered");
    let found: BTreeMap<String, (u64, Bytes)> =
        page.entries.iter().map(|entry| (entry.key.to_string(), (entry.revision.0, entry.bytes.clone()))).collect();
    assert_eq!(found, expected);
}

fn open(disk: &FaultDisk) -> Store {
    Store::open_on(disk, SEGMENT_BYTES).expect("what a power cut leaves can be opened")
}

/// The threads that own the files are gone after this.
fn wait_for_end(store: &Store) {
    runtime().block_on(store.close());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_writes_survive_power_cuts(
        rounds in prop::collection::vec((acts(), 0..400_u64, any::<u64>()), 1..4),
    ) {
        let disk = FaultDisk::default();
        let history = History::default();
        wait_for_end(&open(&disk));
        for (acts, cut_after, chance) in rounds {
            let store = open(&disk);
            disk.cut_after(cut_after);
            let acknowledged = write_all(&store, &acts, &history);
            wait_for_end(&store);
            let mut chance = chance | 1;
            disk.restart(|| {
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                chance & 1 == 0
            });
            let store = open(&disk);
            check_recovered(&store, acknowledged, &history);
            wait_for_end(&store);
        }
    }
}

#[test]
fn a_power_cut_while_a_store_is_opened_does_no_harm() {
    let history = History::default();
    let acts: Vec<_> = (0..40).map(|key| Act { key: key % 12, size: 700, deletes: key % 7 == 6 }).collect();
    let disk = FaultDisk::default();
    let store = open(&disk);
    // The log is left as a crash leaves it.
    disk.cut_after(100);
    let acknowledged = write_all(&store, &acts, &history);
    wait_for_end(&store);
    disk.restart(|| true);
    for cut_after in 0..60 {
        disk.cut_after(cut_after);
        if let Ok(store) = Store::open_on(&disk, SEGMENT_BYTES) {
            wait_for_end(&store);
        }
        disk.restart(|| cut_after % 2 == 0);
    }
    let store = open(&disk);
    check_recovered(&store, acknowledged, &history);
    wait_for_end(&store);
}

#[test]
fn a_full_disk_refuses_writes_and_loses_none() {
    let disk = FaultDisk::default();
    let history = History::default();
    let store = open(&disk);
    disk.set_capacity(Some(disk.length() + 40_000));
    let acts: Vec<_> = (0..250).map(|key| Act { key, size: 9_000, deletes: false }).collect();
    let acknowledged = write_all(&store, &acts, &history);
    assert!(acknowledged < 250, "the disk never filled up");
    history.lock().expect("no panic").retain(|revision, _| *revision <= acknowledged);

    disk.set_capacity(None);
    let after = write_all(&store, &acts[..6], &history);
    assert_eq!(after, acknowledged + 6, "writing goes on once there is room");
    wait_for_end(&store);
    let store = open(&disk);
    check_recovered(&store, after, &history);
    wait_for_end(&store);
}

#[test]
fn a_failed_disk_is_named_by_every_later_write_and_reads_go_on() {
    let disk = FaultDisk::default();
    let store = open(&disk);
    let put = |key| Write::put(key, Expect::Absent, |_| Bytes::from_static(b"{}"));
    runtime().block_on(async {
        store.commit(put("/core/pods/a")).await.expect("the disk is well");
        // The append still gets through, its sync does not.
        disk.cut_after(1);
        for key in ["/core/pods/b", "/core/pods/c"] {
            let error = store.commit(put(key)).await.expect_err("nothing may be acknowledged").to_string();
            assert_eq!(error, "the disk failed, so nothing is written until the next start: the power is gone");
        }
    });
    assert!(store.get("/core/pods/a").is_some() && store.get("/core/pods/b").is_none());
    wait_for_end(&store);
}

#[test]
fn a_lone_write_costs_one_append_and_one_sync() {
    let disk = FaultDisk::default();
    let store = open(&disk);
    let before = disk.operations();
    runtime()
        .block_on(store.commit(Write::put("/core/pods/a", Expect::Absent, |_| Bytes::from_static(b"{}"))))
        .expect("an empty store takes it");
    assert_eq!(disk.operations() - before, 2);
    wait_for_end(&store);
}

fn event(revision: u64, key: &str, bytes: &'static str) -> Event {
    let entry = Entry::new(key.into(), Revision(2), Revision(revision), Bytes::from_static(bytes.as_bytes()));
    Event { revision: Revision(revision), kind: EventKind::Put, entry: Arc::new(entry), previous: None }
}

#[test]
fn a_damaged_frame_ends_the_log() {
    let first = frame::encode(4, &[event(7, "/a", "one"), event(8, "/b", "two")]);
    let second = frame::encode(4, &[event(9, "/a", "three")]);
    let both = [first.clone(), second].concat();
    let revisions = |segment: &[u8]| -> Vec<u64> { frame::decode_all(segment).iter().map(|it| it.last().0).collect() };
    assert_eq!(revisions(&both), [8, 9]);
    for at in 0..both.len() {
        let mut damaged = both.clone();
        damaged[at] ^= 0x10;
        assert_eq!(revisions(&damaged), if at < first.len() { vec![] } else { vec![8] }, "byte {at}");
        assert_eq!(revisions(&both[..at]), if at < first.len() { vec![] } else { vec![8] }, "cut at {at}");
    }
}

#[test]
fn frames_of_an_older_generation_do_not_follow() {
    let new = frame::encode(6, &[event(20, "/a", "new")]);
    let old = frame::encode(4, &[event(21, "/a", "old")]);
    assert_eq!(frame::decode_all(&[new.clone(), old].concat()).len(), 1);
    let later = frame::encode(6, &[event(25, "/a", "a gap")]);
    assert_eq!(frame::decode_all(&[new, later].concat()).len(), 1);
    assert_eq!(frame::decode_all(&[0; 64]), []);
}
