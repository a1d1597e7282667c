//! `sluice version`.

use serde_json::json;

use crate::exit::Exit;
use crate::flags::Version;
use crate::printer;

/// The Kubernetes release whose API is served.
pub(crate) const KUBERNETES: &str = "v1.35.4";

pub(crate) fn run(flags: &Version) -> Exit {
    let version = env!("CARGO_PKG_VERSION");
    match flags.output {
        Some(_) => printer::json(&json!({"version": version, "kubernetes": KUBERNETES})),
        None => printer::line(&format!("sluice {version}, API of Kubernetes {KUBERNETES}")),
    }
    Exit::Ok
}
