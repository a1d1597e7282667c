//! Requests of every protocol through the gateway while everything behind it and around it changes: not one may fail.
//!
//! `sluice-bench load [--requests N] [--seed N]`. An engine is started as a user does, its objects are written by its API. Backends
//! live in this process, each on an address of its own. One that is removed is withdrawn from its EndpointSlice, and killed as soon
//! as the gateway's Lease says that it has let go of it. Clients count whatever is not as they wanted it; the last line says how much
//! that was, and the exit code is 0 only if it was nothing.

mod backend;
mod body;
mod changes;
mod client;
mod draws;
mod passing;
mod run;
mod talk;
mod tally;
mod trust;
mod websocket;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::engine::built;
use changes::{PATCHERS, Pool};
use client::{Door, Kind};
use draws::Draws;
use run::Run;
use talk::Length;
use tally::Protocol;
use trust::Authority;
use world::World;

/// Requests of a run, and backends removed for each thousand of them.
const REQUESTS: u64 = 100_000;
const REMOVALS_PER_THOUSAND: u64 = 1;
/// How often it is looked at whether the run is over.
const LOOK: Duration = Duration::from_millis(100);
/// So long, and what is not done yet will not be done.
const LONGEST_RUN: Duration = Duration::from_secs(3000);

struct Options {
    requests: u64,
    seed: u64,
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self { requests: REQUESTS, seed: 1 };
        while let Some(word) = words.next() {
            let value = words.next().and_then(|value| value.parse().ok());
            match (word.as_str(), value) {
                ("--requests", Some(requests)) => options.requests = requests,
                ("--seed", Some(seed)) => options.seed = seed,
                _ => anyhow::bail!("`{word}`: the options are --requests NUMBER and --seed NUMBER"),
            }
        }
        Ok(options)
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let options = Options::read(std::env::args().skip(2))?;
    let sluice = built()?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(conduct(&sluice, &options))
}

async fn conduct(sluice: &std::path::Path, options: &Options) -> anyhow::Result<()> {
    let authority = Arc::new(Authority::new()?);
    let world = Arc::new(World::start(sluice).await?);
    world.furnish(authority.leaf()?.secret()).await?;
    let pools = Pool::all(&world, options.seed).await?;
    changes::until_pods_answer(&world).await?;
    let run = Arc::new(Run::default());
    let mut all = JoinSet::new();
    let started = Instant::now();
    let first = world.api.generation().await?;
    clients(&mut all, &run, &world, &authority, options.seed);
    disturbances(&mut all, &run, &world, &authority, options, pools);
    let removals = options.requests * REMOVALS_PER_THOUSAND / 1000;
    let mut ticks = tokio::time::interval(LOOK);
    let mut ended = Ok(());
    while ended.is_ok() {
        tokio::select! {
            Some(part) = all.join_next() => ended = part?,
            _ = ticks.tick() => {
                let done = run.tally.requests() >= options.requests && run.changes.removals.load(Ordering::Relaxed) >= removals;
                if done || started.elapsed() > LONGEST_RUN {
                    break;
                }
            }
        }
    }
    let swaps = world.api.generation().await? - first;
    let took = started.elapsed();
    run.end();
    while let Some(part) = all.join_next().await {
        ended = ended.and(part?);
    }
    report(&run, options, swaps, took);
    ended?;
    let Ok(world) = Arc::try_unwrap(world) else { anyhow::bail!("somebody still holds on to the engine") };
    world.engine.stop()?;
    anyhow::ensure!(run.tally.failures() == 0, "{} requests failed", run.tally.failures());
    Ok(())
}

type Parts = JoinSet<anyhow::Result<()>>;

fn clients(all: &mut Parts, run: &Arc<Run>, world: &Arc<World>, authority: &Authority, seed: u64) {
    let mut parts = (1_u64..).map(|part| Draws::of(seed, part));
    let mut draws = || parts.next().unwrap_or_else(|| Draws::of(seed, 0));
    let plain = Door { address: world.plain, tls: None };
    let tls = |protocol: &[u8]| Door { address: world.tls, tls: Some(authority.connector(protocol)) };
    let (tls1, tls2) = (tls(b"http/1.1"), tls(b"h2"));
    let kinds = [
        (&plain, Kind::Mixed, 400, 6),
        (&plain, Kind::Mixed, 1, 2),
        (&tls1, Kind::Mixed, 200, 4),
        (&plain, Kind::Silent, 400, 3),
        (&plain, Kind::SilentPost, 100, 1),
        (&plain, Kind::Http2, 200, 2),
        (&plain, Kind::Pods, 100, 3),
    ];
    for (door, kind, keeps, number) in kinds {
        for _ in 0..number {
            let client = client::http1(run.clone(), door.clone(), kind, keeps, draws());
            all.spawn(async move {
                client.await;
                Ok(())
            });
        }
    }
    let connections = [
        (&plain, Protocol::Http2, Kind::Mixed),
        (&tls2, Protocol::Http2, Kind::Mixed),
        (&plain, Protocol::Http2, Kind::Http2),
        (&plain, Protocol::Grpc, Kind::Http2),
        (&tls2, Protocol::Grpc, Kind::Http2),
    ];
    for (door, protocol, kind) in connections {
        let client = client::http2(run.clone(), door.clone(), protocol, kind, draws());
        all.spawn(async move {
            client.await;
            Ok(())
        });
    }
    for (door, length, number) in [(&plain, Length::Short, 4), (&tls1, Length::Short, 2), (&plain, Length::Long, 4)] {
        for _ in 0..number {
            let client = talk::websocket(run.clone(), door.clone(), length, draws());
            all.spawn(async move {
                client.await;
                Ok(())
            });
        }
    }
    for _ in 0..2 {
        let client = passing::client(run.clone(), Door { address: world.passing, tls: None }, draws());
        all.spawn(async move {
            client.await;
            Ok(())
        });
    }
}

fn disturbances(
    all: &mut Parts,
    run: &Arc<Run>,
    world: &Arc<World>,
    authority: &Arc<Authority>,
    options: &Options,
    pools: Vec<Pool>,
) {
    let draws = |part: u64| Draws::of(options.seed, 1_000_000 + part);
    for (part, mut pool) in pools.into_iter().enumerate() {
        let (world, run, mut draws) = (world.clone(), run.clone(), draws(part as u64));
        all.spawn(async move {
            while !run.is_over() {
                pool.turn_over(&world, &run, &mut draws).await?;
                tokio::time::sleep(Duration::from_millis(draws.between(0, 120))).await;
            }
            Ok(())
        });
    }
    for part in 0..PATCHERS {
        all.spawn(changes::weights(world.clone(), run.clone(), draws(10 + part)));
    }
    all.spawn(changes::certificates(world.clone(), run.clone(), authority.clone()));
    all.spawn(changes::listeners(world.clone(), run.clone(), draws(20)));
    all.spawn(changes::pods(world.clone(), run.clone(), draws(21)));
}

#[expect(clippy::print_stdout, reason = "the line is what the run is for")]
fn report(run: &Run, options: &Options, swaps: u64, took: Duration) {
    let get = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    let seconds = took.as_secs_f64();
    let tally = &run.tally;
    let line = json!({
        "name": "load", "seed": options.seed, "seconds": seconds.round(),
        "requests": tally.requests(), "failed": tally.failures(), "by_protocol": tally.by_protocol(),
        "table_swaps": swaps, "swaps_per_second": (swaps as f64 / seconds).round(),
        "changes": run.changes.lines(),
        "passing_listener": {"answered": get(&tally.passing), "refused_while_absent": get(&tally.absent)},
        "silent_posts": {"answered": get(&tally.unhinted), "ambiguous": get(&tally.ambiguous)},
    });
    println!("{line}");
}
