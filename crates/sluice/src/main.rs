//! The `sluice` binary: flags in, text out.

mod commands;
mod connect;
mod documents;
mod exit;
mod flags;
mod kinds;
mod load;
mod printer;
mod shop;
mod stop;
mod tables;

use std::process::ExitCode;

use clap::Parser as _;

use exit::Exit;
use flags::{Command, Flags};

fn main() -> ExitCode {
    let flags = Flags::parse();
    // These stay single-threaded and small: nothing is set up before them.
    if let Command::PodSupervisor { args } = flags.command {
        return commands::pod_supervisor(&args);
    }
    if let Command::PodsHolder { args } = flags.command {
        return commands::pods_holder(&args);
    }
    match commands::run(flags.command) {
        Ok(exit) => exit.into(),
        Err(error) => report(&error).into(),
    }
}

/// Prints the whole chain of causes once, and a hint where one is known.
fn report(error: &anyhow::Error) -> Exit {
    for (depth, text) in connect::causes(error).iter().enumerate() {
        let lead = if depth == 0 { "error" } else { "  caused by" };
        printer::note(&format!("{lead}: {text}"));
    }
    let (exit, hint) = connect::explain(error);
    if let Some(hint) = hint {
        printer::note(&format!("hint: {hint}"));
    }
    exit
}
