//! Measures Sluice against its peers: `sluice-bench store`. One JSON line per measurement on stdout.

mod report;
mod store;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("store") => store::run(),
        other => anyhow::bail!("unknown benchmark {other:?}, there is: store"),
    }
}
