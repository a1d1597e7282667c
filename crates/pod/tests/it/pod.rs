//! A pod directory with a supervisor over it, spoken to as an agent does: in lines of JSON.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// No state takes longer to come about, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Pod {
    directory: tempfile::TempDir,
    lines: BufReader<UnixStream>,
    pub(crate) state: Value,
    calls: u64,
}

impl Pod {
    /// Starts `containers` (see [`container`]) under a supervisor and watches it.
    pub(crate) fn start(restart_policy: &str, containers: &[Value]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let fill = |container: &Value| {
            let mut container = container.clone();
            let name = container["name"].as_str().expect("a name").to_owned();
            container["terminationFile"] = json!(directory.path().join(format!("{name}.termination")));
            if let Some(ready) = container["launch"].get_mut("ready") {
                ready["dir"] = json!(directory.path());
            }
            container
        };
        let plan = json!({
            "version": 1, "namespace": "default", "name": "pod", "uid": "uid", "restartPolicy": restart_policy,
            "graceSeconds": 30, "logDir": directory.path().join("logs"),
            "containers": containers.iter().map(fill).collect::<Vec<_>>(),
        });
        fs::write(directory.path().join("plan.json"), plan.to_string()).expect("a plan");
        assert!(supervise(directory.path()).0, "the supervisor starts");
        let lines = connect(directory.path());
        Self { directory, lines, state: Value::Null, calls: 0 }.watch()
    }

    /// Speaks to the supervisor that has taken the place of the one before.
    pub(crate) fn reconnect(self) -> Self {
        let lines = connect(self.directory.path());
        Self { directory: keep(self), lines, state: Value::Null, calls: 0 }.watch()
    }

    /// Starts another supervisor, after the one before is gone.
    pub(crate) fn resume(self) -> Self {
        assert!(supervise(self.directory.path()).0, "the supervisor starts again");
        let lines = connect(self.directory.path());
        Self { directory: keep(self), lines, state: Value::Null, calls: 0 }.watch()
    }

    fn watch(mut self) -> Self {
        // A pod can be over before anybody has asked for it.
        if let Some(hello) = self.line() {
            assert_eq!(hello["message"], "hello");
            self.send(&json!({"verb": "watch"}));
        }
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn send(&mut self, request: &Value) -> u64 {
        self.calls += 1;
        let line = json!({"id": self.calls, "request": request});
        // Whoever needs an answer notices when there is nobody to give one.
        let _ = writeln!(self.lines.get_mut(), "{line}");
        self.calls
    }

    /// Sends a request and waits for its outcome.
    pub(crate) fn call(&mut self, request: &Value) -> Value {
        let id = self.send(request);
        loop {
            let line = self.line().expect("an answer");
            self.note(&line);
            if line["message"] == "reply" && line["id"] == id {
                return line["outcome"].clone();
            }
        }
    }

    /// Follows the pod until this holds.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> &Value {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.state) {
            assert!(Instant::now() < deadline, "waiting until {what}: {:#}", self.state);
            match self.line() {
                Some(line) => self.note(&line),
                None => panic!("the supervisor is gone before {what}: {:#}", self.state),
            }
        }
        &self.state
    }

    /// Follows the pod to its end, which is when the supervisor closes the connection.
    pub(crate) fn until_gone(&mut self) -> Value {
        while let Some(line) = self.line() {
            self.note(&line);
        }
        self.saved_state()
    }

    pub(crate) fn saved_state(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("state.json")).expect("a state")).expect("JSON")
    }

    /// The content of one log file, each line as `stream tag content`.
    pub(crate) fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path("logs").join(name)).unwrap_or_default();
        let lines = text.lines().map(|line| {
            let (time, rest) = line.split_once(' ').expect("a framed line");
            assert_eq!(time.len(), "2026-01-01T00:00:00.000000000Z".len(), "{line}");
            rest
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn note(&mut self, line: &Value) {
        if line["message"] == "state" {
            self.state = line["state"].clone();
        }
    }

    fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("JSON")),
        }
    }

    /// The supervisor's own process.
    pub(crate) fn supervisor(&self) -> i32 {
        self.process("sluice-pod")
    }

    pub(crate) fn keeper(&self) -> i32 {
        self.process("sluice-keeper")
    }

    fn process(&self, wanted: &str) -> i32 {
        let own: Vec<i32> = fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == self.directory.path()))
            .filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == wanted))
            .collect();
        assert_eq!(own.len(), 1, "one {wanted}: {own:?}");
        own[0]
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = writeln!(self.lines.get_mut(), "{}", json!({"id": 0, "request": {"verb": "stop", "graceSeconds": 0}}));
        while self.line().is_some() {}
    }
}

fn keep(mut pod: Pod) -> tempfile::TempDir {
    std::mem::replace(&mut pod.directory, tempfile::tempdir().expect("a directory"))
}

/// Runs `pod-supervisor`; whether it came up, and what it said.
pub(crate) fn supervise(directory: &Path) -> (bool, String) {
    let exe = std::env::current_exe().expect("our own path");
    let said = fs::File::create(directory.join("said")).expect("a file");
    let status = Command::new(exe)
        .arg("pod-supervisor")
        .arg(directory)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(said)
        .status()
        .expect("it runs");
    (status.success(), fs::read_to_string(directory.join("said")).expect("a file"))
}

fn connect(directory: &Path) -> BufReader<UnixStream> {
    // It listens as soon as it says so. But a pod can be over before anybody has asked for it, and then nobody answers.
    let stream = UnixStream::connect(directory.join("supervisor.sock"))
        .or_else(|_| UnixStream::pair().map(|(ours, _closed)| ours))
        .expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    BufReader::new(stream)
}

/// A container that runs a shell script.
pub(crate) fn container(role: &str, name: &str, script: &str) -> Value {
    let path = std::env::var("PATH").unwrap_or_default();
    json!({
        "name": name, "role": role, "image": "host",
        "launch": {"ready": {"argv": ["/bin/sh", "-c", script], "env": [["PATH", path], ["NAME", name]]}},
    })
}

/// The state of one container.
pub(crate) fn of<'a>(state: &'a Value, name: &str) -> &'a Value {
    let containers = state["containers"].as_array().map_or(&[][..], Vec::as_slice);
    containers.iter().find(|container| container["name"] == name).unwrap_or(&Value::Null)
}

pub(crate) fn runs(state: &Value, name: &str) -> bool {
    of(state, name)["condition"]["running"].is_object()
}

pub(crate) fn alive(pid: i32) -> bool {
    // A zombie is dead; only its parent has not looked yet.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// Waits until something that nobody announces has come about.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
