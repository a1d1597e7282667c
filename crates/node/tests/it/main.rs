//! The agent as the engine runs it.
//!
//! A supervisor is the same binary under another argument, and here that binary is this one: hence a `main` of its own.

mod agent;
mod cluster;
mod shop;
mod streams;
mod words;

use std::{ffi::OsString, process::ExitCode};

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("pod-supervisor") => sluice_pod::supervisor::main(args.collect::<Vec<OsString>>()),
        Some("demo-shop") => shop::main(),
        Some("engine") => agent::engine(std::path::Path::new(&args.next().expect("a directory"))),
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    agent::trials().into_iter().chain(streams::trials()).chain(words::trials()).collect()
}

/// Lists async test functions under their own names, each with a runtime of its own.
#[macro_export]
macro_rules! async_trials {
    ($module:literal: $($test:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(concat!($module, "::", stringify!($test)), || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on($test());
            Ok(())
        })),+]
    };
}
