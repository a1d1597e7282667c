//! Processor time of a pull: one image of three layers from a registry of this machine, downloaded, verified and unpacked into
//! an empty store, beside containerd and podman. The registry's own time is not counted.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;

use super::peers::{self, cpu_seconds};
use crate::debian::finish;
use crate::engine::{PATIENCE, pause};
use crate::report::{Pair, print};

const ROUNDS: usize = 3;
const LAYERS: usize = 3;
/// Of files, before they are compressed.
const LAYER_BYTES: u64 = 60 << 20;
/// What a machine of Debian has in plenty.
const FILES: &str = "/usr/lib/x86_64-linux-gnu";
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

pub(super) fn measure(sluice: &Path) -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    let layout = place.path().join("image");
    peers::image(&layout, &layers(place.path())?)?;
    let registry = Registry::start(place.path())?;
    let image = format!("{}/bench:v1", registry.address);
    finish(
        Command::new("skopeo")
            .args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false"])
            .args([format!("oci:{}:v1", layout.display()), format!("docker://{image}")]),
    )?;
    let (mut containerd, mut podman) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let store = tempfile::tempdir()?;
        let ours = cpu_of(Command::new(sluice).args(["image", "pull", "--data"]).arg(store.path()).arg(&image))?;
        containerd.push(Pair { ours, peer: with_containerd(&image)? });
        podman.push(Pair { ours, peer: with_podman(&image)? });
    }
    registry.stop()?;
    print("pods/pull", "containerd", "cpu-s", &containerd)?;
    print("pods/pull", "podman", "cpu-s", &podman)
}

/// Files of this machine, sorted, until each layer is full.
fn layers(below: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(FILES)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.is_file() && !file.is_symlink());
    files.sort();
    let mut files = files.into_iter();
    (0..LAYERS)
        .map(|number| {
            let layer = below.join(format!("layer-{number}"));
            std::fs::create_dir_all(layer.join("lib"))?;
            let mut bytes = 0;
            for file in files.by_ref() {
                bytes += std::fs::copy(&file, layer.join("lib").join(file.file_name().context("a file has a name")?))?;
                if bytes > LAYER_BYTES {
                    break;
                }
            }
            Ok(layer)
        })
        .collect()
}

/// Seconds of processor time that a command and its children take.
fn cpu_of(command: &mut Command) -> anyhow::Result<f64> {
    let own = std::process::id();
    let before = children_seconds(own)?;
    finish(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    Ok(children_seconds(own)? - before)
}

fn children_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a name in parentheses")?.1.split_whitespace().collect();
    let ticks: u64 =
        fields.get(13..15).context("two times")?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn with_podman(image: &str) -> anyhow::Result<f64> {
    let store = tempfile::tempdir()?;
    let policy = store.path().join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
    let mut podman = Command::new("podman");
    podman.arg("--root").arg(store.path().join("root")).arg("--runroot").arg(store.path().join("run"));
    podman.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "pull", "-q", "--tls-verify=false"]);
    podman.arg("--signature-policy").arg(&policy).arg(image);
    let took = cpu_of(&mut podman);
    // Its store may be a mount.
    let _none = Command::new("umount").arg(store.path().join("root/overlay")).stderr(Stdio::null()).status();
    took
}

fn with_containerd(image: &str) -> anyhow::Result<f64> {
    let store = tempfile::tempdir()?;
    let (root, socket, config) = (store.path(), store.path().join("socket"), store.path().join("config.toml"));
    let text = format!(
        "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
        root.join("root"),
        root.join("state"),
    );
    std::fs::write(&config, text)?;
    let mut daemon = Command::new("containerd")
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run containerd")?;
    let pulled = until(|| socket.exists()).and_then(|()| {
        let before = cpu_seconds(daemon.id())?;
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(&socket).args(["images", "pull", "--plain-http", image]);
        let client = cpu_of(&mut ctr)?;
        Ok(client + cpu_seconds(daemon.id())? - before)
    });
    end(&mut daemon)?;
    pulled
}

struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    fn start(below: &Path) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let config = below.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            below.join("registry").display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        let process = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        until(|| std::net::TcpStream::connect(&address).is_ok())?;
        Ok(Self { process, address })
    }

    fn stop(mut self) -> anyhow::Result<()> {
        end(&mut self.process)
    }
}

fn end(process: &mut Child) -> anyhow::Result<()> {
    finish(Command::new("kill").arg(process.id().to_string()))?;
    process.wait()?;
    Ok(())
}

fn until(there: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !there() {
        anyhow::ensure!(Instant::now() < deadline, "a peer did not get ready");
        pause(LOOK_AGAIN);
    }
    Ok(())
}
