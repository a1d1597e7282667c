//! How long until the engine is ready, how much memory it takes at rest, and how long from an apply to the first answer.
//!
//! The binary is used as a user does: `sluice up`, `sluice apply`, a request to the gateway. The peer is the design's goal.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;

use crate::report::{Pair, print};

const ROUNDS: usize = 5;
const GOAL: &str = "goal";
const READY_MS: f64 = 150.0;
const IDLE_MB: f64 = 60.0;
const FIRST_ANSWER_MS: f64 = 400.0;
/// How long one step may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// One process pod behind a route: the least that can answer.
const APP: &str = include_str!("start.yaml");

pub(crate) fn run() -> anyhow::Result<()> {
    let sluice = built()?;
    let (mut ready, mut memory, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let engine = Engine::start(&sluice)?;
        ready.push(Pair { ours: engine.ready.ready_ms, peer: READY_MS });
        memory.push(Pair { ours: engine.idle_megabytes()?, peer: IDLE_MB });
        first.push(Pair { ours: engine.first_answer()?.as_secs_f64() * 1000.0, peer: FIRST_ANSWER_MS });
        engine.stop()?;
    }
    print("ready after start, empty data", GOAL, "ms", &ready)?;
    print("resident memory of the idle engine", GOAL, "MB", &memory)?;
    print("apply to first answer through the gateway", GOAL, "ms", &first)
}

/// The release binary of this checkout, built if need be.
fn built() -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo).args(["build", "--release", "--quiet", "-p", "sluice"]).status()?;
    anyhow::ensure!(status.success(), "cannot build the sluice binary");
    let beside = std::env::current_exe()?.with_file_name("sluice");
    anyhow::ensure!(beside.is_file(), "no sluice binary at {}", beside.display());
    Ok(beside)
}

#[derive(Deserialize)]
struct Ready {
    ready_ms: f64,
    kubeconfig: PathBuf,
    gateway: String,
}

struct Engine {
    sluice: PathBuf,
    process: Child,
    ready: Ready,
    _data: tempfile::TempDir,
}

impl Engine {
    fn start(sluice: &Path) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let mut process = Command::new(sluice)
            .args(["up", "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--stop-pods", "-o", "json", "--data"])
            .arg(data.path().join("data"))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("standard output is piped")?).read_line(&mut line)?;
        let ready = serde_json::from_str(&line).context("the engine did not get ready")?;
        Ok(Self { sluice: sluice.to_owned(), process, ready, _data: data })
    }

    /// Resident memory once it has stopped changing from one look to the next.
    fn idle_megabytes(&self) -> anyhow::Result<f64> {
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

    fn first_answer(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut apply = Command::new(&self.sluice)
            .args(["apply", "-f", "-"])
            .env("KUBECONFIG", &self.ready.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        apply.stdin.take().context("standard input is piped")?.write_all(APP.as_bytes())?;
        anyhow::ensure!(apply.wait()?.success(), "the apply failed");
        let address = self.ready.gateway.trim_start_matches("http://");
        while !answers(address) {
            anyhow::ensure!(started.elapsed() < PATIENCE, "no answer through the gateway");
            pause(Duration::from_millis(1));
        }
        Ok(started.elapsed())
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().to_string();
        anyhow::ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "cannot stop the engine");
        anyhow::ensure!(self.process.wait()?.success(), "the engine did not end well");
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark looks again after a while; it waits for no change")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn resident_kilobytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("the kernel tells no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}

/// Whether a request gets a 200 of the shop.
fn answers(address: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
