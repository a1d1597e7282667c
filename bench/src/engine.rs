//! The engine under measurement: the release binary, used as a user does.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;

/// How long one step may take before a benchmark gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The release binary of this checkout, built if need be.
pub(crate) fn built() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--release", "--quiet", "-p", "sluice"]).status()?;
    anyhow::ensure!(status.success(), "cannot build the sluice binary");
    let beside = std::env::current_exe()?.with_file_name("sluice");
    anyhow::ensure!(beside.is_file(), "no sluice binary at {}", beside.display());
    Ok(beside)
}

#[derive(Deserialize)]
pub(crate) struct Ready {
    pub(crate) ready_ms: f64,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) gateway: String,
}

pub(crate) struct Engine {
    pub(crate) sluice: PathBuf,
    process: Child,
    pub(crate) ready: Ready,
    data: tempfile::TempDir,
}

impl Engine {
    pub(crate) fn start(sluice: &Path) -> anyhow::Result<Self> {
        Self::start_with(sluice, &[])
    }

    pub(crate) fn start_with(sluice: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_on(sluice, flags, None)
    }

    /// On one processor, if one is named.
    pub(crate) fn start_on(sluice: &Path, flags: &[&str], processor: Option<usize>) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut process = on_processor(sluice, processor)
            .args(["up", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--stop-pods", "-o", "json"])
            .args(flags)
            .arg("--data")
            .arg(data.path().join("data"))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("standard output is piped")?).read_line(&mut line)?;
        let ready = serde_json::from_str(&line).context("the engine did not get ready")?;
        Ok(Self { sluice: sluice.to_owned(), process, ready, data })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The binary, as a client of this engine.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.sluice);
        command.env("KUBECONFIG", &self.ready.kubeconfig);
        command
    }

    /// Where it keeps everything.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Resident memory once it has stopped changing from one look to the next.
    pub(crate) fn idle_megabytes(&self) -> anyhow::Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = 0;
        loop {
            let now = resident_kilobytes(self.process.id())?;
            if now == before || Instant::now() > deadline {
                return Ok(now as f64 / 1024.0);
            }
            before = now;
            pause(Duration::from_secs(2));
        }
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.end()?.success(), "the engine did not end well");
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<ExitStatus> {
        let pid = self.process.id().to_string();
        anyhow::ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "cannot stop the engine");
        Ok(self.process.wait()?)
    }
}

/// After an error it must not stay behind.
impl Drop for Engine {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _told_already = self.end();
        }
    }
}

/// A program on one processor, or wherever there is room.
pub(crate) fn on_processor(program: impl AsRef<std::ffi::OsStr>, processor: Option<usize>) -> Command {
    match processor {
        None => Command::new(program),
        Some(processor) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &processor.to_string()]).arg(program);
            command
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark looks again after a while; it waits for no change")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

pub(crate) fn resident_kilobytes(pid: u32) -> anyhow::Result<u64> {
    kilobytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// What nobody else has in memory, and a fair share of what others have, too.
pub(crate) fn proportional_kilobytes(pid: u32) -> anyhow::Result<u64> {
    kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn kilobytes(file: &str, field: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).context("the kernel does not tell")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
