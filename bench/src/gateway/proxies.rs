//! The backend, and the proxies in front of it: ours, nginx, HAProxy.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::engine::{Engine, PATIENCE, on_processor, pause, resident_kilobytes};

/// What requests are addressed to.
pub(super) const HOST: &str = "bench";
const BODIES: [(&str, usize); 3] = [("0", 0), ("1k", 1 << 10), ("64k", 64 << 10)];
const BACKEND: &str = include_str!("backend.conf");
const NGINX: &str = include_str!("nginx.conf");
const HAPROXY: &str = include_str!("haproxy.cfg");

pub(super) struct Proxy {
    pub(super) name: &'static str,
    pub(super) plain: u16,
    pub(super) h2: u16,
    first: u32,
}

/// Ends when it is not needed any more, also after an error.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = Command::new("kill").arg(self.0.id().to_string()).status();
        let _gone = self.0.wait();
    }
}

pub(super) struct World {
    /// Ours first.
    pub(super) proxies: Vec<Proxy>,
    engine: Engine,
    peers: Vec<Peer>,
    place: tempfile::TempDir,
}

impl World {
    pub(super) fn start(sluice: &Path, workers: usize) -> anyhow::Result<Self> {
        let place = tempfile::tempdir()?;
        files(place.path())?;
        let processor = (workers == 1).then_some(0);
        let engine = Engine::start_on(sluice, &["--driver", "process", "--dns", "off"], processor)?;
        let backend = start_backend(&engine, place.path(), workers)?;
        let port = engine.ready.gateway.rsplit(':').next().context("the gateway has a port")?.parse()?;
        let ours = Proxy { name: "sluice", plain: port, h2: port, first: engine.pid() };
        let mut world = Self { proxies: vec![ours], engine, peers: Vec::new(), place };
        world.start_peer("nginx", NGINX, "nginx.conf", &backend, workers)?;
        world.start_peer("haproxy", HAPROXY, "haproxy.cfg", &backend, workers)?;
        world.proxies.iter().try_for_each(Proxy::until_it_answers)?;
        Ok(world)
    }

    fn start_peer(
        &mut self,
        name: &'static str,
        text: &str,
        file: &str,
        backend: &str,
        workers: usize,
    ) -> anyhow::Result<()> {
        let (plain, h2) = (free_port()?, free_port()?);
        let place = self.place.path();
        let settings = [
            ("@PLACE@", place.display().to_string()),
            ("@PLAIN@", plain.to_string()),
            ("@H2@", h2.to_string()),
            ("@BACKEND@", backend.to_owned()),
            ("@WORKERS@", workers.to_string()),
        ];
        let text = settings.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        let file = place.join(file);
        std::fs::write(&file, text)?;
        let mut command = on_processor(name, (workers == 1).then_some(0));
        match name {
            "nginx" => command.arg("-p").arg(place).arg("-c").arg(&file),
            _ => command.arg("-f").arg(&file),
        };
        let peer = command.stdout(Stdio::null()).spawn().with_context(|| format!("cannot start {name}"))?;
        self.proxies.push(Proxy { name, plain, h2, first: peer.id() });
        self.peers.push(Peer(peer));
        Ok(())
    }

    pub(super) fn stop(self) -> anyhow::Result<()> {
        drop(self.peers);
        self.engine.stop()
    }
}

impl Proxy {
    /// Its first process and those that it has started to do its work.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mut all = vec![self.first];
        // What the engine has started are pods.
        if self.name != "sluice" {
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.first))?;
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        Ok(all)
    }

    /// Time on a processor of all threads.
    pub(super) fn cpu_ns(&self) -> anyhow::Result<u64> {
        let mut total = 0;
        for process in self.processes()? {
            for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
                let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
                total += text.split(' ').next().context("a time comes first")?.parse::<u64>()?;
            }
        }
        Ok(total)
    }

    pub(super) fn resident_kilobytes(&self) -> anyhow::Result<u64> {
        self.processes()?.into_iter().map(resident_kilobytes).sum()
    }

    fn until_it_answers(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        while super::load::hold(self, 1).is_err() {
            anyhow::ensure!(started.elapsed() < PATIENCE, "{} does not answer", self.name);
            pause(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn files(place: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(place.join("files"))?;
    for (name, length) in BODIES {
        std::fs::write(place.join("files").join(name), vec![b'x'; length])?;
    }
    Ok(())
}

/// An nginx with static files, as a pod: where it listens.
fn start_backend(engine: &Engine, place: &Path, workers: usize) -> anyhow::Result<String> {
    let conf = place.join("backend.conf");
    std::fs::write(&conf, BACKEND.replace("@PLACE@", &place.display().to_string()))?;
    let pin = if workers == 1 { "taskset -c 1 " } else { "" };
    let mut script = format!("sed \"s/@ADDRESS@/$POD_IP/\" {0} > {0}.live; ", conf.display());
    write!(script, "exec {pin}nginx -p {} -c {}.live", place.display(), conf.display())?;
    let objects = [
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "backend", "labels": {"app": "backend"}},
            "spec": {"containers": [{"name": "nginx", "image": "host", "command": ["sh", "-c", script],
                "readinessProbe": {"httpGet": {"path": "/0", "port": 8080}, "periodSeconds": 1}}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend"},
            "spec": {"selector": {"app": "backend"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "web"},
            "spec": {"gatewayClassName": "sluice", "listeners": [{"name": "http", "protocol": "HTTP", "port": 80}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "backend"},
            "spec": {"parentRefs": [{"name": "web"}], "hostnames": [HOST],
                "rules": [{"backendRefs": [{"name": "backend", "port": 80}]}]}}),
    ];
    let mut apply = engine.command().args(["apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let text = objects.map(|object| object.to_string()).join("\n---\n");
    apply.stdin.take().context("standard input is piped")?.write_all(text.as_bytes())?;
    anyhow::ensure!(apply.wait()?.success(), "the apply failed");
    let started = Instant::now();
    loop {
        let output = engine.command().args(["get", "pods", "-o", "json"]).output()?;
        let pods: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let address = pods["items"][0]["status"]["podIP"].as_str().map(|address| format!("{address}:8080"));
        if let Some(address) = address.filter(|address| TcpStream::connect(address).is_ok()) {
            return Ok(address);
        }
        anyhow::ensure!(started.elapsed() < PATIENCE, "the backend does not start: {pods}");
        pause(Duration::from_millis(20));
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
