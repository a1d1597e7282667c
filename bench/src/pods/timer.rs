//! Starts the peers' programs and tells when it did. A process of its own, because crun does not work where version 2 of
//! control groups is mounted beside version 1: it lives in a mount namespace without that mount.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

const WITHOUT_UNIFIED: &str = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";

#[derive(Serialize, Deserialize)]
struct Order {
    argv: Vec<String>,
    dir: PathBuf,
}

/// One command from its start to its end, in nanoseconds of the wall clock.
#[derive(Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) started_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) ok: bool,
    pub(super) stdout: String,
}

pub(super) struct Timer {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Timer {
    pub(super) fn start() -> anyhow::Result<Self> {
        let mut process = Command::new("unshare")
            .args(["--mount", "sh", "-c", WITHOUT_UNIFIED, "sh"])
            .arg(std::env::current_exe()?)
            .arg("timer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take().context("standard input is piped")?;
        let answers = BufReader::new(process.stdout.take().context("standard output is piped")?);
        Ok(Self { process, orders, answers })
    }

    pub(super) fn run(&mut self, dir: &std::path::Path, argv: &[&str]) -> anyhow::Result<Run> {
        let order = Order { argv: argv.iter().map(|word| (*word).to_owned()).collect(), dir: dir.to_owned() };
        writeln!(self.orders, "{}", serde_json::to_string(&order)?)?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let run: Run = serde_json::from_str(&line)?;
        anyhow::ensure!(run.ok, "{argv:?} failed");
        Ok(run)
    }

    /// Processor time of everything that it has run, in seconds.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        super::peers::cpu_seconds(self.process.id())
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        let Self { mut process, orders, answers } = self;
        drop((orders, answers));
        process.wait()?;
        Ok(())
    }
}

/// The other side: runs one order after the other until there are no more.
#[expect(clippy::print_stdout, reason = "the answers are for the process that asks")]
pub(crate) fn serve() -> anyhow::Result<()> {
    for line in std::io::stdin().lines() {
        let Order { argv, dir } = serde_json::from_str(&line?)?;
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir(dir).stdin(Stdio::null());
        let started_ns = wall_ns();
        let output = command.stderr(Stdio::inherit()).output()?;
        let ended_ns = wall_ns();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{}", serde_json::to_string(&Run { started_ns, ended_ns, ok: output.status.success(), stdout })?);
    }
    Ok(())
}

fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
