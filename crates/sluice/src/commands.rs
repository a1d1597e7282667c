//! One file per command; each reads its flags, does its work through the API, and prints.

mod apply;
mod compare;
mod delete;
mod demo;
mod gateway;
mod get;
mod image;
mod load;
mod logs;
mod plan;
mod rollout;
mod up;
mod version;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::exit::Exit;
use crate::flags::{Command, Flags};
use crate::{printer, shop};

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Up(flags) => up::run(flags),
        Command::Gateway(flags) => gateway::run(flags),
        Command::Demo(flags) => demo::run(&flags),
        Command::Apply(flags) => small(apply::run(flags)),
        Command::Get(flags) => small(get::run(flags)),
        Command::Logs(flags) => small(logs::run(flags)),
        Command::Delete(flags) => small(delete::run(flags)),
        Command::Image(flags) => small(image::run(flags)),
        Command::Rollout(flags) => small(rollout::run(flags)),
        Command::Plan(flags) => plan::run(&flags),
        Command::Compare(flags) => small(compare::run(flags)),
        Command::Load(flags) => small(load::run(flags)),
        Command::Version(flags) => Ok(version::run(&flags)),
        Command::Completions { shell } => Ok(completions(shell)),
        Command::DemoShop => shop::run().map(|()| Exit::Ok),
        Command::PodSupervisor { .. } | Command::PodsHolder { .. } => {
            unreachable!("main enters these before anything is set up")
        }
    }
}

pub(crate) fn pod_supervisor(args: &[OsString]) -> ExitCode {
    sluice_pod::supervisor::main(args.iter().cloned())
}

pub(crate) fn pods_holder(args: &[OsString]) -> ExitCode {
    sluice_pod::holder::main(args.iter().cloned())
}

/// Runs a command that only talks to the API, on one thread.
fn small(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "sluice", &mut script);
    printer::text(&String::from_utf8_lossy(&script));
    Exit::Ok
}
