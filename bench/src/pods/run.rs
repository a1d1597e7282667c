//! A container's start and a command in it, beside crun and runc with the same files and limits.
//!
//! **Start.** Ours: the containers of one pod that start one after the other, from the moment at which the supervisor knows that
//! one has ended, and so that the next one is to start, to the moment at which the next one writes the time. Between them lie
//! the end's record on disk, an overlay of its own, namespaces, limits, the filter of system calls and the program's start.
//! Theirs: from before `crun run` of a finished bundle is spawned to the moment at which its program writes the time; a network
//! namespace without a cable, no overlay, no filter. Before each start there is a pause on both sides, for containers start
//! alone.
//!
//! **Train.** The same without pauses, where each start finds the kernel as the one before has left it: what has to wait until
//! all processors have seen a change waits less then.
//!
//! **Round.** From one container's time to the next one's in such a train, so that the end and the tidying up count on both
//! sides.
//!
//! **Command.** Ours: an exec probe as the agent asks a supervisor for it, from the request to the exit code. Theirs: from
//! before `crun exec` is spawned to its end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::peers::{self, LIMITS, Rootfs, cpu_seconds};
use super::timer::Timer;
use crate::debian::finish;
use crate::engine::Engine;
use crate::report::{Pair, print};

const PEERS: [&str; 2] = ["crun", "runc"];
const ROUNDS: usize = 8;
/// Starts in each round, on each side.
const STARTS: usize = 5;
const COMMANDS: usize = 10;
/// Seconds before a container that starts alone.
const PAUSE: &str = "0.2";
const IMAGE: &str = "bench.local/date:v1";

pub(super) async fn measure(sluice: &Path) -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let files = Rootfs::make(place.path())?;
    let layout = place.path().join("image");
    peers::image(&layout, std::slice::from_ref(&files.root))?;
    let engine = Engine::start_with(sluice, &["--driver", "container"])?;
    let load = ["image", "load", "-o", "json", "--name", IMAGE, "--data"];
    finish(Command::new(sluice).args(load).arg(engine.data()).arg(&layout).stdout(std::process::Stdio::null()))?;
    let mut timer = Timer::start()?;
    let cluster = Cluster::of(&engine).await?;
    starts(&engine, &cluster, &files, &mut timer, place.path()).await?;
    commands(&engine, &cluster, &files, &mut timer, place.path()).await?;
    timer.stop()?;
    engine.stop()
}

async fn starts(
    engine: &Engine,
    cluster: &Cluster,
    files: &Rootfs,
    timer: &mut Timer,
    place: &Path,
) -> anyhow::Result<()> {
    let bundle = files.bundle(&place.join("start"), &["/bin/date", "+%s%N"])?;
    for pace in [Pace::Alone, Pace::Train] {
        let (mut first, mut whole) = (PEERS.map(|_| Vec::new()), PEERS.map(|_| Vec::new()));
        for round in 0..=ROUNDS {
            let ours = one_after_the_other(engine, cluster, &format!("{}-{round}", pace.name()), pace).await?;
            for (number, peer) in PEERS.iter().enumerate() {
                let theirs = timer_rounds(timer, &bundle, peer, pace)?;
                if round > 0 {
                    // The first one warms up.
                    let pairs = ours.iter().zip(&theirs);
                    let starts = pairs.clone().map(|(ours, theirs)| Pair { ours: ours.start, peer: theirs.start });
                    first[number].extend(starts);
                    whole[number].extend(pairs.map(|(ours, theirs)| Pair { ours: ours.whole, peer: theirs.whole }));
                }
            }
        }
        for (number, peer) in PEERS.iter().enumerate() {
            print(&format!("pods/{}", pace.name()), peer, "ms", &first[number])?;
            if pace == Pace::Train {
                print("pods/round", peer, "ms", &whole[number])?;
            }
        }
    }
    Ok(())
}

/// How containers follow each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    Alone,
    Train,
}

impl Pace {
    fn name(self) -> &'static str {
        match self {
            Self::Alone => "start",
            Self::Train => "train",
        }
    }
}

/// Milliseconds of one container.
struct Took {
    /// From the wish to the first byte.
    start: f64,
    /// From the first byte of the one before.
    whole: f64,
}

fn milliseconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e6
}

fn timer_rounds(timer: &mut Timer, bundle: &Path, peer: &str, pace: Pace) -> anyhow::Result<Vec<Took>> {
    let mut before: Option<u64> = None;
    let mut took = Vec::new();
    for _ in 0..=STARTS {
        if pace == Pace::Alone {
            timer.run(bundle, &["sleep", PAUSE])?;
        }
        let run = timer.run(bundle, &[peer, "run", "bench-start"])?;
        let first_ns = nanoseconds(&run.stdout)?;
        if let Some(before) = before {
            took.push(Took { start: milliseconds(run.started_ns, first_ns), whole: milliseconds(before, first_ns) });
        }
        before = Some(first_ns);
    }
    Ok(took)
}

async fn one_after_the_other(engine: &Engine, cluster: &Cluster, name: &str, pace: Pace) -> anyhow::Result<Vec<Took>> {
    // Those that measure, and before each of them what it waits for.
    let mut containers: Vec<Value> = Vec::new();
    for number in 0..=STARTS {
        if pace == Pace::Alone {
            containers.push(container(&format!("pause{number}"), &["/bin/sleep", PAUSE]));
        }
        containers.push(container(&format!("c{number}"), &["/bin/date", "+%s%N"]));
    }
    let last = containers.pop().context("there is a last one")?;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "initContainers": containers, "containers": [last]}});
    let uid = cluster.until_ended(name, pod).await?;
    let logs = engine.data().join(format!("logs/default_{name}_{uid}"));
    let first = (0..=STARTS).map(|number| {
        let log = std::fs::read_to_string(logs.join(format!("c{number}/0.log")))?;
        nanoseconds(log.split_whitespace().last().unwrap_or_default())
    });
    let first: Vec<u64> = first.collect::<anyhow::Result<_>>()?;
    let ends = std::fs::read_to_string(engine.data().join("pods").join(&uid).join("exits.jsonl"))?;
    let ends: Vec<u64> = ends.lines().map(end_ns).collect::<anyhow::Result<_>>()?;
    cluster.remove(name).await?;
    // The end before each start but the first one's.
    let step = if pace == Pace::Alone { 2 } else { 1 };
    let ends = ends.into_iter().skip(step * 2 - 2).step_by(step);
    let starts = first.windows(2).zip(ends);
    Ok(starts
        .map(|(pair, end)| Took { start: milliseconds(end, pair[1]), whole: milliseconds(pair[0], pair[1]) })
        .collect())
}

/// When the supervisor took note of an end.
fn end_ns(record: &str) -> anyhow::Result<u64> {
    let record: Value = serde_json::from_str(record)?;
    let text = record["finishedAt"].as_str().context("an end has a time")?;
    let time: k8s_openapi::jiff::Timestamp = text.parse()?;
    Ok(u64::try_from(time.as_nanosecond())?)
}

fn container(name: &str, command: &[&str]) -> Value {
    let (memory, milli_cpu) = LIMITS;
    json!({"name": name, "image": IMAGE, "command": command,
        "resources": {"limits": {"memory": memory.to_string(), "cpu": format!("{milli_cpu}m")}}})
}

fn nanoseconds(text: &str) -> anyhow::Result<u64> {
    text.trim().parse().with_context(|| format!("`{text}` is no time"))
}

async fn commands(
    engine: &Engine,
    cluster: &Cluster,
    files: &Rootfs,
    timer: &mut Timer,
    place: &Path,
) -> anyhow::Result<()> {
    let sleeper = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probed"},
        "spec": {"containers": [container("c0", &["/bin/sleep", "infinity"])]}});
    cluster.until_ready("probed", sleeper).await?;
    let mut probe = Probe::open(&engine.data().join("pods").join(cluster.uid("probed").await?))?;
    let bundle = files.bundle(&place.join("exec"), &["/bin/sleep", "infinity"])?;
    for peer in PEERS {
        // A container in the background keeps the pipe of whoever started it.
        timer.run(&bundle, &["sh", "-c", &format!("{peer} run --detach bench-exec >/dev/null 2>&1")])?;
        let (mut wall, mut cpu) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let before = (probe.cpu_seconds()?, timer.cpu_seconds()?);
            for _ in 0..COMMANDS {
                let ours = probe.run()?;
                let run = timer.run(&bundle, &[peer, "exec", "bench-exec", "/bin/true"])?;
                wall.push(Pair { ours, peer: (run.ended_ns - run.started_ns) as f64 / 1e6 });
            }
            let each = |before: f64, after: f64| (after - before) * 1000.0 / COMMANDS as f64;
            cpu.push(Pair { ours: each(before.0, probe.cpu_seconds()?), peer: each(before.1, timer.cpu_seconds()?) });
            if round == 0 {
                wall.clear();
                cpu.clear();
            }
        }
        timer.run(&bundle, &[peer, "delete", "--force", "bench-exec"])?;
        print("pods/exec", peer, "ms", &wall)?;
        print("pods/exec/cpu", peer, "cpu-ms", &cpu)?;
    }
    cluster.remove("probed").await
}

/// The agent's place at a supervisor's socket.
struct Probe {
    stream: BufReader<UnixStream>,
    supervisor: u32,
}

impl Probe {
    fn open(pod: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(pod.join("supervisor.sock"))?;
        let mut probe = Self { stream: BufReader::new(stream), supervisor: 0 };
        let hello = probe.read()?;
        probe.supervisor = hello["pid"].as_u64().context("a supervisor says who it is")? as u32;
        Ok(probe)
    }

    /// How long one command takes, in milliseconds.
    fn run(&mut self) -> anyhow::Result<f64> {
        let request = json!({"verb": "exec", "container": "c0", "command": ["/bin/true"], "timeoutMs": 10_000});
        let started = Instant::now();
        writeln!(self.stream.get_mut(), "{}", json!({"id": 1, "request": request}))?;
        let answer = self.read()?;
        let took = started.elapsed();
        anyhow::ensure!(answer["outcome"]["exec"]["exited"]["code"] == 0, "the command failed: {answer}");
        Ok(took.as_secs_f64() * 1000.0)
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.supervisor)
    }
}
