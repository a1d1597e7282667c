//! Measures Sluice against its peers: `sluice-bench route|start|store`. One JSON line per measurement on stdout.

mod report;
mod route;
mod start;
mod store;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("route") => route::run(),
        Some("start") => start::run(),
        Some("store") => store::run(),
        other => anyhow::bail!("unknown benchmark {other:?}, there are: route, start, store"),
    }
}
