//! `sluice version`.

use serde_json::json;
use sluice_model::KUBERNETES_VERSION;

use crate::exit::Exit;
use crate::flags::Version;
use crate::printer;

pub(crate) fn run(flags: &Version) -> Exit {
    let version = env!("CARGO_PKG_VERSION");
    match flags.output {
        Some(_) => printer::json(&json!({"version": version, "kubernetes": KUBERNETES_VERSION})),
        None => printer::line(&format!("sluice {version}, API of Kubernetes {KUBERNETES_VERSION}")),
    }
    Exit::Ok
}
