//! Durable writes of 2 KB beside a bare append and fdatasync on the same disk.
//!
//! The peer is the limit of any group commit: its round is one append of everything that the writers could have
//! waiting, and one fdatasync.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_store::{Expect, Store, Write};
use tokio::runtime::Runtime;

use crate::report::{Pair, median, print};

const VALUE_BYTES: usize = 2048;
const KEYS_PER_WRITER: usize = 500;
const PAIRS: usize = 7;
const WINDOW: Duration = Duration::from_millis(700);
const PEER: &str = "append+fdatasync";

pub(crate) fn run() -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(std::env::var_os("SLUICE_BENCH_DIR").unwrap_or_else(|| ".".into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let store = Store::open(dir.path())?;
    for writers in [1, 16, 128] {
        let mut rates = Vec::new();
        let mut latencies = Vec::new();
        for round in 0..=PAIRS {
            let ours = ours(&runtime, &store, writers)?;
            let peer = peer(dir.path(), writers)?;
            // The first pair warms up files and caches.
            if round > 0 {
                rates.push(Pair { ours: ours.per_second, peer: peer.per_second });
                latencies.push(Pair { ours: ours.latency_us, peer: peer.latency_us });
            }
        }
        print(&format!("store-writes-{writers}"), PEER, "writes/s", &rates)?;
        print(&format!("store-latency-{writers}"), PEER, "us", &latencies)?;
    }
    runtime.block_on(store.close());
    Ok(())
}

struct Measured {
    per_second: f64,
    /// The median.
    latency_us: f64,
}

fn ours(runtime: &Runtime, store: &Store, writers: usize) -> anyhow::Result<Measured> {
    let start = Instant::now();
    let tasks: Vec<_> =
        (0..writers).map(|writer| runtime.spawn(write(store.clone(), writer, start + WINDOW))).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(runtime.block_on(task)??);
    }
    Ok(Measured::of(latencies, start.elapsed()))
}

async fn write(store: Store, writer: usize, until: Instant) -> anyhow::Result<Vec<f64>> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let seed = latencies.len();
        let key = format!("/core/configmaps/bench-{writer}/object-{}", seed % KEYS_PER_WRITER);
        let start = Instant::now();
        store.commit(Write::put(key, Expect::Any, move |revision| value(revision.0 ^ seed as u64))).await?;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(latencies)
}

fn peer(dir: &Path, writers: usize) -> anyhow::Result<Measured> {
    let path = dir.join("peer");
    let mut file = File::create(&path)?;
    let content: Vec<u8> = (0..writers).flat_map(|seed| value(seed as u64)).collect();
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < WINDOW {
        let round = Instant::now();
        file.write_all(&content)?;
        file.sync_data()?;
        latencies.extend(std::iter::repeat_n(round.elapsed().as_secs_f64() * 1e6, writers));
    }
    let measured = Measured::of(latencies, start.elapsed());
    std::fs::remove_file(path)?;
    Ok(measured)
}

impl Measured {
    fn of(latencies_us: Vec<f64>, took: Duration) -> Self {
        Self { per_second: latencies_us.len() as f64 / took.as_secs_f64(), latency_us: median(latencies_us) }
    }
}

/// Bytes that do not compress (xorshift).
fn value(seed: u64) -> Bytes {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(VALUE_BYTES);
    while bytes.len() < VALUE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.into()
}
