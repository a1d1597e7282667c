//! `sluice pod-supervisor DIR`: one small process per pod.

use std::{ffi::OsString, process::ExitCode};

/// Runs a supervisor over the pod directory in `args` (what follows the subcommand's name).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let _directory = args.into_iter().next();
    ExitCode::FAILURE
}
