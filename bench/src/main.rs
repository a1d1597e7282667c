//! Measures Sluice against its peers: `sluice-bench gateway|load|pods|route|start|store`. One JSON line per measurement on stdout.

mod debian;
mod engine;
mod gateway;
mod load;
mod pods;
mod report;
mod route;
mod start;
mod store;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("gateway") => gateway::run(),
        // For tools that count instructions.
        Some("alone") => gateway::alone::run(),
        Some("load") => load::run(),
        Some("pods") => pods::run(),
        // What `pods` starts its peers with, in a mount namespace of their own.
        Some("timer") => pods::time_commands(),
        Some("route") => route::run(),
        Some("start") => start::run(),
        Some("store") => store::run(),
        other => anyhow::bail!("unknown benchmark {other:?}, there are: gateway, load, pods, route, start, store"),
    }
}
