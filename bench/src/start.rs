//! How long until the engine is ready, how much memory it takes at rest, and how long from an apply to the first answer.
//!
//! The binary is used as a user does: `sluice up`, `sluice apply`, a request to the gateway. The peer is the design's goal.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::engine::{Engine, PATIENCE, built, pause};
use crate::report::{GOAL, Pair, print};

const ROUNDS: usize = 5;
const READY_MS: f64 = 150.0;
const IDLE_MB: f64 = 60.0;
const FIRST_ANSWER_MS: f64 = 400.0;

/// One process pod behind a route: the least that can answer.
const APP: &str = include_str!("start.yaml");

pub(crate) fn run() -> anyhow::Result<()> {
    let sluice = built()?;
    let (mut ready, mut memory, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let engine = Engine::start(&sluice)?;
        ready.push(Pair { ours: engine.ready.ready_ms, peer: READY_MS });
        memory.push(Pair { ours: engine.idle_megabytes()?, peer: IDLE_MB });
        first.push(Pair { ours: first_answer(&engine)?.as_secs_f64() * 1000.0, peer: FIRST_ANSWER_MS });
        engine.stop()?;
    }
    print("ready after start, empty data", GOAL, "ms", &ready)?;
    print("resident memory of the idle engine", GOAL, "MB", &memory)?;
    print("apply to first answer through the gateway", GOAL, "ms", &first)
}

/// From the apply until a request through the gateway is answered.
fn first_answer(engine: &Engine) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut apply = Command::new(&engine.sluice)
        .args(["apply", "-f", "-"])
        .env("KUBECONFIG", &engine.ready.kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    apply.stdin.take().context("standard input is piped")?.write_all(APP.as_bytes())?;
    anyhow::ensure!(apply.wait()?.success(), "the apply failed");
    let address = engine.ready.gateway.trim_start_matches("http://");
    while !answers(address) {
        anyhow::ensure!(started.elapsed() < PATIENCE, "no answer through the gateway");
        pause(Duration::from_millis(1));
    }
    Ok(started.elapsed())
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
