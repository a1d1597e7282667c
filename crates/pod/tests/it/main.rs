//! The supervisor as an agent starts it, which takes a Unix.
//!
//! It is the same binary under another argument, and here that binary is this one: hence a `main` of its own.

mod pod;
mod supervisor;

use std::{ffi::OsString, process::ExitCode};

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("pod-supervisor") => sluice_pod::supervisor::main(args.collect::<Vec<OsString>>()),
        _ => libtest_mimic::run(&Arguments::from_args(), supervisor::trials()).exit_code(),
    }
}

/// Lists test functions under their own names.
#[macro_export]
macro_rules! trials {
    ($module:literal: $($test:ident),+ $(,)?) => {
        vec![$(libtest_mimic::Trial::test(concat!($module, "::", stringify!($test)), || { $test(); Ok(()) })),+]
    };
}
