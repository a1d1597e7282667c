//! The house rules that a compiler does not check: who may use whom, and how long a file may grow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Our crates from the inside out: each may use those before it.
const ORDER: [&str; 20] = [
    "model", "stats", "compare", "cel", "schema", "release", "route", "netlink", "lend", "reach", "store", "image",
    "api", "services", "pod", "node", "gateway", "control", "engine", "sluice",
];

/// Allowed by the order, and still wrong: (crate, what it must not use, why).
const NEVER: [(&str, &str, &str); 11] = [
    ("image", "store", "images are files, not objects: they work without an engine"),
    ("api", "image", "the API knows images by name alone"),
    ("control", "image", "controllers work on a cluster too, where images are the kubelet's"),
    ("control", "gateway", "the release controller learns of gateways through the API alone"),
    ("control", "node", "controllers work on a cluster too, where there is no node of ours"),
    ("control", "api", "controllers speak to any Kubernetes API through a client"),
    ("node", "api", "the agent speaks to the API through a client"),
    ("services", "api", "services learn of the cluster through a client"),
    ("node", "services", "pods learn of services through the API alone"),
    ("gateway", "services", "the gateway learns of endpoints through the API alone"),
    ("gateway", "node", "the gateway learns of pods through the API alone"),
];

/// The pure crates: no I/O, no async, no client.
const PURE: [&str; 7] = ["model", "stats", "compare", "cel", "schema", "release", "route"];
const IMPURE: [&str; 12] = [
    "tokio",
    "tokio-util",
    "futures",
    "hyper",
    "hyper-util",
    "tower",
    "kube",
    "kube-client",
    "kube-runtime",
    "reqwest",
    "rustix",
    "rand",
];

/// What lives beside each pod, and the crates of ours that it is made of: small, and compiled for systems whose C nobody has here.
const SMALL: [&str; 3] = ["netlink", "lend", "pod"];
const BULKY: [&str; 10] =
    ["tokio", "tokio-util", "futures", "hyper", "hyper-util", "kube", "k8s-openapi", "rustls", "aws-lc-rs", "zstd"];

/// A file beyond this says in its head why it is long.
const LONG_FILE: usize = 800;
const EXCUSE: &str = "Long because:";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// The dependency names of one section of a manifest.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == format!("[{section}]") || line.ends_with(&format!(".{section}]"));
            // `[dependencies.name]` names its dependency in the header.
            if let Some(name) = line.strip_prefix(&format!("[{section}.")) {
                names.insert(name.trim_end_matches(']').to_owned());
            }
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.insert(name.trim_matches('"').to_owned());
        }
    }
    names
}

fn manifests() -> BTreeMap<String, String> {
    let crates = fs::read_dir(root().join("crates")).expect("the workspace has crates");
    crates
        .map(|entry| entry.expect("the folder is readable").path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .map(|path| {
            let name = path.file_name().expect("a crate has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path.join("Cargo.toml")).expect("the manifest is readable"))
        })
        .collect()
}

fn ours(dependency: &str) -> Option<&str> {
    dependency.strip_prefix("sluice-").or((dependency == "sluice").then_some("sluice"))
}

fn rank(name: &str) -> usize {
    ORDER.iter().position(|n| *n == name).unwrap_or_else(|| panic!("`{name}` has no place in the order of crates"))
}

#[test]
fn dependencies_point_inwards() {
    let mut wrong = Vec::new();
    for (name, manifest) in manifests() {
        for dependency in dependencies(&manifest, "dependencies").iter().filter_map(|d| ours(d)) {
            if rank(dependency) >= rank(&name) {
                wrong.push(format!("`{name}` uses `{dependency}`, which stands further out"));
            }
            for (_, _, why) in NEVER.iter().filter(|(a, b, _)| *a == name && *b == dependency) {
                wrong.push(format!("`{name}` uses `{dependency}`: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_crates_stay_pure() {
    let manifests = manifests();
    let mut wrong = Vec::new();
    for name in PURE {
        let used = dependencies(&manifests[name], "dependencies");
        wrong.extend(IMPURE.iter().filter(|i| used.contains(**i)).map(|i| format!("`{name}` uses `{i}`")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_lives_beside_each_pod_stays_small() {
    let manifests = manifests();
    let mut wrong = Vec::new();
    for name in SMALL {
        for used in dependencies(&manifests[name], "dependencies") {
            let bulky = BULKY.contains(&used.as_str()) || ours(&used).is_some_and(|ours| !SMALL.contains(&ours));
            wrong.extend(bulky.then(|| format!("`{name}` uses `{used}`")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_crates_never_ask_for_the_time() {
    let mut wrong = Vec::new();
    for name in PURE {
        for path in sources(&root().join("crates").join(name).join("src")) {
            for (n, line) in read(&path).lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                if ["Timestamp::now", "SystemTime::now", "Instant::now", "Zoned::now"].iter().any(|c| code.contains(c))
                {
                    wrong.push(format!("{}:{}: time comes in as an argument", path.display(), n + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_release_controller_knows_of_no_single_mode() {
    let mut wrong = Vec::new();
    for path in sources(&root().join("crates/control/src/release")) {
        for (n, line) in read(&path).lines().enumerate() {
            if line.contains("crate::workload") || line.contains("attach::embedded") || line.contains("attach::cluster")
            {
                wrong.push(format!("{}:{}: {}", path.display(), n + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn long_files_say_why() {
    let mut wrong = Vec::new();
    for folder in ["crates", "bench", "xtask"] {
        for path in sources(&root().join(folder)) {
            let text = read(&path);
            let lines = text.lines().count();
            let excused = text.lines().take(30).any(|line| line.contains(EXCUSE));
            if lines > LONG_FILE && !excused {
                wrong.push(format!("{}: {lines} lines; split it, or say `{EXCUSE} ...` in its head", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sources_start_by_saying_what_they_are_for() {
    let silent: Vec<String> = ["crates", "bench", "xtask"]
        .iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"))
        .filter(|path| !path.ends_with("tests.rs"))
        .filter(|path| !read(path).trim_start().starts_with("//"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "without a first line of documentation:\n{}", silent.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("the folder is readable").path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

#[test]
fn the_manifest_reader_sees_every_form() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = \"1\"\n# c = \"1\"\n[dependencies.d]\nversion = \"1\"\n[dev-dependencies]\ne = \"1\"\n";
    let names: Vec<String> = dependencies(manifest, "dependencies").into_iter().collect();
    assert_eq!(names, ["a", "b", "d"]);
    assert_eq!(dependencies(manifest, "dev-dependencies").into_iter().collect::<Vec<_>>(), ["e"]);
}
