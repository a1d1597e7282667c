//! The peers, and what they and we are given: one root file system, one image, the same limits.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::debian::{self, finish};

/// Programs, and the packages of Debian that they come with.
const PROGRAMS: [(&str, &str); 9] = [
    ("crun", "crun"),
    ("runc", "runc"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("podman", "podman"),
    ("docker-registry", "docker-registry"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("unshare", "util-linux"),
];

pub(super) fn install() -> anyhow::Result<()> {
    debian::install(&PROGRAMS)
}

/// Processor time of a process and of the children that it has waited for.
pub(super) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("a name in parentheses")?.1.split_whitespace().collect();
    let ticks: u64 =
        fields.get(11..15).context("four times")?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// What every container of the comparison may use, as the OCI specification and as a manifest have it.
pub(super) const LIMITS: (i64, i64) = (256 << 20, 500);
const PIDS: i64 = 4096;

/// The few programs that the containers run, with their libraries.
pub(super) struct Rootfs {
    pub(super) root: PathBuf,
}

impl Rootfs {
    pub(super) fn make(below: &Path) -> anyhow::Result<Self> {
        let root = below.join("rootfs");
        for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(root.join(directory))?;
        }
        for program in ["/bin/date", "/bin/sleep", "/bin/true"] {
            copy(program, &root)?;
            let libraries = Command::new("ldd").arg(program).output()?.stdout;
            for word in String::from_utf8_lossy(&libraries).split_whitespace().filter(|word| word.starts_with('/')) {
                copy(word, &root)?;
            }
        }
        Ok(Self { root })
    }

    /// A bundle for runc and crun, which share its form.
    pub(super) fn bundle(&self, at: &Path, argv: &[&str]) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(at)?;
        finish(Command::new("runc").arg("spec").current_dir(at))?;
        let file = at.join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
        config["root"] = json!({"path": self.root, "readonly": false});
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(argv);
        let (memory, milli_cpu) = LIMITS;
        config["linux"]["resources"]["memory"] = json!({"limit": memory});
        config["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": milli_cpu * 100, "period": 100_000});
        config["linux"]["resources"]["pids"] = json!({"limit": PIDS});
        std::fs::write(&file, serde_json::to_vec(&config)?)?;
        Ok(at.to_owned())
    }
}

fn copy(file: &str, root: &Path) -> anyhow::Result<()> {
    let to = root.join(file.trim_start_matches('/'));
    std::fs::create_dir_all(to.parent().context("a file lies somewhere")?)?;
    std::fs::copy(file, to)?;
    Ok(())
}

/// An image layout whose layers are these directories.
pub(super) fn image(layout: &Path, layers: &[PathBuf]) -> anyhow::Result<()> {
    let tagged = format!("{}:v1", layout.display());
    finish(Command::new("umoci").args(["init", "--layout"]).arg(layout))?;
    finish(Command::new("umoci").args(["new", "--image", &tagged]))?;
    for layer in layers {
        finish(Command::new("umoci").args(["insert", "--image", &tagged]).arg(layer).arg("/"))?;
    }
    Ok(())
}
