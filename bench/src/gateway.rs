//! What a request through the gateway costs, beside nginx and HAProxy: processor time of each proxy per request, in front of the
//! same backend, under the same load, in turns. Needs root and Debian: the peers are installed from its packages.
//!
//! Names are `gateway/BODY/CONNECTIONS/PROTOCOL/WORKERS`. With one worker the proxy has the first processor to itself, backend and
//! load share the second; with two, nobody is bound to any. What the engine does besides counts as the gateway's.

pub(crate) mod alone;
mod load;
mod proxies;

use std::path::Path;
use std::time::Duration;

use crate::debian;
use crate::engine::{built, pause};
use crate::report::{Pair, print};
use load::{Protocol, drive, hold};
use proxies::{Proxy, World};

/// Programs, and the packages of Debian that they come with.
const PROGRAMS: [(&str, &str); 5] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("taskset", "util-linux"),
];
const ROUNDS: usize = 7;
/// Seconds of load on each proxy in each round, after as many that do not count.
const SECONDS: u64 = 1;
const IDLE_CONNECTIONS: usize = 400;
/// Until memory that was just used is counted: what nobody needs any more has been let go.
const SETTLE: Duration = Duration::from_secs(4);

struct Case {
    body: &'static str,
    connections: usize,
    protocol: Protocol,
    workers: usize,
}

const fn case(body: &'static str, connections: usize, protocol: Protocol, workers: usize) -> Case {
    Case { body, connections, protocol, workers }
}

const CASES: [Case; 8] = [
    case("0", 64, Protocol::Plain, 1),
    case("1k", 64, Protocol::Plain, 1),
    case("64k", 64, Protocol::Plain, 1),
    case("0", 1000, Protocol::Plain, 1),
    case("1k", 1000, Protocol::Plain, 1),
    case("64k", 1000, Protocol::Plain, 1),
    case("1k", 64, Protocol::H2, 1),
    case("1k", 64, Protocol::Plain, 2),
];

impl Case {
    fn name(&self) -> String {
        format!("gateway/{}/{}/{}/{}w", self.body, self.connections, self.protocol.name(), self.workers)
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    let only = std::env::args().nth(2).unwrap_or_default();
    debian::install(&PROGRAMS)?;
    let sluice = built()?;
    for workers in [1, 2] {
        let cases: Vec<&Case> =
            CASES.iter().filter(|case| case.workers == workers && case.name().contains(&only)).collect();
        let idle = workers == 1 && "gateway/idle".contains(&only);
        if !cases.is_empty() || idle {
            with_workers(&sluice, workers, &cases, idle)?;
        }
    }
    Ok(())
}

fn with_workers(sluice: &Path, workers: usize, cases: &[&Case], idle: bool) -> anyhow::Result<()> {
    let world = World::start(sluice, workers)?;
    for case in cases {
        measure(&world, case)?;
    }
    if idle {
        idle_connections(&world)?;
    }
    world.stop()
}

/// Microseconds of each proxy for a request, in turns.
fn measure(world: &World, case: &Case) -> anyhow::Result<()> {
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); world.proxies.len()];
    for round in 0..=ROUNDS {
        for (proxy, costs) in world.proxies.iter().zip(&mut costs) {
            let before = proxy.cpu_ns()?;
            let pinned = case.workers == 1;
            let requests = drive(case.protocol, proxy, case.body, case.connections, SECONDS, pinned)?;
            // The first round warms up.
            if round > 0 {
                costs.push((proxy.cpu_ns()? - before) as f64 / 1000.0 / requests as f64);
            }
        }
    }
    compare(&case.name(), "us", &world.proxies, &costs)
}

/// What a connection costs that nobody speaks on, after one request.
fn idle_connections(world: &World) -> anyhow::Result<()> {
    let mut costs = Vec::new();
    for proxy in &world.proxies {
        pause(SETTLE);
        let before = proxy.resident_kilobytes()?;
        let held = hold(proxy, IDLE_CONNECTIONS)?;
        pause(SETTLE);
        let after = proxy.resident_kilobytes()?;
        costs.push(vec![after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64]);
        drop(held);
    }
    compare("gateway/idle connection", "kB", &world.proxies, &costs)
}

/// The first proxy is ours.
fn compare(name: &str, unit: &str, proxies: &[Proxy], costs: &[Vec<f64>]) -> anyhow::Result<()> {
    for (peer, theirs) in proxies.iter().zip(costs).skip(1) {
        let pairs: Vec<Pair> = costs[0].iter().zip(theirs).map(|(&ours, &peer)| Pair { ours, peer }).collect();
        print(name, peer.name, unit, &pairs)?;
    }
    Ok(())
}
